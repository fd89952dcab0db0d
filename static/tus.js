/**
 * Resumable uploads as this server takes them: tus 1.0.0 (https://tus.io/protocols/resumable-upload), with a length that
 * may be said at the end (creation-defer-length). What is sent, and from where, is the business of films.js and uploads.js.
 */

import { ServerError } from "./api.js";
import { later } from "./later.js";

/** A request of which nothing moves is broken off: after a sleep, or in another network, no system tells of it soon. */
const STILL_MS = 60_000;
const FIRST_WAIT_MS = 1_000;
/** Less than the server waits for a page that makes a film before another one may. */
const MOST_WAIT_MS = 15_000;

/** Refusals after which the same may succeed: with a new token, later, or once another try of ours has let go (423). */
const PASSING = new Set([401, 408, 423, 425, 429]);
/** What comes right by asking how far the upload has come: another try of ours got further. */
const FURTHER = new Set(["offset_mismatch", "upload_finished"]);

/** Whether an upload may yet go on after this: a proxy's 502 or 504, too, says nothing of it. */
export const mayGoOn = ({ status, code }) => status === 0 || status >= 500 || PASSING.has(status) || FURTHER.has(code);

/** Whether the server has said, in its own words, that there is nothing to go on with. What a proxy says is no such word. */
export const isOver = (error) => !mayGoOn(error) && error.code !== "unknown";

/** Base64 of UTF-8, as `Upload-Metadata` has its values. */
const encoded = (text) => btoa(String.fromCodePoint(...new TextEncoder().encode(text)));

/** `{kind: "recording", …}` as the header; what is empty is left out. */
export const metadata = (about) =>
  Object.entries(about).filter(([, value]) => value).map(([name, value]) => `${name} ${encoded(value)}`).join(",");

function answerOf(request) {
  let document = {};
  try {
    document = JSON.parse(request.responseText) ?? {};
  } catch {} // a proxy's page
  return ServerError.of(request.status, request.getResponseHeader("Retry-After"), document);
}

/**
 * An XMLHttpRequest, because `fetch` does not tell how much of a body is sent. Resolves with its `header(name)`.
 *
 * @param {{headers?: object, body?: ?Blob, signal?: ?AbortSignal, moved?: (bytes: number) => void, answerMs?: number}} how
 *   `answerMs`: how long its answer may take once all of it was sent
 */
function ask(token, method, path, { headers = {}, body = null, signal = null, moved = () => {}, answerMs = STILL_MS } = {}) {
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
    request.upload.onload = () => waitAtMost(answerMs);
    request.onloadend = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", breakOff);
      if (signal?.aborted) reject(signal.reason);
      else if (request.status === 0) reject(ServerError.unreachable());
      else if (request.status >= 300) reject(answerOf(request));
      else resolve((name) => request.getResponseHeader(name));
    };
    signal?.addEventListener("abort", breakOff);
    waitAtMost(STILL_MS);
    request.send(body);
    if (signal?.aborted) breakOff();
  });
}

/** What a header says. An answer without it is not the server's, and says nothing of the upload. */
function said(header, name) {
  const value = header(name);
  if (value === null) throw ServerError.unreachable();
  return value;
}

const offsetIn = (header) => Number(said(header, "Upload-Offset"));

/**
 * Announces a file.
 *
 * @param {{about: Object<string, ?string>, length?: ?number, signal?: ?AbortSignal}} file `length` null: its end will tell
 * @returns {Promise<string>} the path of its upload
 */
export async function announce(token, { about, length = null, signal = null }) {
  const size = length === null ? { "Upload-Defer-Length": "1" } : { "Upload-Length": String(length) };
  const header = await ask(token, "POST", "/uploads", { headers: { ...size, "Upload-Metadata": metadata(about) }, signal });
  return new URL(said(header, "Location"), location.href).pathname;
}

/**
 * How far an upload has come, and how long the file is: null while that is not said. An answer to HEAD has no words: why
 * there is none is asked for.
 *
 * @returns {Promise<{offset: number, length: ?number}>}
 */
export async function standOf(token, path, signal = null) {
  try {
    const header = await ask(token, "HEAD", path, { signal });
    const length = header("Upload-Length");
    return { offset: offsetIn(header), length: length === null ? null : Number(length) };
  } catch (error) {
    if (signal?.aborted || (mayGoOn(error) && error.status !== 401)) throw error;
    await ask(token, "GET", path, { signal });
    throw error;
  }
}

const patch = async (token, path, offset, { headers = {}, ...how }) => offsetIn(await ask(token, "PATCH", path, {
  headers: { "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream", ...headers }, ...how,
}));

/**
 * Sends the bytes from `offset` on. @returns {Promise<number>} how far the upload has come
 *
 * @param {Blob} body
 * @param {{signal?: ?AbortSignal, moved?: (bytes: number) => void, answerMs?: number}} how see `ask`
 */
export const append = (token, path, offset, body, how = {}) => patch(token, path, offset, { body, ...how });

/** Has the server forget an upload. One that it does not know is forgotten: perhaps an answer was lost. */
export const giveUp = (token, path) => ask(token, "DELETE", path).catch((error) => {
  if (error.status !== 404 || !isOver(error)) throw error;
});

/** Says that an upload of unknown length ends at `offset`; of nothing, no file is made. */
export const conclude = (token, path, offset) =>
  (offset === 0 ? giveUp(token, path) : patch(token, path, offset, { headers: { "Upload-Length": String(offset) } }));

/** The most bytes that a file may have. */
export async function mostBytes(token) {
  const header = await ask(token, "OPTIONS", "/uploads").catch(() => null);
  return Number(header?.("Tus-Max-Size")) || Infinity;
}

/**
 * Does `act`, and again while it fails in a way that passes, with pauses between that grow; the server's `Retry-After`
 * counts more. Rejects with the last failure, or with the signal's reason.
 *
 * @template T
 * @param {() => Promise<T>} act
 * @param {{goesOn?: (error: ServerError) => boolean, tries?: number, signal?: ?AbortSignal, wait?: typeof later}} how
 * @returns {Promise<T>}
 */
export async function trying(act, { goesOn = mayGoOn, tries = Infinity, signal = null, wait = later } = {}) {
  for (let failures = 1; ; failures += 1) {
    try {
      return await act();
    } catch (error) {
      signal?.throwIfAborted();
      if (failures === tries || !goesOn(error)) throw error;
      await wait(error.retryAfterMs || Math.min(MOST_WAIT_MS, FIRST_WAIT_MS * 2 ** (failures - 1)), signal);
    }
  }
}
