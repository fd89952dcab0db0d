// A film on its way, without a browser: what is sent of it, and what is not tried again.
import assert from "node:assert/strict";
import test from "node:test";

import { answerRequests } from "./requests.mjs";

globalThis.localStorage = { kept: new Map(), getItem: (key) => localStorage.kept.get(key) ?? null, setItem: (key, value) => localStorage.kept.set(key, value) };

/** Web Locks of one browser, as far as films need them. */
const held = new Set();
let refuses = false; // as where the browser keeps nothing for the site
const denied = async () => { throw new DOMException("The request was denied.", "SecurityError"); };
const locks = {
  async request(name, { ifAvailable }, act) {
    if (refuses) return denied();
    if (ifAvailable && held.has(name)) return act(null);
    held.add(name);
    return Promise.resolve(act({ name })).finally(() => held.delete(name));
  },
  query: async () => (refuses ? denied() : { held: [...held].map((name) => ({ name })) }),
};
Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });

const { announceFilm, dropOld, openSender, takeOver } = await import("../../static/films.js");
const { hold, isHeld } = await import("../../static/locks.js");
const { goingOn } = await import("../../static/unsent.js");

const settle = () => new Promise((resolve) => { setTimeout(resolve, 1); });
const KEY = "encounters.recording";
const PATH = "/uploads/1";
const token = () => "t";
const open = () => JSON.parse(localStorage.getItem(KEY) ?? "{}");
const answer = (status, headers = {}, error = "") => ({ status, headers, text: status < 300 ? "" : JSON.stringify({ error, message: error, status_code: status }) });

/**
 * A server that takes one film, and refuses what the real one refuses. `trouble(number, method)` answers a request with a
 * status, or breaks it off "before" or "after" it was done; "half" of the bytes come.
 */
function server(trouble = () => null, { most = Infinity } = {}) {
  const there = { bytes: "", length: null, deleted: false, announced: [], requests: [] };
  const serve = async ({ method, headers, body }) => {
    there.requests.push({ method, headers });
    const wrong = trouble(there.requests.length, method, there);
    if (wrong === "before") throw new TypeError("cut");
    if (typeof wrong === "number") return answer(wrong, {}, "refused");
    if (Array.isArray(wrong)) return answer(wrong[0], {}, wrong[1]);
    if (method === "POST") {
      there.announced.push(headers["Upload-Metadata"]);
      if (wrong === "after") throw new TypeError("cut");
      return answer(201, { Location: PATH });
    }
    if (there.deleted) return answer(404, {}, "upload_not_found");
    if (method === "DELETE") {
      there.deleted = true;
      return answer(204);
    }
    if (method === "PATCH") {
      if (Number(headers["Upload-Offset"]) !== there.bytes.length) return answer(409, {}, "offset_mismatch");
      let text = body ? await body.text() : "";
      if (wrong === "half") text = text.slice(0, text.length / 2);
      if (there.length !== null) return answer(204, { "Upload-Offset": String(there.bytes.length) });
      there.bytes += text;
      if (there.bytes.length > most) {
        there.bytes = there.bytes.slice(0, most);
        there.length = most;
        return answer(413, {}, "file_too_large");
      }
      if (wrong !== "half" && headers["Upload-Length"]) {
        assert.equal(body, null, "the length is said when all bytes have come");
        if (Number(headers["Upload-Length"]) < there.bytes.length) return answer(400, {}, "upload_too_short");
        there.length = Number(headers["Upload-Length"]);
      }
    }
    if (wrong === "after" || wrong === "half") throw new TypeError("cut");
    const length = there.length === null ? {} : { "Upload-Length": String(there.length) };
    return answer(method === "HEAD" ? 200 : 204, { "Upload-Offset": String(there.bytes.length), ...length });
  };
  answerRequests((request) => serve(request).then((answered) => request.end(answered), (broken) => {
    if (broken instanceof TypeError) request.abort();
    else throw broken;
  }));
  return there;
}

const sender = () => openSender({ token, path: PATH, owner: { userId: "u", ref: "r" }, wait: async () => {} });

async function sendAll(film) {
  for (const piece of ["one ", "two ", "", "three ", "four"]) {
    film.add(new Blob([piece]));
    await settle();
  }
  film.end();
  await film.done;
}

test("a film arrives whole and in order, whatever happens on the way", async () => {
  const every = (n, what) => (number) => (number % n === 0 ? what : null);
  for (const trouble of [() => null, every(3, "before"), every(3, "after"), every(3, "half"), every(5, 503), every(3, [409, "offset_mismatch"]), every(3, 423)]) {
    const there = server(trouble);
    await sendAll(sender());
    assert.equal(there.bytes, "one two three four");
    assert.equal(there.length, 18);
    assert.deepEqual(open(), {}, "nothing is left to be ended");
  }
});

test("what is left of a film is told until all of it has come", async () => {
  let away = true;
  server(() => (away ? "before" : null));
  const film = openSender({ token, path: PATH, owner: {}, wait: settle });
  film.add(new Blob(["12345"]));
  film.end();
  await settle();
  assert.equal(film.left(), 5);
  away = false;
  await film.done;
  assert.equal(film.left(), 0);
});

test("a film of which nothing was made is given up", async () => {
  const there = server();
  const film = sender();
  film.end();
  await film.done;
  assert.ok(there.deleted);
  assert.equal(there.bytes, "");
});

for (const [status, error] of [[400, "x"], [403, "x"], [404, "upload_not_found"], [409, "recording_has_file"], [410, "x"], [412, "tus_version"], [413, "quota_exceeded"], [415, "x"]]) {
  test(`what is refused with ${status} ${error} is not sent again`, async () => {
    const there = server(() => [status, error]);
    await assert.rejects(announceFilm({ token, about: {}, wait: async () => {} }), { status, code: error });
    assert.equal(there.requests.length, 1);
    const film = sender();
    film.add(new Blob(["x"]));
    await assert.rejects(film.done, { status });
    assert.equal(there.requests.length, 2);
  });
}

test("an announcement whose answer is lost is made again by the same page", async () => {
  const there = server((number) => (number === 1 ? "after" : null));
  assert.equal(await announceFilm({ token, about: { recording_id: "r" }, wait: async () => {} }), PATH);
  assert.equal(there.announced.length, 2);
  assert.equal(there.announced[0], there.announced[1]);
  assert.match(there.announced[0], /page \S+/);
});

test("a film that may not be larger says so, and how far it came", async () => {
  const there = server(() => null, { most: 6 });
  const film = sender();
  film.add(new Blob(["four"]));
  await settle();
  film.add(new Blob(["five5"]));
  await assert.rejects(film.done, { code: "file_too_large" });
  assert.equal(there.bytes.length, 6);
  assert.equal(film.sent(), 4);
});

test("a film that the server took for ended is not sent for ever", async () => {
  const there = server();
  const film = sender();
  film.add(new Blob(["one"]));
  await settle();
  there.length = 3;
  film.add(new Blob(["two"]));
  await assert.rejects(film.done, { code: "film_ended" });
  assert.equal(there.bytes, "one");
});

const left = (more = {}) => localStorage.setItem(KEY, JSON.stringify({ [PATH]: { userId: "u", ref: "r", ...more } }));
const pageOf = (announced) => /page ([^,]+)/.exec(announced)[1];

/** All that was left, once it has been seen to. */
const endAll = async (owner, wait = settle) => {
  const films = await takeOver({ token, ...owner, wait });
  await Promise.all(films.map(({ done }) => done));
  return films.length;
};

test("what a page that is gone has left open is ended with what came, by who records the same lesson", async () => {
  const there = server();
  there.bytes = "what came";
  left();
  for (const other of [{ userId: "another", ref: "r" }, { userId: "u", ref: "another" }]) assert.equal(await endAll(other), 0);
  assert.equal(there.requests.length, 0);
  await endAll({ userId: "u", ref: "r" });
  assert.equal(there.length, 9);
  assert.deepEqual(open(), {});
});

test("who takes a film over records by the name of the page that made it, and need not wait for its end", async () => {
  let away = true;
  const there = server((_number, method) => (away && method === "HEAD" ? "before" : null));
  there.bytes = "what came";
  left({ page: "before" });
  const [film] = await takeOver({ token, userId: "u", ref: "r", wait: settle });
  await announceFilm({ token, about: {} });
  assert.equal(pageOf(there.announced[0]), btoa("before"));
  assert.deepEqual(await takeOver({ token, userId: "u", ref: "r" }), [], "it is taken over once");
  away = false;
  await film.done;
  assert.equal(there.length, 9);
});

test("what could not be ended is ended as soon as it can be, and what is there no more is forgotten", async () => {
  left();
  const there = server((number) => (number < 4 ? 503 : null));
  there.bytes = "what came";
  await endAll({ userId: "u", ref: "r" });
  assert.equal(there.length, 9);
  left();
  server(() => 404);
  await assert.rejects(endAll({ userId: "u", ref: "r" }), { status: 404 });
  assert.deepEqual(open(), {});
});

test("what a proxy says of a film ends nothing", async () => {
  const there = server((number) => (number < 4 ? [403, null] : null));
  const film = sender();
  film.add(new Blob(["one"]));
  film.end();
  await film.done;
  assert.equal(there.length, 3);
});

test("of what is kept of a film, that is sent which the server lacks, as far as there is no gap", async () => {
  const kept = [[3, "one"], [6, "two"], [11, "three"], [19, "five"]].map(([end, text]) => ({ end, piece: new Blob([text]) }));
  const from = (offset) => new Blob(goingOn(kept, offset)).text();
  assert.equal(await from(0), "onetwothree");
  assert.equal(await from(4), "wothree");
  assert.equal(await from(11), "");
  assert.equal(await from(16), "ive");
  assert.equal(await from(19), "");
});

test("what a page of this browser still sends is not ended by another", async () => {
  const there = server();
  left();
  const letGo = await hold(`${KEY} ${PATH}`);
  assert.ok(await isHeld(`${KEY} ${PATH}`));
  assert.equal(await endAll({ userId: "u", ref: "r" }), 0);
  assert.equal(there.requests.length, 0);
  letGo();
  await settle();
  assert.equal(await isHeld(`${KEY} ${PATH}`), false);
});

test("locks that the browser refuses stop nothing, and nothing is taken over where nobody knows who lives", async () => {
  const there = server();
  refuses = true;
  try {
    await sendAll(sender());
    assert.equal(there.length, 18);
    left();
    assert.equal(await endAll({ userId: "u", ref: "r" }), 0);
    assert.equal(await isHeld(`${KEY} ${PATH}`), false);
    assert.equal(await hold("other", { alone: true, without: null }), null);
    (await hold("other", { alone: true }))();
  } finally {
    refuses = false;
  }
});

test("a film for which nobody came back in a day is forgotten, also by who is somebody else", async () => {
  const young = { userId: "u", ref: "r", at: Date.now() - 23 * 60 * 60 * 1_000 };
  const old = { userId: "another", ref: "another", at: Date.now() - 25 * 60 * 60 * 1_000 };
  localStorage.setItem(KEY, JSON.stringify({ "/uploads/young": young, "/uploads/old": old }));
  await dropOld();
  assert.deepEqual(open(), { "/uploads/young": young });
  localStorage.setItem(KEY, "{}");
});

test("of a film whose server answers without saying how far it came, nothing is thrown away", async () => {
  const there = server();
  const { send } = XMLHttpRequest.prototype;
  let isProxys = 0;
  XMLHttpRequest.prototype.send = function answered(body) {
    if (isProxys) this.end({ status: 200, headers: {}, text: "<html>Sign in to this network</html>" });
    else send.call(this, body);
    isProxys -= isProxys && 1;
  };
  const film = sender();
  film.add(new Blob(["one"]));
  await settle();
  isProxys = 2;
  film.add(new Blob(["two"]));
  film.end();
  await film.done;
  assert.equal(there.bytes, "onetwo");
});

test("a film of nothing, whose giving up was not answered, is given up", async () => {
  const there = server((_number, method) => (method === "DELETE" && !there.deleted ? (there.deleted = true, "before") : null));
  const film = sender();
  film.end();
  await film.done;
  assert.deepEqual(there.requests.map(({ method }) => method), ["DELETE", "DELETE"]);
});

test("where a proxy takes no large bodies, smaller ones are sent", async () => {
  const KIB = 1024;
  const sizes = [];
  let offset = 0;
  answerRequests((request) => {
    const { method, body } = request;
    const size = body?.size ?? 0;
    if (method === "PATCH" && size) sizes.push(size / KIB);
    if (size > 1_024 * KIB) return request.end({ status: 413, text: "<html>Request Entity Too Large" });
    offset += size;
    return request.end({ status: 204, headers: { "Upload-Offset": String(offset) } });
  });
  const film = sender();
  film.add(new Blob([new Uint8Array(9_000 * KIB)]));
  film.end();
  await film.done;
  assert.deepEqual(sizes.slice(0, 5), [8_192, 4_096, 2_048, 1_024, 1_024]);
  assert.equal(offset, 9_000 * KIB);
});

test("a store of the browser that is broken stops nothing", async () => {
  localStorage.setItem(KEY, "{not JSON");
  const there = server();
  await endAll({ userId: "u", ref: "r" });
  await sendAll(sender());
  assert.equal(there.length, 18);
});
