/**
 * Films of the lesson on their way to the server, while they are made.
 *
 * A film grows on the server by a resumable upload whose length is said at the end (tus 1.0.0, creation-defer-length), in
 * a request of its own: whatever breaks off, what has come is a film. What a page that is gone has left open is ended by
 * the next page of this browser that records the same lesson, else by the server some minutes later.
 */

import { ServerError } from "./api.js";
import { newId } from "./peers.js";
import { keep, kept } from "./storage.js";

const MOST_BYTES = 8 * 1024 * 1024; // of one request
const FIRST_WAIT_MS = 1_000;
const MOST_WAIT_MS = 15_000; //        less than the server waits for a page before another one may record
const ANSWER_MS = 60_000;
const PASSING = new Set([401, 408, 423, 425, 429]); // of the refusals: the same may succeed later
const PAGE = newId();

const encoded = (text) => btoa(String.fromCodePoint(...new TextEncoder().encode(text)));
const metadata = (about) => Object.entries(about).map(([name, value]) => `${name} ${encoded(value)}`).join(",");

/** Trying again brings the same. */
const isFinal = ({ status, code }) => status >= 400 && status < 500 && !PASSING.has(status) && code !== "offset_mismatch";

const later = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

async function tus(token, method, path, headers = {}, body = undefined) {
  let response;
  try {
    response = await fetch(path, {
      method, body, signal: AbortSignal.timeout(ANSWER_MS),
      headers: { Authorization: `Bearer ${token()}`, "Tus-Resumable": "1.0.0", ...headers },
    });
  } catch {
    throw new ServerError({ error: "no_answer", message: "The server cannot be reached." });
  }
  if (response.ok) return response;
  throw new ServerError({
    status_code: response.status, message: `The server answered ${response.status}.`,
    retry_after: Number(response.headers.get("Retry-After")) || 0, ...(await response.json().catch(() => ({}))),
  });
}

const offsetIn = (response) => Number(response.headers.get("Upload-Offset"));
const append = (token, path, offset, body, more = {}) =>
  tus(token, "PATCH", path, { "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream", ...more }, body);
const conclude = (token, path, offset) =>
  (offset === 0 ? tus(token, "DELETE", path) : append(token, path, offset, undefined, { "Upload-Length": String(offset) }));

async function trying(act, wait) {
  for (let pause = FIRST_WAIT_MS; ; pause = Math.min(MOST_WAIT_MS, pause * 2)) {
    try {
      return await act();
    } catch (error) {
      if (isFinal(error)) throw error;
      await wait(error.retryAfterMs || pause);
    }
  }
}

const KEY = "encounters.recording";

/** The uploads that pages of this browser have begun and not ended: path → {userId, ref}. */
const open = {
  all: () => kept("localStorage", KEY) ?? {},
  save: (all) => keep("localStorage", KEY, all),
  add: (path, about) => open.save({ ...open.all(), [path]: about }),
  remove(path) {
    const { [path]: _, ...others } = open.all();
    open.save(others);
  },
};

const locks = globalThis.navigator?.locks; // not where the page is not in a secure context

/** Says to this browser's other pages that this one lives and does something. @returns {Promise<() => void>} to let go */
export function hold(name) {
  if (!locks) return Promise.resolve(() => {});
  return new Promise((held) => {
    locks.request(`${KEY} ${name}`, { mode: "shared" }, () => new Promise((letGo) => { held(letGo); }));
  });
}

/** Whether a page of this browser holds that. */
export const isHeld = async (name) => Boolean((await locks?.query())?.held.some((lock) => lock.name === `${KEY} ${name}`));

/** Ends what pages that are gone have left open of a lesson, with what has come of it. */
export async function endWhatWasLeft({ token, userId, ref }) {
  for (const [path, about] of Object.entries(open.all())) {
    if (about.userId !== userId || about.ref !== ref || !locks) continue;
    await locks.request(`${KEY} ${path}`, { ifAvailable: true }, async (lock) => {
      if (!lock) return; // its page sends it
      try {
        await conclude(token, path, offsetIn(await tus(token, "HEAD", path)));
      } catch (error) {
        if (!isFinal(error)) return; // the next page tries again
      }
      open.remove(path);
    });
  }
}

/** The most bytes that a film may have. */
export async function mostBytes(token) {
  const answer = await tus(token, "OPTIONS", "/uploads").catch(() => null);
  return Number(answer?.headers.get("Tus-Max-Size")) || Infinity;
}

/**
 * Announces a film. Rejects with what the server refuses; `recorded_elsewhere`: another page makes it.
 *
 * @param {{token: () => string, about: Object<string, string>}} film
 * @returns {Promise<string>} the path of its upload
 */
export async function announceFilm({ token, about, wait = later }) {
  const headers = { "Upload-Defer-Length": "1", "Upload-Metadata": metadata({ kind: "recording", page: PAGE, ...about }) };
  const answer = await trying(() => tus(token, "POST", "/uploads", headers), wait);
  return new URL(answer.headers.get("Location"), location.href).pathname;
}

/**
 * Sends what is added to a film, in order, and waits while the server cannot be reached.
 *
 * @param {{token: () => string, path: string, owner: {userId: string, ref: string}}} film
 * @returns {{add: (piece: Blob) => void, end: () => void, done: Promise<void>, left: () => number, sent: () => number}}
 *   `done` rejects with what the server refuses for good; `left` are the bytes that it has not confirmed
 */
export function openSender({ token, path, owner, wait = later }) {
  let pieces = []; //   that the server has not confirmed yet
  let offset = 0;
  let known = true; //  how far it has come: not after a request that failed
  let ended = false;
  let wake = () => {};

  const size = () => pieces.reduce((bytes, piece) => bytes + piece.size, 0);

  /** What is to be sent is there, or nothing more will be. */
  async function ready() {
    while (size() === 0 && !ended) await new Promise((resolve) => { wake = resolve; });
  }

  function confirm(now) {
    pieces = [new Blob(pieces).slice(now - offset)].filter((piece) => piece.size);
    offset = now;
  }

  /** @returns {Promise<boolean>} whether that was the end */
  async function sendNext() {
    if (!known) {
      const answer = await tus(token, "HEAD", path);
      confirm(offsetIn(answer));
      known = true;
      if (answer.headers.has("Upload-Length")) {
        if (ended && size() === 0) return true;
        throw new ServerError({ status_code: 410, error: "film_ended", message: "The server took it for ended: nothing had come for too long." });
      }
    }
    const body = new Blob(pieces).slice(0, MOST_BYTES);
    if (body.size === 0 && !ended) return false; // all had come, unheard
    known = false;
    if (body.size === 0) {
      await conclude(token, path, offset);
      return true;
    }
    const wanted = offset + body.size;
    confirm(offsetIn(await append(token, path, offset, body)));
    known = offset === wanted;
    return false;
  }

  async function run() {
    const letGo = await hold(path);
    open.add(path, owner);
    try {
      for (let whole = false; !whole;) {
        await ready();
        whole = await trying(sendNext, wait);
      }
    } finally {
      open.remove(path);
      letGo();
    }
  }

  return {
    add(piece) {
      if (piece.size) pieces.push(piece);
      wake();
    },
    end() {
      ended = true;
      wake();
    },
    done: run(), left: size, sent: () => offset,
  };
}
