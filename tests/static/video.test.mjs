// The video's modules without a browser: who connects to whom, what is sent of a recording, and the words.
import assert from "node:assert/strict";
import test, { afterEach } from "node:test";

globalThis.localStorage = { kept: new Map(), getItem: (key) => localStorage.kept.get(key) ?? null, setItem: (key, value) => localStorage.kept.set(key, value) };
globalThis.location ??= { href: "http://127.0.0.1/" };

const { sentenceFor } = await import("../../static/devices.js");
const { placeOf, renewIn, unreachedSentence } = await import("../../static/passes.js");
const { BATCH_MS, GIVE_UP_MS, PATIENCE_MS, UNREACHED_MS, openMesh } = await import("../../static/peers.js");
const { fit, grid } = await import("../../static/picture.js");
const { columnsOf, describe } = await import("../../static/tiles.js");

/** As much of an RTCPeerConnection as negotiation needs: its signaling states, with `implicit rollback`. */
class Connection {
  static all = [];

  constructor(configuration) {
    Object.assign(this, { configuration, signalingState: "stable", connectionState: "new", offers: 0, transceivers: [], candidates: [] });
    Connection.all.push(this);
  }

  addTransceiver(kind, { direction }) {
    const transceiver = {
      direction, kind: kind.kind ?? kind, receiver: { track: { kind: kind.kind ?? kind } },
      sender: { track: kind.kind ? kind : null, getParameters: () => ({ encodings: [] }), async replaceTrack(track) { this.track = track; } },
    };
    this.transceivers.push(transceiver);
    if (this.transceivers.length === 1) queueMicrotask(() => this.onnegotiationneeded());
    return transceiver;
  }

  getTransceivers() { return this.transceivers; }

  restartIce() { queueMicrotask(() => this.onnegotiationneeded()); }

  async setLocalDescription() {
    const isAnswer = this.signalingState === "have-remote-offer";
    if (!isAnswer) this.offers += 1;
    this.localDescription = { type: isAnswer ? "answer" : "offer", sdp: `${this.offers}` };
    this.signalingState = isAnswer ? "stable" : "have-local-offer";
  }

  async setRemoteDescription({ type }) {
    if (type === "answer") assert.equal(this.signalingState, "have-local-offer");
    this.signalingState = type === "offer" ? "have-remote-offer" : "stable";
    for (const kind of ["audio", "video"]) {
      if (!this.transceivers.some((one) => one.kind === kind)) this.addRemote(kind);
    }
  }

  addRemote(kind) {
    const needed = this.onnegotiationneeded;
    this.onnegotiationneeded = () => {};
    this.addTransceiver(kind, { direction: "recvonly" });
    queueMicrotask(() => { this.onnegotiationneeded = needed; });
  }

  async addIceCandidate(candidate) { this.candidates.push(candidate); }

  setConfiguration(configuration) { this.configuration = configuration; }

  become(state) {
    this.connectionState = state;
    this.onconnectionstatechange();
  }

  close() { this.connectionState = this.signalingState = "closed"; }
}

let now = 0;
let meshes = [];
let lost = () => false;

afterEach(() => {
  for (const { mesh } of meshes) mesh.close();
  Connection.all = [];
  meshes = [];
  lost = () => false;
  now = 0;
});

const settle = async () => { for (let n = 0; n < 30; n += 1) await new Promise((resolve) => { setImmediate(resolve); }); };

/** A person's page. What it sends arrives at once, unless it is lost. */
function page(userId, tab, more = {}) {
  const said = [];
  const send = async (to, data) => {
    said.push({ to, data });
    if (lost(userId, to, data)) return;
    for (const other of meshes) if (other.userId === to) other.mesh.receive(userId, structuredClone(data));
  };
  const mesh = openMesh({ meeting: "m", userId, tab, iceServers: [], send, changed: () => {}, connect: (c) => new Connection(c), clock: () => now, ...more });
  const one = { userId, tab, mesh, said, connections: () => mesh.pages().length, of: (kind) => said.filter(({ data }) => kind in data) };
  meshes.push(one);
  return one;
}

const people = () => meshes.map(({ userId }) => userId);
const stable = () => Connection.all.every(({ signalingState }) => signalingState === "stable" || signalingState === "closed");

test("two who say hello at once have one connection between them, and one offer", async () => {
  const [a, b] = [page("ana", "1"), page("ben", "2")];
  for (const { mesh } of [a, b]) mesh.hello(people());
  await settle();
  assert.equal(Connection.all.length, 2);
  assert.ok(stable());
  assert.deepEqual([a, b].map((one) => one.of("description").length), [1, 1]);
  assert.equal(b.mesh.pages()[0].tab, "1");
  assert.ok(a.mesh.pages()[0].audio && a.mesh.pages()[0].video);
});

test("three have three connections, whoever comes last", async () => {
  const three = [page("ana", "1"), page("cy", "3")];
  three[0].mesh.hello(people());
  await settle();
  three.push(page("ben", "2"));
  three[2].mesh.hello(people());
  three[0].mesh.hello(people());
  await settle();
  assert.deepEqual(three.map((one) => one.connections()), [2, 2, 2]);
  assert.equal(Connection.all.length, 6);
  assert.ok(stable());
});

test("both may restart ICE at once: the one's offer gives way to the other's", async () => {
  const [a, b] = [page("ana", "1"), page("ben", "2")];
  a.mesh.hello(people());
  await settle();
  const [ofBen, ofAna] = Connection.all; // ben leads: his id is the greater
  const offers = ofBen.offers;
  for (const connection of [ofBen, ofAna]) connection.restartIce();
  await settle();
  assert.ok(stable());
  assert.equal(ofBen.offers, offers + 1);
  assert.deepEqual([a, b].map((one) => one.connections()), [1, 1]);
});

test("an offer, an answer or a hello that is lost is made up for", async () => {
  for (const what of ["description", "hello"]) {
    const [a, b] = [page(`ana-${what}`, "1"), page(`ben-${what}`, "2")];
    let once = true;
    lost = (_from, _to, data) => what in data && once && !(once = false);
    a.mesh.hello([b.userId]);
    await settle();
    for (let n = 0; n < 4; n += 1) {
      now += PATIENCE_MS + 1;
      if (what === "hello") a.mesh.hello([b.userId]); // as after the next rejoin
      for (const { mesh } of [a, b]) mesh.watch();
      await settle();
    }
    const [one] = b.mesh.pages();
    assert.ok(one?.audio, what);
    assert.ok(stable(), what);
  }
});

test("a connection that does not come about is given up, and made anew when they say hello", async () => {
  const [a, b] = [page("ana", "1"), page("ben", "2")];
  a.mesh.hello(people());
  await settle();
  lost = () => true;
  now += GIVE_UP_MS + 1;
  for (const { mesh } of [a, b]) mesh.watch();
  await settle();
  assert.deepEqual([a, b].map((one) => one.connections()), [0, 0]);
  lost = () => false;
  a.mesh.hello(people());
  await settle();
  assert.deepEqual([a, b].map((one) => one.connections()), [1, 1]);
});

test("one side that lost its connection gets another, though the other side still thinks that it has one", async () => {
  const [a, b] = [page("ana", "1"), page("ben", "2")];
  a.mesh.hello(people());
  await settle();
  for (const connection of Connection.all) connection.become("connected");
  a.mesh.dropPerson("ben");
  a.mesh.hello(people());
  await settle();
  assert.equal(Connection.all.length, 4);
  assert.deepEqual(Connection.all.map(({ connectionState }) => connectionState === "closed"), [true, true, false, false]);
  assert.equal(b.connections(), 1);
});

test("a page that was reloaded stands in place of the one before", async () => {
  const b = page("ben", "2");
  const a = page("ana", "1");
  a.mesh.hello(people());
  await settle();
  lost = () => true; // its farewell does not arrive
  await a.mesh.close();
  lost = () => false;
  meshes = [b];
  const again = page("ana", "9", { instead: "1" });
  again.mesh.hello(people());
  await settle();
  assert.deepEqual(b.mesh.pages().map(({ tab }) => tab), ["9"]);
});

test("two tabs of one person are two connections, and what is for one is not taken by the other", async () => {
  const [one, two, b] = [page("ana", "1"), page("ana", "2"), page("ben", "3")];
  for (const { mesh } of [one, two, b]) mesh.hello(people());
  await settle();
  assert.equal(b.connections(), 2);
  assert.deepEqual([one, two].map((tab) => tab.connections()), [1, 1]);
  assert.equal(Connection.all.length, 4);
  await one.mesh.close();
  assert.deepEqual(b.mesh.pages().map(({ tab }) => tab), ["2"]);
});

test("nobody beyond the limit is connected to, nor anybody of another meeting", async () => {
  const a = page("ana", "1", { maxPeople: 3 });
  for (const id of ["ben", "cy", "dan"]) page(id, id);
  const stranger = page("eve", "7", { meeting: "another" });
  for (const { mesh } of meshes) mesh.hello(["ana"]);
  stranger.mesh.hello(["ana"]);
  await settle();
  assert.deepEqual(a.mesh.pages().map(({ userId }) => userId), ["ben", "cy"]);
});

test("what is sent changes without negotiation, and credentials without a new connection", async () => {
  const [a, b] = [page("ana", "1"), page("ben", "2")];
  a.mesh.hello(people());
  await settle();
  const before = Connection.all.map(({ offers }) => offers);
  const track = { kind: "video" };
  await a.mesh.setTrack("video", track);
  a.mesh.tell({ mic: false, camera: true, screen: false });
  a.mesh.setIceServers([{ urls: "turn:x" }]);
  await settle();
  assert.deepEqual(Connection.all.map(({ offers }) => offers), before);
  assert.equal(b.mesh.pages()[0].sending.camera, true);
  const own = Connection.all.find(({ transceivers }) => transceivers.some(({ sender }) => sender.track === track));
  assert.equal(own.configuration.iceServers[0].urls, "turn:x");
});

test("a stranger whose id looks like somebody's page is not taken for it", async () => {
  const [b, a] = [page("ben", "0"), page("a", "b/c")];
  a.mesh.hello(people());
  await settle();
  for (const said of [{ bye: true }, { hello: {}, instead: "c" }]) b.mesh.receive("a/b", { meeting: "m", tab: "c", ...said });
  assert.ok(b.mesh.pages().some(({ userId, tab }) => userId === "a" && tab === "b/c"));
});

test("a track that one connection refuses is given to the others", async () => {
  const [a] = [page("ana", "1"), page("ben", "2"), page("cy", "3")];
  for (const { mesh } of meshes) mesh.hello(people());
  await settle();
  const track = { kind: "video" };
  for (const one of Connection.all) one.transceivers.forEach(({ sender, kind }) => kind === "video" && (sender.kept = sender.replaceTrack));
  Connection.all[0].transceivers[1].sender.replaceTrack = async () => { throw new Error("closed"); };
  const warn = console.warn;
  console.warn = () => {};
  for (const { mesh } of meshes) await mesh.setTrack("video", track);
  console.warn = warn;
  assert.equal(Connection.all.filter(({ transceivers }) => transceivers[1].sender.track === track).length, 5);
  assert.equal(a.connections(), 2);
});

test("where a browser takes no credentials into a connection, the next one has them", async () => {
  const [a] = [page("ana", "1"), page("ben", "2")];
  for (const { mesh } of meshes) mesh.hello(people());
  await settle();
  for (const one of Connection.all) one.setConfiguration = undefined;
  const info = console.info;
  console.info = () => {};
  a.mesh.setIceServers([{ urls: "turn:x" }]);
  console.info = info;
  for (const one of Connection.all) one.become("connected");
  a.mesh.dropPerson("ben");
  a.mesh.hello(people());
  await settle();
  assert.ok(Connection.all.some(({ configuration }) => configuration.iceServers[0]?.urls === "turn:x"));
});

test("a hello that comes too soon for the server is said again until it is taken", async () => {
  let refusals = 3;
  const a = page("ana", "1", { async send(to, data) {
    if (data.hello && refusals-- > 0) throw Object.assign(new Error("later"), { status: 429, retryAfterMs: 1 });
    a.said.push({ to, data });
  } });
  await a.mesh.hello(["ben"]);
  assert.deepEqual(a.said.map(({ to }) => to), ["ben"]);
});

test("to whom no way is found is said, also while it is tried anew, until there is one", async () => {
  const [a, b] = [page("ana", "1"), page("ben", "2")];
  a.mesh.hello(people());
  await settle();
  const unreached = () => [a, b].map(({ mesh }) => mesh.pages().map((one) => one.unreached));
  const pass = async (ms) => {
    now += ms;
    for (const { mesh } of [a, b]) mesh.watch();
    await settle();
  };
  await pass(UNREACHED_MS - 1);
  assert.deepEqual(unreached(), [[false], [false]]);
  await pass(1);
  assert.deepEqual(unreached(), [[true], [true]]);
  await pass(GIVE_UP_MS);
  assert.deepEqual(unreached(), [[true], [true]], "what was given up and begun again is not a new matter");
  for (const one of Connection.all.filter(({ signalingState }) => signalingState !== "closed")) one.become("connected");
  assert.deepEqual(unreached(), [[false], [false]]);
  for (const one of Connection.all.filter(({ signalingState }) => signalingState !== "closed")) one.become("disconnected");
  await pass(UNREACHED_MS);
  assert.deepEqual(unreached(), [[false], [false]], "who was reached is interrupted");
});

test("candidates that are found together go together", async () => {
  const [a, b] = [page("ana", "1"), page("ben", "2")];
  a.mesh.hello(people());
  await settle();
  const [ofBen, ofAna] = Connection.all;
  for (const candidate of ["x", "y", "z"]) ofBen.onicecandidate({ candidate: { toJSON: () => candidate } });
  await new Promise((resolve) => { setTimeout(resolve, BATCH_MS * 2); });
  await settle();
  assert.deepEqual(b.of("candidates").map(({ data }) => data.candidates), [["x", "y", "z"]]);
  assert.deepEqual(ofAna.candidates, ["x", "y", "z"]);
});

// Words and places

test("the reason why there is no camera is said", () => {
  assert.match(sentenceFor({ name: "NotAllowedError" }, ["mic", "camera"]), /does not let this page use your microphone and camera/);
  assert.match(sentenceFor({ name: "NotFoundError" }, ["camera"]), /No camera was found/);
  assert.match(sentenceFor({ name: "NotReadableError" }, ["mic"]), /another program/);
});

test("the video of another provider is a link that opens its room, or a sentence", () => {
  assert.equal(placeOf({ provider: "daily", url: "https://school.daily.co/a", token: "x.y" }).url, "https://school.daily.co/a?t=x.y");
  assert.equal(placeOf({ provider: "jitsi", url: "https://meet.example/a?jwt=x", token: "x" }).url, "https://meet.example/a?jwt=x");
  assert.equal(placeOf({ provider: "chime", url: null, token: "x" }).url, null);
  assert.match(placeOf({ provider: "chime", url: null, token: "x" }).sentence, /Amazon Chime SDK/);
  assert.equal(placeOf({ provider: "jitsi", url: "javascript:alert(1)" }).url, null);
});

test("why somebody is not seen is said with what may help", () => {
  assert.equal(unreachedSentence([], []), "");
  assert.match(unreachedSentence(["Ana"], [{ urls: "stun:x" }]), /^No connection to Ana yet: .*another network.* relay/);
  assert.match(unreachedSentence(["Ana", "Ben"], []), /Ana and Ben/);
  assert.doesNotMatch(unreachedSentence(["Ana"], [{ urls: ["stun:x", "turns:x"] }]), /relay/);
});

test("a pass is renewed before it ends, and never in a hurry", () => {
  assert.equal(renewIn(new Date(100_000_000), 0), 80_000_000);
  assert.equal(renewIn(new Date(1_000), 0), 30_000);
  assert.equal(renewIn(new Date(1e13), 0), 2 ** 31 - 1);
});

test("a tile says what it shows", () => {
  const tile = { name: "Ana", me: false, mic: false, micAllowed: true, video: null, screen: false, phase: "connected" };
  assert.equal(describe(tile), "Ana, microphone off, camera off");
  assert.equal(describe({ ...tile, phase: "connecting", unreached: true }), "Ana, no connection yet, microphone off, camera off");
  assert.equal(describe({ ...tile, micAllowed: false, phase: "interrupted" }), "Ana, reconnecting, microphone turned off by the host, camera off");
  assert.deepEqual([1, 2, 3, 4, 5, 6].map((count) => columnsOf(count, false)), [1, 2, 3, 2, 3, 3]);
});

test("pictures of a film stand beside each other, none over another", () => {
  for (let count = 1; count <= 7; count += 1) {
    const places = grid(count, 1280, 720);
    assert.equal(places.length, count);
    for (const { x, y, w, h } of places) assert.ok(x >= 0 && y >= 0 && x + w <= 1280.01 && y + h <= 720.01);
  }
  assert.deepEqual(fit({ w: 640, h: 480 }, { x: 0, y: 0, w: 320, h: 180 }, true).to, { x: 40, y: 0, w: 240, h: 180 });
  assert.deepEqual(fit({ w: 640, h: 480 }, { x: 0, y: 0, w: 320, h: 180 }, false).from, { x: 0, y: 60, w: 640, h: 360 });
});
