/** The host's browser records the lesson, and sends what it records while it goes: see films.js. */

import { byId, setText } from "./dom.js";
import { announceFilm, hold, isHeld, openSender, takeOver } from "./films.js";
import { later } from "./later.js";
import { openPicture } from "./picture.js";
import { mostBytes } from "./tus.js";
import { fileSize } from "./words.js";

const SLICE_MS = 2_000;
const VIDEO_BITS = 1_500_000;
const AUDIO_BITS = 96_000;
const TYPES = ["video/webm;codecs=vp8,opus", "video/webm", "video/mp4"];
const FULL_AT = 0.9; //          of the most that a film may have: then another part is begun
const MOST_WAITING_BYTES = 512 * 1024 * 1024; // as much as is recorded in the time for which the server keeps a film open
const SAID_FROM_BYTES = 8 * 1024 * 1024; //     of what waits: some half a minute
const TURN_MS = 5_000; //        between two looks whether another page has stopped recording
const SHOW_MS = 1_000;
const NOT_HERE = new Set(["jitsi", "chime"]); // where no page of ours records, nor perhaps the provider

const NOBODY = "This page does not record: it is not in the video. Join the video, or stop the recording.";
const HALTED = "Nothing more is recorded until the server can be reached again: too much waits to be sent. Leave this page open.";
const ELSEWHERE = "Another page of yours records the lesson. This one goes on should that one be gone.";

/**
 * Records a stream, and gives it on while it goes.
 *
 * @param {{stream: MediaStream, path: string, token: () => string, owner: {userId: string, ref: string}, most: number,
 *          full: () => void, clogged: () => void, stopped: () => void}} recording `full`: it will soon have all the bytes
 *   that it may have; `clogged`: no more of it should wait to be sent
 * @returns {{stop: () => void, done: Promise<void>, left: () => number, sent: () => number}} `done`: all has come
 */
export function record({ stream, path, token, owner, most, full, clogged, stopped }) {
  const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
  const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: VIDEO_BITS, audioBitsPerSecond: AUDIO_BITS });
  recorder.start(SLICE_MS);
  const sender = openSender({ token, path, owner });
  let bytes = 0;
  recorder.ondataavailable = ({ data }) => {
    sender.add(data);
    const before = bytes;
    bytes += data.size;
    if (before <= most * FULL_AT && bytes > most * FULL_AT) full();
    if (sender.left() > MOST_WAITING_BYTES) clogged();
  };
  recorder.onstop = () => {
    sender.end();
    stopped();
  };
  const stop = () => recorder.state !== "inactive" && recorder.stop();
  recorder.onerror = stop;
  return { stop, done: sender.done, left: sender.left, sent: sender.sent };
}

/**
 * Has this page record the lesson whenever a recording of it runs and the host of it is here, in the video.
 *
 * @param {{ref: string, userId: string, getState: () => object, token: () => string,
 *          ask: (event: string, payload?: object) => Promise<unknown>,
 *          meeting: {isIn: () => boolean, isOut: () => boolean, provider: () => ?string, scene: () => object}, notify: (sentence: string) => void}} room
 */
export function openLessonRecorder({ ref, userId, getState, token, ask, meeting, notify }) {
  let running = null; //     {id, film}; without a film, it is about to begin
  let refused = null; //     the recording that this page could not make
  let problem = "";
  let waits = false; //      while another page records
  let leaving = null; //     the recording that is not made here any more, as one has left the video
  let halted = null; //      {film, mine}: it is recorded on, as `mine`, when all of that film has come
  let lookedBack = false;
  const films = new Set(); // of which not all has come
  const owner = { userId, ref };

  const isMine = () => getState().session?.hostId === userId;

  function stopRecording(id) {
    if (getState().recording !== id) return Promise.resolve();
    return ask("stopRecording", { end: false }).catch((error) => error.code === "not_recording" || notify(error.message));
  }

  /** It cannot be made here: nobody shall think that it is. */
  function refuse(mine, error) {
    if (running !== mine) return;
    running = null;
    refused = mine.id;
    problem = `The recording was stopped: ${error.message}`;
    notify(problem);
    stopRecording(mine.id);
  }

  /** Sends what pages that are gone have left; meanwhile this one records. */
  async function sendWhatWasLeft() {
    for (const film of await takeOver({ token, ...owner })) follow(null, film);
  }

  /** The path of a film's upload, once no other page makes it; null where it is not wanted any more. */
  async function turn(mine) {
    let letGo = () => {};
    try {
      for (;;) {
        await sendWhatWasLeft();
        if (running !== mine) return null;
        try {
          return await announceFilm({ token, about: { filename: "lesson.webm", session_id: getState().session.id, recording_id: mine.id } });
        } catch (error) {
          if (error.code !== "recorded_elsewhere") throw error;
        }
        if (!waits) letGo = await hold(`waits ${mine.id}`);
        waits = true;
        show();
        await later(TURN_MS);
      }
    } finally {
      waits = false;
      letGo();
    }
  }

  async function begin(id) {
    const mine = { id, film: null };
    running = mine;
    let picture = null;
    let path = null;
    try {
      const most = await mostBytes(token);
      path = await turn(mine);
      if (!path) return;
      if (running !== mine) return giveUp(path);
      picture = openPicture(meeting.scene, { warn: notify });
      follow(mine, record({
        stream: picture.stream, path, token, owner, most,
        full: () => running === mine && anotherPart(mine),
        clogged: () => running === mine && halt(mine),
        stopped() {
          picture.close();
          refuse(mine, new Error("your browser does not record any more."));
        },
      }));
    } catch (error) {
      picture?.close();
      if (path) giveUp(path);
      refuse(mine, error);
    }
    show();
  }

  /** Nothing will come of an upload that was announced. */
  function giveUp(path) {
    const sender = openSender({ token, path, owner });
    sender.end();
    sender.done.catch(() => {});
  }

  /** @param {?object} mine as whose film it is made; null: it was left by another page */
  async function follow(mine, film) {
    if (mine) mine.film = film;
    const hasNews = mine || film.left() > 0;
    films.add(film);
    show();
    try {
      await film.done;
      if (running === null && films.size === 1 && hasNews) notify("The recording has been sent.");
    } catch (error) {
      if (mine && running === mine && film.sent() > 0) anotherPart(mine);
      else if (mine && running === mine) refuse(mine, error);
      else if (hasNews) notify(`The rest of the recording could not be sent: ${error.message}`);
      if (mine) film.stop();
    }
    films.delete(film);
    if (halted?.film === film) goOn();
    show();
  }

  function anotherPart(mine) {
    begin(mine.id);
    mine.film.stop();
  }

  /** The server has been away for so long that no more is to wait for it. */
  function halt(mine) {
    running = { id: mine.id, film: null };
    halted = { film: mine.film, mine: running };
    mine.film.stop();
    notify(HALTED);
    show();
  }

  function goOn() {
    const { mine } = halted;
    halted = null;
    if (running !== mine) return;
    notify("The lesson is recorded again.");
    begin(mine.id);
  }

  function end() {
    const { film } = running;
    running = null;
    film?.stop();
  }

  /** One has left the video, and with it what is recorded; unless another tab of theirs waits for its turn. */
  async function leaveOff(id) {
    if (await isHeld(`waits ${id}`)) return;
    if (meeting.isIn() || getState().recording !== id) return;
    await stopRecording(id);
    notify("The recording was stopped, as you have left the video.");
  }

  function sentence() {
    const bytes = [...films].reduce((sum, film) => sum + film.left(), 0);
    const { recording } = getState();
    if (recording && !running && meeting.isOut() && recording !== refused && recording !== leaving) return NOBODY;
    if (waits) return ELSEWHERE;
    if (running && running === halted?.mine) return `${HALTED} ${fileSize(bytes)} to go.`;
    if (running && bytes > SAID_FROM_BYTES) return `The recording goes on, and waits to be sent: ${fileSize(bytes)} to go. Leave this page open.`;
    if (films.size && !running) return `The recording is being sent: ${fileSize(bytes)} to go. Leave this page open.`;
    return recording ? "" : problem;
  }

  function show() {
    if (!isMine()) return;
    const said = sentence();
    const line = byId("film");
    if (said === NOBODY && line.textContent !== NOBODY) notify(NOBODY);
    setText(line, said);
    line.hidden = !said;
  }

  /** Something has changed that may matter: a recording began or ended, or one came into the video or left it. */
  function look() {
    if (!isMine()) return;
    const { recording } = getState();
    if (!recording && !lookedBack) sendWhatWasLeft();
    lookedBack = true;
    const id = meeting.isIn() ? recording : null;
    if (running && running.id !== id) {
      const { id: before } = running;
      end();
      if (!meeting.isIn() && recording === before) {
        leaving = before;
        leaveOff(before);
      }
    }
    if (!running && id && id !== refused) {
      problem = "";
      begin(id);
    }
    show();
  }

  setInterval(show, SHOW_MS);
  addEventListener("beforeunload", (event) => (running?.film || films.size) && event.preventDefault());

  return {
    look,
    /** Starts a recording, where it is seen to that somebody makes it. Rejects with a sentence where nobody would. */
    async start() {
      const provider = meeting.provider();
      const isHere = !provider || provider === "peer";
      if (isHere && !isMine()) throw new Error("The page of the lesson’s host records the lesson: only they can start that.");
      if (!provider) throw new Error("Join the video to record: this page records what is seen and heard there.");
      if (provider === "peer" && !globalThis.MediaRecorder) throw new Error("This browser cannot record. Join with another one.");
      await ask("startRecording");
      if (NOT_HERE.has(provider)) notify("This page records nothing of what runs elsewhere: unless the provider records it, send its file afterwards.");
    },
    /** One goes: ends what this page records. @returns {?Promise<void>} settled when all of it has come; null: it has */
    leave() {
      if (running) {
        const { id, film } = running;
        const isMade = film || running === halted?.mine;
        end();
        if (isMade) stopRecording(id);
      }
      show();
      return films.size ? Promise.allSettled([...films].map(({ done }) => done)).then(() => {}) : null;
    },
  };
}
