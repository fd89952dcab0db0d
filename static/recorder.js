/**
 * The host's browser records the lesson, and sends what it records while it goes: a crash loses seconds.
 *
 * The file grows on the server by a resumable upload whose length is said at the end (tus 1.0.0, creation-defer-length).
 * What a page that died has left open is ended by the next one that this person opens, else by the server in its time.
 */

import * as api from "./api.js";
import { ServerError } from "./api.js";
import { openPicture } from "./picture.js";

const SLICE_MS = 2_000;
const MOST_BYTES = 8 * 1024 * 1024; // of one request
const FIRST_WAIT_MS = 1_000;
const MOST_WAIT_MS = 15_000;
const VIDEO_BITS = 1_500_000;
const AUDIO_BITS = 96_000;
const TYPES = ["video/webm;codecs=vp8,opus", "video/webm", "video/mp4"];
const ANSWER_MS = 60_000;
const FINAL = new Set([400, 403, 404, 413, 415]); // trying again brings the same

const encoded = (text) => btoa(String.fromCodePoint(...new TextEncoder().encode(text)));
const metadata = (about) => Object.entries(about).map(([name, value]) => `${name} ${encoded(value)}`).join(",");

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

const KEY = "encounters.recording";

/** The uploads that pages of this browser have begun and not ended: path → {userId, ref}. */
const open = {
  all: () => JSON.parse(localStorage.getItem(KEY) ?? "{}"),
  add: (path, about) => localStorage.setItem(KEY, JSON.stringify({ ...open.all(), [path]: about })),
  remove(path) {
    const { [path]: _, ...others } = open.all();
    localStorage.setItem(KEY, JSON.stringify(others));
  },
};

const locks = globalThis.navigator?.locks; // not where the page is not in a secure context

/** Does something while no other page of this browser does it; nothing where one does. */
const alone = (name, does) => (locks ? locks.request(`${KEY} ${name}`, { ifAvailable: true }, (lock) => (lock ? does() : null)) : does());

/**
 * Ends what pages that died have left open, with what has come of it.
 *
 * @returns {Promise<string[]>} the rooms whose recordings those were
 */
export async function endWhatWasLeft(token, userId) {
  const rooms = [];
  for (const [path, about] of Object.entries(open.all())) {
    if (about.userId !== userId || !locks) continue;
    await alone(path, async () => {
      try {
        const offset = offsetIn(await tus(token, "HEAD", path));
        if (offset === 0) await tus(token, "DELETE", path);
        else await append(token, path, offset, undefined, { "Upload-Length": String(offset) });
        rooms.push(about.ref);
      } catch (error) {
        if (!FINAL.has(error.status) && error.status !== 409) return; // the next page tries again
      }
      open.remove(path);
    });
  }
  return rooms;
}

/**
 * Sends what is added to it, in order, and waits while the server cannot be reached.
 *
 * @param {{token: () => string, about: Object<string, string>, owner: {userId: string, ref: string}}} upload
 * @returns {{add: (piece: Blob) => void, end: () => void, done: Promise<void>, waits: () => boolean}}
 *   `done` rejects with what the server refuses for good
 */
export function openSender({ token, about, owner, wait = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); }) }) {
  let pieces = []; //   that the server has not confirmed yet
  let ended = false;
  let over = false;
  let wake = () => {};

  const size = () => pieces.reduce((bytes, piece) => bytes + piece.size, 0);

  /** What is to be sent is there, or nothing more will be. */
  async function ready() {
    while (size() === 0 && !ended) await new Promise((resolve) => { wake = resolve; });
  }

  function confirm(bytes) {
    pieces = [new Blob(pieces).slice(bytes)].filter((piece) => piece.size);
  }

  async function trying(act) {
    for (let pause = FIRST_WAIT_MS; ; pause = Math.min(MOST_WAIT_MS, pause * 2)) {
      try {
        return await act();
      } catch (error) {
        if (FINAL.has(error.status)) throw error;
        await wait(error.retryAfterMs || pause);
      }
    }
  }

  async function send(path) {
    let offset = 0;
    let known = true; // how far it has come: not after a request that failed
    for (let whole = false; !whole;) {
      await ready();
      await trying(async () => {
        if (!known) {
          const now = offsetIn(await tus(token, "HEAD", path));
          confirm(now - offset);
          offset = now;
        }
        known = false;
        const body = new Blob(pieces).slice(0, MOST_BYTES);
        const isLast = ended && body.size === size();
        const answer = await append(token, path, offset, body, isLast ? { "Upload-Length": String(offset + body.size) } : {});
        confirm(offsetIn(answer) - offset);
        offset = offsetIn(answer);
        known = true;
        whole = isLast;
      });
    }
  }

  async function run() {
    await ready();
    if (size() === 0) return; // ended before there was anything
    const headers = { "Upload-Defer-Length": "1", "Upload-Metadata": metadata(about) };
    const path = await trying(async () => new URL((await tus(token, "POST", "/uploads", headers)).headers.get("Location"), location.href).pathname);
    open.add(path, owner);
    await alone(path, () => send(path)).finally(() => open.remove(path));
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
    done: run().finally(() => { over = true; }),
    waits: () => !over && size() > 0,
  };
}

/**
 * Records a stream and sends it while it goes.
 *
 * @param {{stream: MediaStream, token: () => string, about: Object<string, string>, owner: {userId: string, ref: string}}} recording
 * @returns {{stop: () => Promise<void>, done: Promise<void>, waits: () => boolean}} `stop` resolves when all has come
 */
export function record({ stream, token, about, owner }) {
  const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
  const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: VIDEO_BITS, audioBitsPerSecond: AUDIO_BITS });
  const extension = recorder.mimeType.startsWith("video/mp4") ? "mp4" : "webm";
  const sender = openSender({ token, owner, about: { kind: "recording", filename: `lesson.${extension}`, ...about } });
  recorder.ondataavailable = ({ data }) => sender.add(data);
  recorder.onstop = () => sender.end();
  recorder.onerror = () => recorder.state !== "inactive" && recorder.stop();
  recorder.start(SLICE_MS);
  return {
    stop() {
      if (recorder.state !== "inactive") recorder.stop();
      return sender.done;
    },
    done: sender.done, waits: sender.waits,
  };
}

/**
 * Has this page record the lesson whenever a recording of it runs and the host of it is here, in the video.
 *
 * @param {{ref: string, userId: string, getState: () => object, token: () => string, ask: (event: string) => Promise<unknown>,
 *          meeting: {isIn: () => boolean, scene: () => object}, notify: (sentence: string) => void}} room
 */
export function openLessonRecorder({ ref, userId, getState, token, ask, meeting, notify }) {
  let running = null; //  {id, film}; without a film, another tab records
  let looking = null;
  let again = false;
  let left = null; //     the end of what pages that died had begun; looked for once
  let goesOn = false; //  one of them recorded this lesson

  const isMine = () => getState().session?.hostId === userId;

  function begin(id) {
    const mine = { id, film: null };
    running = mine;
    alone(id, async () => {
      if (running !== mine) return;
      const picture = openPicture(meeting.scene);
      const about = { session_id: getState().session.id, recording_id: id };
      mine.film = record({ stream: picture.stream, token, about, owner: { userId, ref } });
      await mine.film.done.catch((error) => notify(`The recording cannot be sent: ${error.message}`));
      picture.close();
    });
  }

  function end() {
    const { film } = running;
    running = null;
    film?.stop().then(() => notify("The recording has been sent."), () => {});
  }

  async function lookNow() {
    left ??= endWhatWasLeft(token, userId).then((rooms) => { goesOn = rooms.includes(ref); });
    await left;
    if (goesOn && meeting.isIn() && getState().session.status === "live") {
      goesOn = false;
      await ask("startRecording").then(() => notify("The recording goes on, in another part."), () => {});
    }
    const found = (await api.recordings(token(), ref)).find(({ status }) => status === "recording");
    const id = meeting.isIn() && found?.id;
    if (running && running.id !== id) end();
    if (!running && id) begin(id);
  }

  addEventListener("beforeunload", (event) => running?.film?.waits() && event.preventDefault());

  return {
    /** Something has changed that may matter: a recording began or ended, or one came into the video or left it. */
    async look() {
      if (!isMine()) return;
      again = true;
      looking ??= (async () => {
        while (again) {
          again = false;
          await lookNow().catch((error) => notify(error.message));
        }
        looking = null;
      })();
      await looking;
    },
  };
}
