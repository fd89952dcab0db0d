// How the page sends a file, through whatever happens on the way.
import assert from "node:assert/strict";
import test, { afterEach } from "node:test";

import { sendFile } from "../../static/uploads.js";
import { answerRequests } from "./requests.mjs";

const KIB = 1024;
const MIB = 1024 * KIB;
const FIRST = 64 * KIB;
const film = new File([new Uint8Array(40 * MIB)], "film.webm");

/** A server that answers each request by `answer`; one that it does not answer hangs. Returns what it was asked. */
function serve(answer) {
  const asked = [];
  answerRequests((request) => {
    const { method, path, headers, body, upload } = request;
    const one = { method, path, offset: Number(headers["Upload-Offset"] ?? -1), size: body?.size ?? 0, upload };
    asked.push(one);
    const answered = answer(one, asked.length);
    if (answered) request.end(answered);
  });
  return asked;
}
afterEach(() => { delete globalThis.XMLHttpRequest; });

const reply = (status, headers = {}, document = null) => ({ status, headers, text: document === null ? "" : JSON.stringify(document) });
const refusal = (status, error, message = "") => reply(status, {}, { error, message, status_code: status });
const accept = ({ method, offset, size }) =>
  method === "POST" ? reply(201, { Location: "/uploads/1" }) : reply(204, { "Upload-Offset": String(offset + size) });
const html = (status) => ({ status, headers: { "Retry-After": "0.001" }, text: "<html>Bad Gateway</html>" });
const at = (offset) => reply(200, { "Upload-Offset": String(offset) });
const short = ({ method, path }) => `${method} ${path}`;

function send(more = {}) {
  const heard = { progress: [], begun: [] };
  const done = sendFile(film, {
    token: () => "t", path: null, about: { kind: "recording" }, begun: (path) => heard.begun.push(path),
    progress: (sent) => heard.progress.push(sent), signal: new AbortController().signal, ...more,
  });
  return { heard, done };
}

test("a file goes in pieces that end where parts do, the first a small one, and it is told how far it has come", async () => {
  const asked = serve((one) => {
    if (one.offset === FIRST) one.upload.onprogress({ loaded: MIB });
    return accept(one);
  });
  const { heard, done } = send();
  await done;
  assert.deepEqual(asked.map(({ method, offset }) => [method, offset]), [["POST", -1], ["PATCH", 0], ["PATCH", FIRST], ["PATCH", 16 * MIB], ["PATCH", 32 * MIB]]);
  assert.deepEqual(heard, { begun: ["/uploads/1"], progress: [0, FIRST, FIRST + MIB, 16 * MIB, 32 * MIB, 40 * MIB] });
});

for (const status of [500, 502, 503, 504, 408, 425, 429]) {
  test(`after a ${status} of a proxy the server is asked how far it came, and it goes on`, async () => {
    const asked = serve((one, number) => {
      if (number === 3) return html(status);
      return one.method === "HEAD" ? at(MIB) : accept(one);
    });
    const { heard, done } = send();
    await done;
    assert.deepEqual(asked.slice(3).map(({ method, offset }) => [method, offset]), [["HEAD", -1], ["PATCH", MIB], ["PATCH", 16 * MIB], ["PATCH", 32 * MIB]]);
    assert.deepEqual(heard.begun, ["/uploads/1"]);
  });
}

test("an access that has ended is told at once, in the server’s words", async () => {
  const ended = refusal(401, "token_expired", "Your access has ended.");
  const asked = serve((one, number) => (number === 2 ? ended : accept(one)));
  await assert.rejects(send().done, { status: 401, message: "Your access has ended." });
  assert.equal(asked.length, 2);
  const later = serve(({ method }) => (method === "HEAD" ? reply(401) : ended));
  await assert.rejects(send({ path: "/uploads/1" }).done, { status: 401, message: "Your access has ended." });
  assert.deepEqual(later.map(({ method }) => method), ["HEAD", "GET"]);
});

for (const status of [403, 404]) {
  test(`an upload of another day, of which a proxy says ${status}, is not begun anew`, async () => {
    const asked = serve((one) => (one.method === "POST" ? accept(one) : html(status)));
    await assert.rejects(send({ path: "/uploads/0" }).done, { status });
    assert.deepEqual(asked.map(({ method }) => method), ["HEAD", "GET"]);
  });
}

test("an upload of another day that the server has forgotten is begun anew", async () => {
  const asked = serve((one) => {
    if (one.method === "HEAD") return reply(404);
    return one.method === "GET" ? refusal(404, "upload_not_found") : accept(one);
  });
  const { heard, done } = send({ path: "/uploads/0" });
  await done;
  assert.deepEqual(asked.slice(0, 4).map(short), ["HEAD /uploads/0", "GET /uploads/0", "POST /uploads", "PATCH /uploads/1"]);
  assert.deepEqual(heard.begun, ["/uploads/1"]);
});

test("an upload that ends under way is not begun anew: the reason is asked for and said", async () => {
  const asked = serve((one) => {
    if (one.method === "PATCH") return reply(0);
    if (one.method === "HEAD") return reply(404);
    return one.method === "GET" ? refusal(404, "upload_not_found", "This is no film.") : accept(one);
  });
  await assert.rejects(send().done, { message: "This is no film." });
  assert.deepEqual(asked.map(short), ["POST /uploads", "PATCH /uploads/1", "HEAD /uploads/1", "GET /uploads/1"]);
});

test("what the server refuses is not tried again", async () => {
  for (const [status, code] of [[413, "file_too_large"], [409, "recording_has_file"], [409, "recording_failed"]]) {
    const asked = serve(() => refusal(status, code, "No."));
    await assert.rejects(send().done, { code, message: "No." });
    assert.equal(asked.length, 1);
  }
});

test("where another try got further, the server is asked how far", async () => {
  const asked = serve((one, number) => {
    if (number === 2) return reply(409, { "Retry-After": "0.001" }, { error: "offset_mismatch", status_code: 409 });
    return one.method === "HEAD" ? at(40 * MIB) : accept(one);
  });
  await send().done;
  assert.deepEqual(asked.map(({ method }) => method), ["POST", "PATCH", "HEAD"]);
});

test("a request of which nothing moves is broken off and tried again; one that moves is left in peace", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const asked = serve((one) => {
    if (asked.length === 2 || asked.length === 3) return null; // the first piece, and the question how far it came
    return one.method === "HEAD" ? at(0) : accept(one);
  });
  const { done } = send();
  while (asked.length < 2) await turn();
  for (let second = 0; second < 300; second += 50) {
    context.mock.timers.tick(50_000);
    asked[1].upload.onprogress({ loaded: 1 });
    await turn();
  }
  assert.equal(asked.length, 2);
  for (const pause of [1_000, 2_000]) {
    context.mock.timers.tick(60_000);
    await turn();
    context.mock.timers.tick(pause); // before it is tried again
    await turn();
  }
  await done;
  assert.deepEqual(asked.slice(2, 5).map(({ method }) => method), ["HEAD", "HEAD", "PATCH"]);
});

test("a person who cancels is heard at once, during a pause and in the midst of a request", async () => {
  for (const answered of [reply(503, {}, { error: "unavailable", status_code: 503, retry_after: 3_600 }), null]) {
    const abort = new AbortController();
    serve(() => {
      setTimeout(() => abort.abort(new Error("cancelled")));
      return answered;
    });
    await assert.rejects(send({ signal: abort.signal }).done, /cancelled/);
  }
});
