// What the page makes of the server's events: the pure modules of static/, run by Node's own test runner.
import assert from "node:assert/strict";
import test from "node:test";

import { openOutbox } from "../../static/outbox.js";
import { rowsOf } from "../../static/rows.js";
import { initialState, reduce } from "../../static/state.js";
import { initials, listNames, typingSentence } from "../../static/words.js";

const ANA = "ana";
const ME = "me";

const message = (seq, more = {}) => ({
  id: `id-${seq}`, seq, session_id: "s", from: "Ana Rivera", user_id: ANA, text: `text ${seq}`,
  created_at: new Date(2024, 1, 1, 10, seq).toISOString(), ...more,
});

const ack = (more = {}) => ({
  ok: true,
  session: {
    session_id: "s", room_name: "r", kind: "booking", status: "scheduled", teacher_id: ANA, student_id: ME,
    start_time: "2024-02-01T10:00:00Z", end_time: null,
  },
  participants: [{ userId: ME, name: "Maya" }],
  you: { userId: ME, name: "Maya", role: "student", is_host: false },
  lastSeq: 3,
  ...more,
});

const joined = (more) => ({ type: "joined", ack: ack(more) });
const history = (...seqs) => ({ type: "history", messages: seqs.map((seq) => message(seq)), complete: true });
const event = (name, data) => ({ type: "event", event: name, data });
const after = (...actions) => actions.reduce(reduce, initialState);
const seqs = (state) => state.messages.map(({ seq }) => seq);

test("an event that was seen before changes nothing", () => {
  const before = after(joined(), history(1, 2, 3));
  assert.deepEqual(reduce(before, event("newMessage", message(3, { id: "again" }))), before);
});

test("a new message moves the last seq, a read mark does not", () => {
  const state = after(joined(), history(1, 2, 3), event("newMessage", message(4)), event("read", { userId: ANA, seq: 99 }));
  assert.equal(state.lastSeq, 4);
  assert.deepEqual(seqs(state), [1, 2, 3, 4]);
});

test("what was missed runs through like live events", () => {
  const events = [
    { event: "newMessage", data: message(4) },
    { event: "messageEdited", data: { id: "id-4", seq: 5, text: "better", edited_at: "2024-02-01T11:00:00Z" } },
    { event: "messageDeleted", data: { id: "id-1", seq: 6 } },
    { event: "sessionStatus", data: { seq: 7, status: "live" } },
  ];
  const session = { ...ack().session, status: "live" };
  const state = after(joined(), history(1), joined({ lastSeq: 7, session, events }));
  assert.equal(state.messages[1].text, "better");
  assert.equal(state.messages[0].deleted, true);
  assert.equal(state.session.status, "live");
  assert.equal(state.lastSeq, 7);
});

test("a reset drops what was there for the newest", () => {
  const events = [{ event: "newMessage", data: message(600) }];
  const state = after(joined({ lastSeq: 900 }), history(1), joined({ lastSeq: 700, reset: true, events }));
  assert.deepEqual(seqs(state), [600]);
  assert.equal(state.lastSeq, 700);
  assert.equal(state.history, "more");
});

test("one's own message appears once, whether its event or its ack comes first", () => {
  const sent = message(4, { user_id: ME, client_id: "c" });
  const composed = { type: "compose", clientId: "c", text: "hi", at: sent.created_at };
  for (const news of [[event("newMessage", sent), { type: "message", message: sent }], [{ type: "message", message: sent }, event("newMessage", sent)]]) {
    const state = after(joined(), composed, ...news);
    assert.equal(state.outgoing.length, 0);
    assert.deepEqual(seqs(state), [4]);
  }
});

test("a message names those who have read up to it, from the join on", () => {
  const people = [{ userId: ME, name: "Maya" }, { userId: ANA, name: "Ana Rivera", readSeq: 3 }];
  const own = { type: "history", messages: [message(1), message(3, { user_id: ME })], complete: true };
  const rows = rowsOf(after(joined({ participants: people }), own), new Date(2024, 1, 2));
  assert.deepEqual(rows.at(-1).seenBy, ["Ana Rivera"]);
});

test("the outbox keeps the order, repeats with the same id, and waits while offline", async () => {
  let state = after(joined());
  const dispatch = (action) => { state = reduce(state, action); };
  for (const clientId of ["a", "b", "c"]) dispatch({ type: "compose", clientId, text: clientId, at: new Date().toISOString() });
  const tried = [];
  let live = true;
  const passing = () => Object.assign(new Error("away"), { passing: true, retryAfterMs: 0 });
  const send = async ({ clientId }) => {
    tried.push(clientId);
    if (tried.length === 1) throw passing();
    if (tried.length === 3) { live = false; throw passing(); }
    return { message: message(10 + tried.length, { user_id: ME, client_id: clientId }) };
  };
  const outbox = openOutbox({ dispatch, getState: () => state, isLive: () => live, wait: async () => {}, send });
  await outbox.pump();
  assert.deepEqual(tried, ["a", "a", "b"]);
  live = true;
  await outbox.pump();
  assert.deepEqual(tried, ["a", "a", "b", "b", "c"]);
  assert.equal(state.outgoing.length, 0);
});

test("names are listed as people say them", () => {
  assert.equal(listNames(["A", "B", "C", "D"]), "A, B and 2 others");
  assert.equal(initials("Ms Ana Rivera"), "AR");
  assert.equal(typingSentence(["A", "B"]), "A and B are typing…");
});
