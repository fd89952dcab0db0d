// Cameras and microphones without a browser: what is asked for, what is used, and what is kept of it.
import assert from "node:assert/strict";
import test, { beforeEach } from "node:test";

const { chosenDevices, open } = await import("../../static/devices.js");
const { openOwn } = await import("../../static/own.js");
const { keep, kept } = await import("../../static/storage.js");

const settle = async () => { for (let n = 0; n < 20; n += 1) await new Promise((resolve) => { setImmediate(resolve); }); };

class Track {
  constructor(kind, deviceId = "") { Object.assign(this, { kind, deviceId, enabled: true, readyState: "live" }); }

  stop() { this.readyState = "ended"; }

  getSettings() { return { deviceId: this.deviceId }; }
}

let asked; //   what getUserMedia was asked for
let answer; //  what it answers

/** A browser that was told `permissions` of its devices; null: it does not tell. */
function browser(permissions = null) {
  asked = [];
  answer = (wanted) => Object.entries(wanted).map(([kind, { deviceId }]) => new Track(kind, deviceId?.exact));
  const mediaDevices = {
    async getUserMedia(wanted) {
      asked.push(Object.keys(wanted).sort().join("+"));
      const tracks = await answer(wanted);
      const of = (kind) => () => tracks.filter((track) => track.kind === kind);
      return { getAudioTracks: of("audio"), getVideoTracks: of("video") };
    },
  };
  const query = async ({ name }) => {
    if (!permissions) throw new TypeError(name);
    return { state: permissions[name] };
  };
  Object.defineProperty(globalThis, "navigator", { value: { mediaDevices, permissions: { query } }, configurable: true });
}

beforeEach(() => {
  const items = new Map();
  globalThis.localStorage = { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value), removeItem: (key) => items.delete(key) };
  browser();
});

const no = (name) => { throw Object.assign(new Error(name), { name }); };

test("where the system keeps only the camera back, there is the microphone", async () => {
  browser({ microphone: "granted", camera: "prompt" });
  answer = (wanted) => ("video" in wanted ? no("NotAllowedError") : [new Track("audio")]);
  const { mic, camera, problems } = await open(["mic", "camera"]);
  assert.ok(mic);
  assert.equal(camera, null);
  assert.match(problems.join(), /use your camera/);
  assert.deepEqual(asked, ["audio+video", "audio"]);
});

test("where the browser does not tell, each is asked for by itself", async () => {
  answer = (wanted) => ("video" in wanted ? no("NotAllowedError") : [new Track("audio")]);
  assert.ok((await open(["mic", "camera"])).mic);
  assert.deepEqual(asked, ["audio+video", "audio", "video"]);
});

test("who has just refused is not asked again", async () => {
  browser({ microphone: "prompt", camera: "prompt" });
  answer = () => no("NotAllowedError");
  const { problems } = await open(["mic", "camera"]);
  assert.deepEqual(asked, ["audio+video"]);
  assert.equal(problems.length, 1);
  assert.match(problems[0], /microphone and camera/);
});

test("what there is not, and a page that gets nothing, is said", async () => {
  answer = () => no("NotFoundError");
  assert.deepEqual((await open(["mic", "camera"])).problems, ["No microphone was found.", "No camera was found."]);
  Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
  const { problems } = await open(["mic", "camera"]);
  assert.equal(problems.length, 1);
  assert.match(problems[0], /only to pages with a secure address/);
});

test("a camera that is chosen while another is being turned on is the one that is used", async () => {
  const own = openOwn({ allowed: () => true, changed: () => {}, say: () => {} });
  await own.open(["camera"]);
  const first = own.video();
  let opened;
  const waits = new Promise((resolve) => { opened = resolve; });
  const usual = answer;
  answer = async (wanted) => { await waits; return usual(wanted); };
  own.choose("camera", "b");
  own.choose("camera", "c");
  await settle();
  opened();
  await settle();
  assert.equal(own.video().deviceId, "c");
  assert.equal(first.readyState, "ended");
  assert.equal(own.switches().camera.busy, false);
});

test("what is kept and cannot be read, or not be kept at all, stops nothing", () => {
  for (const broken of ["{", "7", "null", ""]) {
    localStorage.setItem("encounters.devices", broken);
    assert.deepEqual(chosenDevices.get(), {}, broken);
  }
  chosenDevices.set("mic", "m");
  assert.deepEqual(chosenDevices.get(), { mic: "m" });
  keep("localStorage", "encounters.devices", null);
  assert.equal(kept("localStorage", "encounters.devices"), null);
  Object.defineProperty(globalThis, "localStorage", { get() { no("SecurityError"); }, configurable: true });
  assert.deepEqual(chosenDevices.get(), {});
  chosenDevices.set("mic", "m");
  delete globalThis.localStorage;
});
