/** Sending a file that was chosen, in pieces, so that it goes on where it stopped, even after the page was closed. */

import { announce, append, isOver, mayGoOn, standOf, trying } from "./tus.js";

/** Two of the parts in which a bucket has it: smaller pieces would be put down and fetched again on the way. */
const PIECE_BYTES = 16 * 1024 * 1024;
/** The server judges a file by its beginning. What it says to that is heard where it has read all that was sent. */
const FIRST_PIECE_BYTES = 64 * 1024;
/** For an answer once a piece was sent: the server may have a large file to put together. */
const ANSWER_MS = 300_000;
/** Tries in a row, none of which got to the end of its piece, before it is left to the person. */
const TRIES = 8;

const GONE = new Set([403, 404, 410]);
const isGone = (error) => GONE.has(error.status) && isOver(error);

/** An access that has ended is left to the person at once: their page knows no other. */
const goesOn = (error) => mayGoOn(error) && error.status !== 401;

/** Pieces end where parts do, wherever they begin. */
const endOfPiece = (from) => (from === 0 ? FIRST_PIECE_BYTES : (Math.floor(from / PIECE_BYTES) + 1) * PIECE_BYTES);

/**
 * Sends a file to its end. Breaks in the connection are waited for. Rejects with the server's refusal (see `isOver` in
 * tus.js), or with the last of many breaks.
 *
 * @param {File} file
 * @param {{token: () => string, path: ?string, about: Object<string, ?string>, begun: (path: string) => void,
 *          progress: (sent: number) => void, signal: AbortSignal}} way `path` is that of an upload to go on with;
 *        `begun` hears of one that was begun anew. Aborted, it rejects with the signal's reason and leaves what came.
 */
export async function sendFile(file, { token, path, about, begun, progress, signal }) {
  let offset = null; //   unknown
  let isKnown = false; // the upload was there in this run: its end is the end, and no reason to begin another

  async function ask() {
    try {
      ({ offset } = await standOf(token, path, signal));
      isKnown = true;
    } catch (error) {
      if (isKnown || signal.aborted || !isGone(error)) throw error;
      path = null;
    }
  }

  /** @returns {Promise<boolean>} whether there is nothing more to send */
  async function sendNext() {
    if (offset === null && path) await ask();
    if (offset === null) {
      path = await announce(token, { about, length: file.size, signal });
      offset = 0;
      isKnown = true;
      begun(path);
    }
    progress(offset);
    if (offset >= file.size) return true;
    const from = offset;
    offset = null;
    offset = await append(token, path, from, file.slice(from, endOfPiece(from)), {
      signal, answerMs: ANSWER_MS, moved: (bytes) => progress(from + bytes),
    });
    return false;
  }

  for (let whole = false; !whole;) whole = await trying(sendNext, { goesOn, tries: TRIES, signal });
}
