// What the page makes of recordings and of the consent to them, and how it sends a file.
import assert from "node:assert/strict";
import test, { afterEach } from "node:test";

import { consentOfOthers, ownConsent } from "../../static/consent.js";
import { factsOf } from "../../static/recordings.js";
import { initialState, reduce } from "../../static/state.js";
import { metadata, sendFile } from "../../static/uploads.js";
import { duration, fileSize } from "../../static/words.js";

const person = (userId, name) => ({ userId, name, role: "student" });
const ack = (more = {}) => ({
  ok: true, lastSeq: 1, you: { userId: "leo", name: "Leo", role: "student", is_host: false },
  participants: [person("maya", "Maya"), person("leo", "Leo"), person("nina", "Nina")],
  ...more,
  session: { session_id: "s", room_name: "r", kind: "booking", status: "live", teacher_id: "maya", student_id: "leo", ...more.session },
});
const after = (...actions) => actions.reduce(reduce, initialState);
const event = (name, data) => ({ type: "event", event: name, data });
const recordingState = (seq, state, id) => event("recordingState", { seq, state, recording_id: id, at: "2024-02-01T10:00:00Z" });
const asking = { session: { recordingConsent: true } };
const notes = (state) => state.notes.map(({ text }) => text);

test("who comes in later sees that the lesson is being recorded", () => {
  const state = after({ type: "joined", ack: ack({ session: { recordingId: "one" } }) });
  assert.equal(state.recording, "one");
  assert.equal(reduce(state, { type: "joined", ack: ack() }).recording, null);
});

test("what becomes of one recording does not end the mark of another", () => {
  const state = after({ type: "joined", ack: ack() }, recordingState(2, "recording", "two"), recordingState(3, "ready", "one"));
  assert.equal(state.recording, "two");
  assert.equal(reduce(state, recordingState(4, "processing", "two")).recording, null);
});

test("a film that is sent by itself is not said to have been stopped", () => {
  const state = after({ type: "joined", ack: ack() }, recordingState(2, "processing", "film"), recordingState(3, "ready", "film"));
  assert.deepEqual(notes(state), ["A recording can be watched."]);
  const stopped = after({ type: "joined", ack: ack() }, recordingState(2, "recording", "one"), recordingState(3, "processing", "one"));
  assert.deepEqual(notes(stopped), ["Recording started.", "Recording stopped."]);
});

test("one is asked only where the host wants to know, and by what was said before", () => {
  const said = (consents) => ({ type: "consents", consents });
  assert.equal(ownConsent(after({ type: "joined", ack: ack() }, said({}))), null);
  assert.equal(ownConsent(after({ type: "joined", ack: ack(asking) })), null, "nothing is known yet");
  assert.equal(ownConsent(after({ type: "joined", ack: ack(asking) }, said({}))), "open");
  assert.equal(ownConsent(after({ type: "joined", ack: ack(asking) }, said({ leo: true }))), "agreed");
  assert.equal(ownConsent(after({ type: "joined", ack: ack(asking) }, said({ leo: false }))), "declined");
  const host = { userId: "maya", name: "Maya", role: "teacher", is_host: true };
  assert.equal(ownConsent(after({ type: "joined", ack: ack({ ...asking, you: host }) }, said({}))), null);
});

test("a parent answers for the student of the lesson too", () => {
  const you = { userId: "nina", name: "Nina", role: "parent", is_host: false };
  const joined = { type: "joined", ack: ack({ ...asking, you }) };
  assert.equal(ownConsent(after(joined, { type: "consents", consents: { nina: true } })), "open");
  assert.equal(ownConsent(after(joined, { type: "consents", consents: { nina: true, leo: true } })), "agreed");
});

test("the host is told by name who has not agreed", () => {
  const you = { userId: "maya", name: "Maya", role: "teacher", is_host: true };
  let state = after({ type: "joined", ack: ack({ ...asking, you }) }, { type: "consents", consents: {} });
  assert.equal(consentOfOthers(state), "Leo and Nina have not answered yet.");
  state = reduce(state, event("recordingConsent", { userId: "leo", name: "Leo", agreed: false }));
  assert.equal(consentOfOthers(state), "Leo does not agree to be recorded. Nina has not answered yet.");
  for (const userId of ["leo", "nina"]) state = reduce(state, event("recordingConsent", { userId, name: "", agreed: true }));
  assert.equal(consentOfOthers(state), "Everybody who is here has agreed to be recorded.");
});

test("a recording says what it waits for, how long it is, or why there is none", () => {
  const recording = { status: "completed", file_name: "a.webm", duration_seconds: 125, file_size_bytes: 4_200_000, failure: null };
  assert.equal(factsOf(recording), "2:05 · 4.2 MB");
  assert.equal(factsOf({ ...recording, status: "processing", file_name: null }), "Waits for its file");
  assert.equal(factsOf({ ...recording, status: "failed", failure: "It is no film.", duration_seconds: null, file_size_bytes: null }), "Failed · It is no film.");
});

test("times and sizes are short", () => {
  assert.deepEqual([0, 65, 3_725].map(duration), ["0:00", "1:05", "1:02:05"]);
  assert.deepEqual([820, 14_400, 4_249_000, 2_147_483_648].map(fileSize), ["820 bytes", "14 KB", "4.2 MB", "2.1 GB"]);
});

test("metadata is Base64 of UTF-8, and what is not known is left out", () => {
  assert.equal(metadata({ kind: "recording", filename: "Übung.webm", recording_id: null }), "kind cmVjb3JkaW5n,filename w5xidW5nLndlYm0=");
});

const MIB = 1024 * 1024;
const film = new File([new Uint8Array(9 * MIB)], "film.webm");
const realFetch = globalThis.fetch;

/** A server that answers each request by `answer`, and what it was asked. */
function serve(answer) {
  const asked = [];
  globalThis.location = { href: "http://school.test/" };
  globalThis.fetch = async (path, { method, headers, body }) => {
    const one = { method, path, offset: Number(headers["Upload-Offset"] ?? -1), size: body?.size ?? 0 };
    asked.push(one);
    return answer(one, asked.length);
  };
  return asked;
}
afterEach(() => { globalThis.fetch = realFetch; });

const reply = (status, headers = {}, body = null) => new Response(body && JSON.stringify(body), { status, headers });
const accept = ({ method, offset, size }) =>
  method === "POST" ? reply(201, { Location: "/uploads/1" }) : reply(204, { "Upload-Offset": String(offset + size) });

function send(more = {}) {
  const heard = { progress: [], begun: [] };
  const done = sendFile(film, {
    token: () => "t", path: null, about: { kind: "recording" }, begun: (path) => heard.begun.push(path),
    progress: (sent) => heard.progress.push(sent), signal: new AbortController().signal, ...more,
  });
  return { heard, done };
}

test("a file goes in pieces, and it is told how far it has come", async () => {
  const asked = serve(accept);
  const { heard, done } = send();
  await done;
  assert.deepEqual(asked.map(({ method, offset }) => [method, offset]), [["POST", -1], ["PATCH", 0], ["PATCH", 4 * MIB], ["PATCH", 8 * MIB]]);
  assert.deepEqual(heard, { begun: ["/uploads/1"], progress: [0, 4 * MIB, 8 * MIB, 9 * MIB] });
});

test("after a break the server is asked how far it came", async () => {
  const asked = serve((one, number) => {
    if (number === 2) return reply(503, {}, { error: "unavailable", status_code: 503, retry_after: 0.001 });
    if (one.method === "HEAD") return reply(200, { "Upload-Offset": String(MIB) });
    return accept(one);
  });
  await send().done;
  assert.deepEqual(asked.slice(2).map(({ method, offset }) => [method, offset]), [["HEAD", -1], ["PATCH", MIB], ["PATCH", 5 * MIB]]);
});

test("an upload that the server has forgotten is begun anew", async () => {
  const asked = serve((one) => (one.method === "HEAD" ? reply(404) : accept(one)));
  const { heard, done } = send({ path: "/uploads/0" });
  await done;
  assert.deepEqual(asked.slice(0, 3).map(({ method, path }) => [method, path]), [["HEAD", "/uploads/0"], ["POST", "/uploads"], ["PATCH", "/uploads/1"]]);
  assert.deepEqual(heard.begun, ["/uploads/1"]);
});

test("what the server refuses is not tried again", async () => {
  const asked = serve(() => reply(413, {}, { error: "file_too_large", message: "Too large.", status_code: 413 }));
  await assert.rejects(send().done, { code: "file_too_large", message: "Too large." });
  assert.equal(asked.length, 1);
});

test("a person who cancels is heard at once, during a pause too", async () => {
  const abort = new AbortController();
  serve(() => {
    setTimeout(() => abort.abort(new Error("cancelled")));
    return reply(503, {}, { error: "unavailable", status_code: 503, retry_after: 3_600 });
  });
  await assert.rejects(send({ signal: abort.signal }).done, /cancelled/);
});
