/** The host's browser records the lesson, and sends what it records while it goes: see films.js. */

import { byId, setText } from "./dom.js";
import { announceFilm, openSender, takeOver } from "./films.js";
import { later } from "./later.js";
import { hold, isHeld } from "./locks.js";
import { openPicture } from "./picture.js";
import { mayGoOn, mostBytes } from "./tus.js";
import { fileSize } from "./words.js";

const SLICE_MS = 2_000;
const VIDEO_BITS = 1_500_000;
const AUDIO_BITS = 96_000;
const TYPES = ["video/webm;codecs=vp8,opus", "video/webm", "video/mp4"];
const FULL_AT = 0.9; //          of the most that a film may have: then another part is begun
/**
 * Some 22 minutes at the bitrates above, of which a lesson that moves little needs less. Half the time for which the server
 * keeps a film open: who stops recording here still has the other half to send what waits.
 */
const MOST_WAITING_BYTES = 256 * 1024 * 1024;
const SAID_FROM_BYTES = 8 * 1024 * 1024; //     of what waits: some half a minute
const SHORT_MS = 5 * 60_000; //   a part that is refused sooner
const SHORT_PARTS = 3; //        is one of so many in a row at most
const TURN_MS = 5_000; //        between two looks whether another page has stopped recording
const STOP_AGAIN_MS = 2_000;
const SHOW_MS = 1_000;
const NOT_HERE = new Set(["jitsi", "chime"]); // where no page of ours records, nor perhaps the provider

const NOBODY = "This page does not record: it is not in the video. Join the video, or stop the recording.";
const HALTED = "Nothing more is recorded until what waits has been sent.";
const UNSTOPPED = "The recording is not stopped yet: the server cannot be reached. Leave this page open.";
const ELSEWHERE = "Another page of yours records the lesson. This one goes on should that one be gone.";

/** Held by a page that waits for its turn to record. */
const waitingFor = (id) => `encounters.recording waits ${id}`;

/**
 * Records a stream, and gives it on while it goes.
 *
 * @param {{stream: MediaStream, path: string, token: () => string, owner: {userId: string, ref: string}, most: number,
 *          full: () => void, grown: () => void, stopped: () => void}} recording `full`: it will soon have all the bytes
 *   that it may have; `grown`: there is more of it to be sent
 * @returns {{stop: () => void, done: Promise<void>, left: () => number, sent: () => number, trouble: () => string}} as of
 *   `openSender`
 */
export function record({ stream, path, token, owner, most, full, grown, stopped }) {
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
    grown();
  };
  recorder.onstop = () => {
    sender.end();
    stopped();
  };
  const stop = () => recorder.state !== "inactive" && recorder.stop();
  recorder.onerror = stop;
  const { done, left, sent, trouble } = sender;
  return { stop, done, left, sent, trouble };
}

/**
 * Has this page record the lesson whenever a recording of it runs and the host of it is here, in the video.
 *
 * @param {{ref: string, userId: string, getState: () => object, token: () => string,
 *          ask: (event: string, payload?: object) => Promise<unknown>,
 *          meeting: {isIn: () => boolean, isOut: () => boolean, provider: () => ?string, scene: () => object}, notify: (sentence: string) => void}} room
 */
export function openLessonRecorder({ ref, userId, getState, token, ask, meeting, notify }) {
  let running = null; //     {id, film, since, short}; without a film, it is about to begin. `short`: so many SHORT_PARTS before it
  let refused = null; //     the recording that this page could not make
  let problem = "";
  let waits = false; //      while another page records
  let leaving = null; //     the recording that is not made here any more, as one has left the video
  let stopping = null; //    {id, failed, heard} of the recording that this page stops, until the server has heard it
  let halted = null; //      what `running` is while it waits: it is recorded on when less is to be sent
  let lookedBack = false;
  const films = new Set(); // of which not all has come
  const owner = { userId, ref };

  const isMine = () => getState().session?.hostId === userId;

  const waiting = () => [...films].reduce((bytes, film) => bytes + film.left(), 0);

  /**
   * Stops a recording that is not made here any more, as soon as the server can be reached: while one is away, what the
   * page knows of it is old, and another might run.
   *
   * @returns {Promise<boolean>} whether it is over; not where the server refuses that, nor where it is made here again
   */
  function stopRecording(id) {
    if (stopping?.id === id) return stopping.heard;
    const mine = { id, failed: false };
    stopping = mine;
    mine.heard = stopUntilHeard(mine).catch((error) => {
      notify(error.message);
      return false;
    }).finally(() => {
      if (stopping === mine) stopping = null;
      show();
    });
    return mine.heard;
  }

  async function stopUntilHeard(mine) {
    const { id } = mine;
    for (;;) {
      const { recording, connection } = getState();
      if (recording !== id) return true;
      if (running?.id === id) return false;
      if (connection.phase === "live") {
        try {
          await ask("stopRecording", { end: false });
          return true;
        } catch (error) {
          if (error.code === "not_recording") return true;
          if (!mayGoOn(error)) throw error;
        }
      }
      mine.failed = true;
      show();
      await later(STOP_AGAIN_MS);
    }
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
        if (!waits) letGo = await hold(waitingFor(mine.id));
        waits = true;
        show();
        await later(TURN_MS);
      }
    } finally {
      waits = false;
      letGo();
    }
  }

  /** @param {number} short parts of it in a row that were refused soon */
  async function begin(id, short = 0) {
    const mine = { id, film: null, since: 0, short };
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
        grown: () => running === mine && waiting() > MOST_WAITING_BYTES && halt(mine),
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
    if (mine) Object.assign(mine, { film, since: Date.now() });
    const hasNews = mine || film.left() > 0;
    films.add(film);
    show();
    try {
      await film.done;
      if (running === null && films.size === 1 && hasNews) notify("The recording has been sent.");
    } catch (error) {
      partRefused(mine, film, hasNews, error);
      if (mine) film.stop();
    }
    films.delete(film);
    goOnIfLessWaits();
    show();
  }

  /** What had come of a part is kept. The recording goes on in another, unless that ended as soon, again and again. */
  function partRefused(mine, film, hasNews, error) {
    const isMade = mine !== null && running === mine;
    const short = isMade && Date.now() - mine.since < SHORT_MS ? mine.short + 1 : 1;
    if (isMade && (film.sent() === 0 || short >= SHORT_PARTS)) return refuse(mine, error);
    if (isMade ? film.left() > 0 : hasNews) notify(`The rest of ${isMade ? "this part of " : ""}the recording could not be sent: ${error.message}`);
    if (isMade) anotherPart(mine, short);
  }

  function anotherPart(mine, short = 0) {
    begin(mine.id, short);
    mine.film.stop();
  }

  /** The server has been away, or the network slow, for so long that no more is to wait. */
  function halt(mine) {
    running = { id: mine.id, film: null };
    halted = running;
    mine.film.stop();
    notify(`${HALTED} Leave this page open.`);
    show();
  }

  /** Long before all has come, so that no more of the lesson is lost than has to be; not so soon that it halts at once. */
  function goOnIfLessWaits() {
    if (halted === null || waiting() >= MOST_WAITING_BYTES / 2) return;
    const mine = halted;
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
    if (await isHeld(waitingFor(id))) return;
    if (meeting.isIn() || getState().recording !== id) return;
    if (await stopRecording(id)) notify("The recording was stopped, as you have left the video.");
    else leaving = null;
  }

  function sentence() {
    const bytes = waiting();
    const { recording } = getState();
    const trouble = [...films].map((film) => film.trouble()).find(Boolean);
    const rest = [`${fileSize(bytes)} to go.`, trouble, "Leave this page open."].filter(Boolean).join(" ");
    if (stopping?.failed && stopping.id === recording) return UNSTOPPED;
    if (recording && !running && meeting.isOut() && recording !== refused && recording !== leaving) return NOBODY;
    if (waits) return ELSEWHERE;
    if (running && running === halted) return `${HALTED} ${rest}`;
    if (running && (bytes > SAID_FROM_BYTES || trouble)) return `The recording goes on, and waits to be sent: ${rest}`;
    if (films.size && !running) return `The recording is being sent: ${rest}`;
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
    if (!recording && !lookedBack) {
      lookedBack = true;
      sendWhatWasLeft();
    }
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

  setInterval(() => {
    goOnIfLessWaits();
    show();
  }, SHOW_MS);
  addEventListener("beforeunload", (event) => (running?.film || films.size || stopping) && event.preventDefault());

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
    /**
     * One goes: ends what this page records, and stops it.
     *
     * @returns {?Promise<void>} settled when all of it has come, and it is stopped; null: there is nothing to wait for
     */
    leave() {
      if (running) {
        const { id, film } = running;
        const isMade = film || running === halted;
        end();
        leaving = id;
        if (isMade) stopRecording(id);
      }
      show();
      const all = [...films].map(({ done }) => done);
      if (stopping) all.push(stopping.heard);
      return all.length ? Promise.allSettled(all).then(() => {}) : null;
    },
  };
}
