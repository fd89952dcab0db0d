// The host's page records the lesson, without a browser: what it does when the server, the network or a person will not.
import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";

import { answerRequests } from "./requests.mjs";

const MIB = 1024 * 1024;
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const KEY = "encounters.recording";

globalThis.localStorage = {
  kept: new Map(), getItem: (key) => localStorage.kept.get(key) ?? null, setItem: (key, value) => localStorage.kept.set(key, value),
};

/** Web Locks of one browser; `refuses`: as where it keeps nothing for the site. */
const held = new Set();
let refuses = false;
const refusal = async () => { throw new DOMException("The request was denied.", "SecurityError"); };
const locks = {
  async request(name, { ifAvailable }, act) {
    if (refuses) return refusal();
    if (ifAvailable && held.has(name)) return act(null);
    held.add(name);
    return Promise.resolve(act({ name })).finally(() => held.delete(name));
  },
  query: async () => (refuses ? refusal() : { held: [...held].map((name) => ({ name })) }),
};
Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });

// What draws and mixes
const nothing = new Proxy(() => nothing, { get: (_, name) => (name === Symbol.toPrimitive ? () => "" : nothing) });
const line = { textContent: "", hidden: true };
globalThis.document = {
  getElementById: () => line,
  createElement: () => ({ getContext: () => nothing, captureStream: () => ({ getVideoTracks: () => [] }) }),
};
globalThis.AudioContext = class {
  state = "running";
  createMediaStreamDestination() { return { stream: { getAudioTracks: () => [] } }; }
  close() { this.state = "closed"; }
};
globalThis.Worker = class { postMessage() {} terminate() {} };
globalThis.MediaStream = class { getTracks() { return []; } };
globalThis.addEventListener = () => {};
globalThis.removeEventListener = () => {};

/** The recorders of the page, the newest last; `record(bytes)` is what one gives on. */
let recorders = [];
globalThis.MediaRecorder = class {
  static isTypeSupported() { return true; }
  state = "inactive";
  start() {
    this.state = "recording";
    recorders.push(this);
  }
  stop() {
    this.state = "inactive";
    this.onstop();
  }
  record(bytes) { this.ondataavailable({ data: bytes }); }
};
const running = () => recorders.filter(({ state }) => state === "recording");
const mebibyte = new Blob([new Uint8Array(MIB)]);
const bytes = (mebibytes) => new Blob(Array(mebibytes).fill(mebibyte));

const { openLessonRecorder } = await import("../../static/recorder.js");

beforeEach((context) => {
  context.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_800_000_000_000 });
  recorders = [];
  refuses = false;
  held.clear();
  localStorage.kept.clear();
  Object.assign(line, { textContent: "", hidden: true });
});
afterEach(() => { delete globalThis.XMLHttpRequest; });

const turn = () => new Promise((resolve) => { setImmediate(resolve); });
async function settle() {
  for (let turns = 0; turns < 40; turns += 1) await turn();
}
/** Lets time pass, as fast as it goes. */
async function pass(context, ms) {
  for (let passed = 0; passed < ms; passed += SECOND) {
    context.mock.timers.tick(SECOND);
    await settle();
  }
}

/** A server that takes films, by their paths; `trouble(request)` answers in its place. */
function server(trouble = () => null) {
  const films = new Map();
  const asked = [];
  const say = (status, error) => ({ status, headers: {}, text: JSON.stringify({ error, message: error, status_code: status }) });
  answerRequests((request) => {
    const { method, path, headers, body } = request;
    asked.push(`${method} ${path}`);
    const wrong = trouble({ method, path, headers, size: body?.size ?? 0 });
    if (wrong) return request.end({ headers: {}, ...wrong });
    if (method === "OPTIONS") return request.end({ status: 204, headers: {} });
    if (method === "POST") {
      const at = `/uploads/${films.size + 1}`;
      films.set(at, { offset: 0, length: null });
      return request.end({ status: 201, headers: { Location: at } });
    }
    const film = films.get(path);
    if (!film) return request.end(say(404, "upload_not_found"));
    if (method === "DELETE") films.delete(path);
    if (method === "PATCH") {
      if (Number(headers["Upload-Offset"]) !== film.offset) return request.end(say(409, "offset_mismatch"));
      film.offset += body?.size ?? 0;
      if (headers["Upload-Length"]) film.length = Number(headers["Upload-Length"]);
    }
    const length = film.length === null ? {} : { "Upload-Length": String(film.length) };
    return request.end({ status: 204, headers: { "Upload-Offset": String(film.offset), ...length } });
  });
  return { films, asked };
}
const refused = (status, error, message = error) => ({ status, text: JSON.stringify({ error, message, status_code: status }) });

/** The host's page of a lesson, in the video; `ask` answers what it asks for in the room. */
function room({ isIn = true, ask = async () => {} } = {}) {
  const state = { session: { id: "s", hostId: "host" }, recording: "r1", connection: { phase: "live" } };
  const there = { toasts: [], stops: 0, isIn, state };
  there.recorder = openLessonRecorder({
    ref: "lesson", userId: "host", token: () => "t", getState: () => there.state, notify: (sentence) => there.toasts.push(sentence),
    meeting: { isIn: () => there.isIn, isOut: () => !there.isIn, provider: () => "peer", scene: () => ({ pictures: [], names: [], sounds: [] }) },
    async ask(event) {
      there.stops += 1;
      await ask(event);
      there.says({ recording: null });
    },
  });
  there.says = (news) => {
    Object.assign(there.state, news);
    there.recorder.look();
  };
  there.leaveVideo = () => {
    there.isIn = false;
    there.recorder.look();
  };
  there.isSaid = (what) => assert.match(there.toasts.join("\n"), what);
  there.recorder.look();
  return there;
}

const away = async () => { throw Object.assign(new Error("You are not connected right now."), { code: "no_connection", status: 0 }); };
const left = () => localStorage.setItem(KEY, JSON.stringify({ "/uploads/1": { userId: "host", ref: "lesson", at: Date.now() } }));

test("what a page left of a recording that runs is sent by who opens the lesson and only stops it", async () => {
  const { films } = server();
  films.set("/uploads/1", { offset: 7, length: null });
  left();
  const lesson = room({ isIn: false });
  await settle();
  assert.equal(films.get("/uploads/1").length, null, "it may be taken up again");
  lesson.says({ recording: null });
  await settle();
  assert.equal(films.get("/uploads/1").length, 7);
});

test("a stop that the server does not hear is said again when it is there, and only then is the person told", async (context) => {
  server();
  let isThere = false;
  const lesson = room({ ask: () => (isThere ? undefined : away()) });
  await settle();
  running()[0].record(bytes(1));
  lesson.says({ connection: { phase: "offline" } });
  lesson.leaveVideo();
  await pass(context, 10 * SECOND);
  assert.deepEqual(lesson.toasts.filter((said) => /was stopped/.test(said)), []);
  assert.match(line.textContent, /not stopped yet/);
  lesson.says({ connection: { phase: "live" } });
  await pass(context, 5 * SECOND);
  assert.doesNotMatch(lesson.toasts.join(), /was stopped/, "the server is there, and does not answer");
  isThere = true;
  await pass(context, 5 * SECOND);
  lesson.isSaid(/The recording was stopped, as you have left the video/);
  assert.equal(lesson.state.recording, null);
  assert.doesNotMatch(line.textContent, /not stopped/);
});

test("a stop that is late stops nothing else", async (context) => {
  server();
  const lesson = room();
  await settle();
  lesson.says({ connection: { phase: "offline" } });
  lesson.leaveVideo();
  await pass(context, 3 * SECOND);
  lesson.says({ connection: { phase: "live" }, recording: "r2" });
  await pass(context, 5 * SECOND);
  assert.equal(lesson.stops, 0);
});

test("who is back in the video before the stop is heard records on", async (context) => {
  server();
  const lesson = room();
  await settle();
  lesson.says({ connection: { phase: "offline" } });
  lesson.leaveVideo();
  await pass(context, 3 * SECOND);
  lesson.isIn = true;
  lesson.says({ connection: { phase: "live" } });
  await pass(context, 5 * SECOND);
  assert.equal(lesson.stops, 0);
  assert.equal(running().length, 1);
});

test("who leaves the lesson waits until the server has heard the stop", async (context) => {
  server();
  const lesson = room();
  await settle();
  lesson.says({ connection: { phase: "offline" } });
  let isGone = false;
  lesson.recorder.leave().then(() => { isGone = true; });
  lesson.leaveVideo();
  await pass(context, 10 * SECOND);
  assert.equal(isGone, false);
  lesson.says({ connection: { phase: "live" } });
  await pass(context, 5 * SECOND);
  assert.ok(isGone);
  assert.equal(lesson.stops, 1);
});

test("a stop that the server refuses is told, and the line says again that nobody records", async () => {
  server();
  const lesson = room({ ask: async () => { throw Object.assign(new Error("Not authorized."), { code: "not_host", status: 403 }); } });
  await settle();
  lesson.leaveVideo();
  await settle();
  lesson.isSaid(/Not authorized/);
  assert.doesNotMatch(lesson.toasts.join(), /was stopped/);
  lesson.recorder.look();
  assert.match(line.textContent, /This page does not record/);
});

test("what could not be sent of a part that is refused is told, and the lesson is recorded on", async () => {
  let isOver = false;
  server(({ method, path }) => (isOver && method === "PATCH" && path === "/uploads/1" ? refused(410, "film_lost", "It is lost.") : null));
  const lesson = room();
  await settle();
  running()[0].record(bytes(1));
  await settle();
  isOver = true;
  running()[0].record(bytes(1));
  await settle();
  lesson.isSaid(/The rest of this part of the recording could not be sent: It is lost\./);
  assert.equal(running().length, 1);
  assert.equal(recorders.length, 2);
});

test("a recording whose parts are refused one after the other is given up, and that is told", async () => {
  server(({ method, headers }) => (method === "PATCH" && headers["Upload-Offset"] !== "0" ? refused(410, "film_lost", "It is lost.") : null));
  const lesson = room();
  await settle();
  while (running().length) {
    assert.ok(recorders.length < 10, "it ends");
    for (const piece of [1, 1]) {
      running()[0]?.record(bytes(piece));
      await settle();
    }
  }
  lesson.isSaid(/The recording was stopped: It is lost\./);
  assert.equal(recorders.length, 3);
  assert.equal(lesson.stops, 1);
});

test("a page in which too much waits records nothing more, and goes on when half of it has come", async (context) => {
  let isThere = true;
  let takes = 0; // bytes more that the line takes
  const { films } = server(({ method, size }) => {
    if (!isThere || (method === "PATCH" && size > takes)) return { status: 0 };
    if (method === "PATCH") takes -= size;
    return null;
  });
  const lesson = room();
  await settle();
  isThere = false;
  for (let piece = 0; piece < 32; piece += 1) running()[0].record(bytes(8));
  assert.equal(running().length, 1, "256 MiB may wait");
  running()[0].record(bytes(8));
  assert.equal(running().length, 0);
  lesson.isSaid(/Nothing more is recorded until what waits has been sent/);
  isThere = true;
  takes = 100 * MIB;
  await pass(context, 30 * SECOND);
  assert.equal(running().length, 0);
  assert.match(line.textContent, /^Nothing more is recorded until what waits has been sent\. .* to go/);
  takes = 48 * MIB;
  await pass(context, 30 * SECOND);
  assert.equal(running().length, 1);
  lesson.isSaid(/The lesson is recorded again/);
  assert.equal(films.get("/uploads/1").length, null, "the first part is still on its way");
});

test("all that waits is counted together, of whichever part it is", async (context) => {
  let takes = 0;
  server(({ method, size }) => {
    if (method !== "PATCH") return null;
    if (size > takes) return { status: 0 };
    takes -= size;
    return null;
  });
  room();
  await settle();
  for (let piece = 0; piece < 33; piece += 1) running()[0].record(bytes(8));
  takes = 144 * MIB; // of 264
  await pass(context, 40 * SECOND);
  for (let piece = 0; piece < 17; piece += 1) running()[0].record(bytes(8));
  assert.equal(running().length, 1, "256 MiB may wait");
  running()[0].record(bytes(8));
  assert.equal(running().length, 0);
});

test("where the browser refuses its locks, the lesson is recorded and sent", async () => {
  refuses = true;
  const { films } = server();
  const lesson = room();
  await settle();
  running()[0].record(bytes(1));
  lesson.leaveVideo();
  await settle();
  assert.deepEqual([...films.values()], [{ offset: MIB, length: MIB }]);
  assert.equal(lesson.stops, 1, "nobody is known to go on");
});

test("what a proxy refuses for minutes is shown", async (context) => {
  server(({ method, size }) => (method === "PATCH" && size ? { status: 413, text: "<html>" } : null));
  room();
  await settle();
  running()[0].record(bytes(1));
  await pass(context, MINUTE);
  assert.equal(line.textContent, "");
  await pass(context, 2 * MINUTE);
  assert.match(line.textContent, /The recording goes on, and waits to be sent: .* The server answered 413\. Leave this page open\./);
});
