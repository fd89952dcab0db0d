/**
 * Sending a file in pieces, so that it goes on where it stopped, even after the page was closed: tus 1.0.0
 * (https://tus.io/protocols/resumable-upload).
 */

import { ServerError } from "./api.js";

const CHUNK_BYTES = 4 * 1024 * 1024;
const FIRST_WAIT_MS = 1_000;
const MOST_WAIT_MS = 15_000;
/** Tries in a row that brought nothing before it is left to the person. */
const TRIES = 8;

const GONE = new Set([403, 404, 410]);
/** What comes right by asking how far the upload has come: another try of ours still holds it, or got further. */
const ELSEWHERE = new Set([409, 423, 460]);

/** Base64 of UTF-8, as `Upload-Metadata` has its values. */
export const encoded = (text) => btoa(String.fromCodePoint(...new TextEncoder().encode(text)));

/** `{kind: "recording", …}` as the header; what is empty is left out. */
export const metadata = (about) =>
  Object.entries(about).filter(([, value]) => value).map(([name, value]) => `${name} ${encoded(value)}`).join(",");

async function ask(token, method, path, { headers = {}, body = undefined, signal = undefined } = {}) {
  let response;
  try {
    response = await fetch(path, { method, body, signal, headers: { Authorization: `Bearer ${token()}`, "Tus-Resumable": "1.0.0", ...headers } });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ServerError({ error: "no_answer", message: "The server cannot be reached." });
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new ServerError({
    status_code: response.status, message: `The server answered ${response.status}.`,
    retry_after: Number(response.headers.get("Retry-After")) || 0, ...answer,
  });
}

const offsetIn = (response) => Number(response.headers.get("Upload-Offset"));

const pause = (ms, signal) => new Promise((resolve, reject) => {
  const stop = () => { clearTimeout(timer); reject(signal.reason); };
  const timer = setTimeout(() => { signal.removeEventListener("abort", stop); resolve(); }, ms);
  signal.addEventListener("abort", stop, { once: true });
});

/** How far an upload has come; null where there is none any more. */
async function offsetOf(token, path, signal) {
  try {
    return offsetIn(await ask(token, "HEAD", path, { signal }));
  } catch (error) {
    if (GONE.has(error.status)) return null;
    throw error;
  }
}

/**
 * Sends a file to its end. Breaks in the connection are waited for.
 *
 * @param {File} file
 * @param {{token: () => string, path: ?string, about: Object<string, ?string>, begun: (path: string) => void,
 *          progress: (sent: number) => void, signal: AbortSignal}} way `path` is that of an upload to go on with;
 *        `begun` hears of one that was begun anew. Aborted, it rejects with the signal's reason and leaves what came.
 */
export async function sendFile(file, { token, path, about, begun, progress, signal }) {
  let offset = null; // unknown
  let failures = 0;
  for (;;) {
    try {
      if (offset === null && path) offset = await offsetOf(token, path, signal);
      if (offset === null) {
        const headers = { "Upload-Length": String(file.size), "Upload-Metadata": metadata(about) };
        path = new URL((await ask(token, "POST", "/uploads", { headers, signal })).headers.get("Location"), location.href).pathname;
        offset = 0;
        begun(path);
      }
      progress(offset);
      if (offset >= file.size) return;
      const answer = await ask(token, "PATCH", path, {
        headers: { "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" },
        body: file.slice(offset, offset + CHUNK_BYTES), signal,
      });
      offset = offsetIn(answer);
      failures = 0;
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      failures += 1;
      if (failures === TRIES || !(error.passing || ELSEWHERE.has(error.status))) throw error;
      offset = null;
      await pause(error.retryAfterMs || Math.min(MOST_WAIT_MS, FIRST_WAIT_MS * 2 ** (failures - 1)), signal);
    }
  }
}

/** Has the server forget an upload. */
export const giveUp = (token, path) => ask(token, "DELETE", path).catch(() => {});
