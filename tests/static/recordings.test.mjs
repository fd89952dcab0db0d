// What the page makes of recordings and of the consent to them, and how it sends a file.
import assert from "node:assert/strict";
import test from "node:test";

import { consentOfOthers, consentToast, guardianNotice, ownConsent } from "../../static/consent.js";
import { factsOf } from "../../static/recordings.js";
import { initialState, reduce } from "../../static/state.js";
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
  const said = (consents) => ({ type: "consents", consents, children: [] });
  assert.equal(ownConsent(after({ type: "joined", ack: ack() }, said({}))), null);
  assert.equal(ownConsent(after({ type: "joined", ack: ack(asking) })), null, "nothing is known yet");
  assert.equal(ownConsent(after({ type: "joined", ack: ack(asking) }, said({}))), "open");
  assert.equal(ownConsent(after({ type: "joined", ack: ack(asking) }, said({ leo: true }))), "agreed");
  assert.equal(ownConsent(after({ type: "joined", ack: ack(asking) }, said({ leo: false }))), "declined");
  const host = { userId: "maya", name: "Maya", role: "teacher", is_host: true };
  assert.equal(ownConsent(after({ type: "joined", ack: ack({ ...asking, you: host }) }, said({}))), null);
});

test("a parent answers for the children whom the server names, and for no others", () => {
  const you = { userId: "nina", name: "Nina", role: "parent", is_host: false };
  const joined = { type: "joined", ack: ack({ ...asking, you }) };
  const said = (consents, ...children) => after(joined, { type: "consents", consents, children });
  const leo = { userId: "leo", name: "Leo" };
  assert.equal(ownConsent(said({ nina: true }, leo)), "open");
  assert.equal(ownConsent(said({ nina: true, leo: true }, leo)), "agreed");
  assert.equal(ownConsent(said({ nina: true })), "agreed");
});

test("a guardian who may not come in is asked for their child, and hears what they have said", () => {
  const acts = { decide: (agreed) => decided.push(agreed), leave: () => {} };
  const decided = [];
  const asked = (consents, children = [{ userId: "leo", name: "Leo" }]) => guardianNotice({ required: true, consents, children }, acts);
  assert.equal(asked({}).title, "May Leo be recorded in this lesson?");
  for (const { act } of asked({}).actions) act();
  assert.deepEqual(decided, [true, false]);
  assert.equal(asked({ leo: true }).title, "You have agreed that Leo is recorded");
  assert.equal(asked({ leo: false }).title, "You do not agree that Leo is recorded");
  assert.equal(asked({}, []), null);
  assert.equal(guardianNotice({ required: false, consents: {}, children: [{ userId: "leo", name: "Leo" }] }, acts), null);
});

test("a child hears what its guardian said, and its page knows it", () => {
  const state = after({ type: "joined", ack: ack(asking) }, { type: "consents", consents: {}, children: [] });
  const data = { userId: "leo", name: "Leo", agreed: true };
  assert.equal(ownConsent(reduce(state, event("recordingConsent", data))), "agreed");
  assert.equal(consentToast(data, state), "Your parent or guardian agrees that you are recorded.");
  assert.equal(consentToast({ ...data, userId: "nina", name: "Nina", agreed: false }, state), "Nina does not agree to be recorded.");
});

test("the host is told by name who has not agreed", () => {
  const you = { userId: "maya", name: "Maya", role: "teacher", is_host: true };
  let state = after({ type: "joined", ack: ack({ ...asking, you }) }, { type: "consents", consents: {}, children: [] });
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
  assert.equal(factsOf({ ...recording, status: "processing", file_name: null, arriving: true }), "Is being sent");
  assert.equal(factsOf({ ...recording, status: "failed", failure: "It is no film.", duration_seconds: null, file_size_bytes: null }), "Failed · It is no film.");
});

test("times and sizes are short", () => {
  assert.deepEqual([0, 65, 3_725].map(duration), ["0:00", "1:05", "1:02:05"]);
  assert.deepEqual([820, 14_400, 4_249_000, 2_147_483_648].map(fileSize), ["820 bytes", "14 KB", "4.2 MB", "2.1 GB"]);
});
