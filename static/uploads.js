/**
 * Sending a file in pieces, so that it goes on where it stopped, even after the page was closed: tus 1.0.0
 * (https://tus.io/protocols/resumable-upload).
 */

import { ServerError } from "./api.js";

/** Two of the parts in which a bucket has it: smaller pieces would be put down and fetched again on the way. */
const PIECE_BYTES = 16 * 1024 * 1024;
/** The server judges a file by its beginning. What it says to that is heard where it has read all that was sent. */
const FIRST_PIECE_BYTES = 64 * 1024;
/** A request of which nothing moves is broken off: after a sleep, or in another network, no system tells of it soon. */
const STILL_MS = 60_000;
/** The same once all of a request was sent: the server may have a large file to put together. */
const ANSWER_MS = 300_000;
const FIRST_WAIT_MS = 1_000;
const MOST_WAIT_MS = 15_000;
/** Tries in a row that brought nothing before it is left to the person. */
const TRIES = 8;

const GONE = new Set([403, 404, 410]);
/** What comes right by asking how far the upload has come: another try of ours got further. */
const FURTHER = new Set(["offset_mismatch", "upload_finished"]);

/** Whether an upload may yet go on after this: a proxy's 502 or 504, too, says nothing of it. 423: another try holds it. */
const mayGoOn = ({ passing, status, code }) => passing || status >= 500 || status === 408 || status === 423 || FURTHER.has(code);

/** Whether the server has said, in its own words, that there is nothing to go on with. */
export const isOver = (error) => !mayGoOn(error) && error.status !== 401 && error.code !== "unknown";

/** Base64 of UTF-8, as `Upload-Metadata` has its values. */
export const encoded = (text) => btoa(String.fromCodePoint(...new TextEncoder().encode(text)));

/** `{kind: "recording", …}` as the header; what is empty is left out. */
export const metadata = (about) =>
  Object.entries(about).filter(([, value]) => value).map(([name, value]) => `${name} ${encoded(value)}`).join(",");

/** Pieces end where parts do, wherever they begin. */
const endOfPiece = (from) => (from === 0 ? FIRST_PIECE_BYTES : (Math.floor(from / PIECE_BYTES) + 1) * PIECE_BYTES);

const unreachable = () => new ServerError({ error: "no_answer", message: "The server cannot be reached." });

function answerOf(request) {
  let document = {};
  try {
    document = JSON.parse(request.responseText) ?? {};
  } catch {} // a proxy's page
  return new ServerError({
    status_code: request.status, message: `The server answered ${request.status}.`,
    retry_after: Number(request.getResponseHeader("Retry-After")) || 0, ...document,
  });
}

/** An XMLHttpRequest, because `fetch` does not tell how much of a body is sent. Resolves with its `header(name)`. */
function ask(token, method, path, { headers = {}, body = null, signal = null, moved = () => {} } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let timer = 0;
    const breakOff = () => request.abort();
    const waitAtMost = (ms) => { clearTimeout(timer); timer = setTimeout(breakOff, ms); };
    request.open(method, path);
    for (const [name, value] of Object.entries({ Authorization: `Bearer ${token()}`, "Tus-Resumable": "1.0.0", ...headers })) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = ({ loaded }) => { waitAtMost(STILL_MS); moved(loaded); };
    request.upload.onload = () => waitAtMost(ANSWER_MS);
    request.onloadend = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", breakOff);
      if (signal?.aborted) reject(signal.reason);
      else if (request.status === 0) reject(unreachable());
      else if (request.status >= 300) reject(answerOf(request));
      else resolve((name) => request.getResponseHeader(name));
    };
    signal?.addEventListener("abort", breakOff);
    waitAtMost(STILL_MS);
    request.send(body);
    if (signal?.aborted) breakOff();
  });
}

const pause = (ms, signal) => new Promise((resolve, reject) => {
  const stop = () => { clearTimeout(timer); reject(signal.reason); };
  const timer = setTimeout(() => { signal.removeEventListener("abort", stop); resolve(); }, ms);
  signal.addEventListener("abort", stop, { once: true });
});

/** How far an upload has come. An answer to HEAD has no words: why there is none is asked for. */
async function offsetOf(token, path, signal) {
  try {
    return Number((await ask(token, "HEAD", path, { signal }))("Upload-Offset"));
  } catch (error) {
    if (signal.aborted || mayGoOn(error) || error.status === 401) throw error;
    await ask(token, "GET", path, { signal });
    throw error;
  }
}

/**
 * Sends a file to its end. Breaks in the connection are waited for. Rejects with the server's refusal (see `isOver`), or
 * with the last of many breaks.
 *
 * @param {File} file
 * @param {{token: () => string, path: ?string, about: Object<string, ?string>, begun: (path: string) => void,
 *          progress: (sent: number) => void, signal: AbortSignal}} way `path` is that of an upload to go on with;
 *        `begun` hears of one that was begun anew. Aborted, it rejects with the signal's reason and leaves what came.
 */
export async function sendFile(file, { token, path, about, begun, progress, signal }) {
  let offset = null; //   unknown
  let isKnown = false; // the upload was there in this run: its end is the end, and no reason to begin another
  let failures = 0;
  for (;;) {
    try {
      if (offset === null && path) {
        offset = await offsetOf(token, path, signal).catch((error) => {
          if (isKnown || signal.aborted || !GONE.has(error.status)) throw error;
          path = null;
          return null;
        });
        isKnown = path !== null;
      }
      if (offset === null) {
        const headers = { "Upload-Length": String(file.size), "Upload-Metadata": metadata(about) };
        path = new URL((await ask(token, "POST", "/uploads", { headers, signal }))("Location"), location.href).pathname;
        offset = 0;
        isKnown = true;
        begun(path);
      }
      progress(offset);
      if (offset >= file.size) return;
      const from = offset;
      const header = await ask(token, "PATCH", path, {
        headers: { "Upload-Offset": String(from), "Content-Type": "application/offset+octet-stream" },
        body: file.slice(from, endOfPiece(from)), signal,
        moved: (bytes) => progress(from + bytes),
      });
      offset = Number(header("Upload-Offset"));
      failures = 0;
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      failures += 1;
      if (failures === TRIES || !mayGoOn(error)) throw error;
      offset = null;
      await pause(error.retryAfterMs || Math.min(MOST_WAIT_MS, FIRST_WAIT_MS * 2 ** (failures - 1)), signal);
    }
  }
}

/** Has the server forget an upload. */
export const giveUp = (token, path) => ask(token, "DELETE", path).catch(() => {});
