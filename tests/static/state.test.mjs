// What the page makes of the server's events: the pure modules of static/, run by Node's own test runner.
import assert from "node:assert/strict";
import test from "node:test";

import { openOutbox } from "../../static/outbox.js";
import { rowsOf } from "../../static/rows.js";
import { headcount, initialState, pinnedMessage, reduce, writing } from "../../static/state.js";
import { initials, listNames, seconds, typingSentence } from "../../static/words.js";

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
  assert.equal(state.history, "none", "what came may be no messages at all: the history is read again");
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

const settings = (more = {}) => ({ locked: false, waitingRoom: false, chatMuted: false, slowModeSeconds: 0, recordingConsent: false, ...more });
const rowOf = (state) => rowsOf(state, new Date(2024, 1, 2)).find((row) => row.kind === "message");

test("reactions are counted, one's own are known, and what else is read of the message is no newer", () => {
  const reaction = (seq, userId, reacted, reactions) =>
    event("messageReaction", { id: "id-3", seq, userId, emoji: "👍", reacted, reactions });
  let state = after(joined(), history(3), reaction(4, ANA, true, { "👍": 1 }), reaction(5, ME, true, { "👍": 2, "🎉": 2 }));
  assert.deepEqual(rowOf(state).reactions, [{ emoji: "🎉", count: 2, mine: false }, { emoji: "👍", count: 2, mine: true }]);
  state = reduce(state, history(3));
  assert.equal(rowOf(state).reactions.length, 2);
  state = reduce(state, reaction(6, ME, false, { "👍": 1 }));
  assert.deepEqual(rowOf(state).reactions, [{ emoji: "👍", count: 1, mine: false }]);
  assert.equal(state.lastSeq, 6);
  state = reduce(state, event("messageDeleted", { id: "id-3", seq: 7 }));
  assert.deepEqual(rowOf(state).reactions, []);
});

test("the pinned message is found on the page or read, and gone with its deletion", () => {
  const pin = (seq, id) => event("messagePinned", { seq, id });
  let state = after(joined(), history(2, 3), pin(4, "id-2"));
  assert.equal(pinnedMessage(state).text, "text 2");
  state = reduce(state, pin(5, "id-0"));
  assert.equal(pinnedMessage(state), null);
  state = reduce(state, { type: "pinned", message: message(0) });
  state = reduce(state, event("messageEdited", { id: "id-0", seq: 6, text: "better", edited_at: "2024-02-01T11:00:00Z" }));
  assert.equal(pinnedMessage(state).text, "better");
  state = reduce(state, pin(7, "id-3"));
  state = reduce(state, event("messageDeleted", { id: "id-3", seq: 8 }));
  assert.equal(pinnedMessage(state), null);
  assert.equal(pinnedMessage(reduce(state, pin(9, null))), null);
});

test("a rejoin has the last word on what the host has set", () => {
  const session = { ...ack().session, ...settings({ chatMuted: true }), pinnedMessageId: "id-2" };
  const state = after(joined(), history(2), event("sessionSettings", { seq: 4, ...settings({ locked: true }) }), joined({ session, lastSeq: 9 }));
  assert.deepEqual(state.session.settings, settings({ chatMuted: true }));
  assert.equal(pinnedMessage(state).id, "id-2");
});

test("a muted chat and slow mode bind everybody but the host", () => {
  const set = (more) => event("sessionSettings", { seq: 4, ...settings(more) });
  const host = { you: { ...ack().you, is_host: true } };
  assert.deepEqual(writing(after(joined(), set({ chatMuted: true })), 0), { muted: true, wait: 0 });
  assert.deepEqual(writing(after(joined(host), set({ chatMuted: true })), 0), { muted: false, wait: 0 });
  const slow = after(joined(), set({ slowModeSeconds: 30 }), { type: "chatted", at: 1_000 });
  assert.equal(writing(slow, 11_000).wait, 20_000);
  assert.equal(writing(slow, 60_000).wait, 0);
  const before = after(joined(), { type: "chatted", at: 1_000 }, set({ slowModeSeconds: 30 }));
  assert.equal(writing(before, 2_000).wait, 0, "what was written before does not count");
  assert.equal(slow.notes.at(-1).text, "Slow mode: one message every 30 s.");
});

test("an own message cannot be edited while the chat is muted", () => {
  const own = { type: "history", messages: [message(3, { user_id: ME })], complete: true };
  const muted = event("sessionSettings", { seq: 4, ...settings({ chatMuted: true }) });
  assert.equal(rowOf(after(joined(), own)).canEdit, true);
  assert.equal(rowOf(after(joined(), own, muted)).canEdit, false);
});

test("those who wait come and go, and nobody waits who is in", () => {
  const waits = (userId, waiting) => event("waiting", { userId, name: userId, role: "student", waiting });
  const state = after(joined({ waiting: [{ userId: "a", name: "A", role: "student" }] }), waits("b", true), waits("c", true), waits("c", false));
  assert.deepEqual(Object.keys(state.waiting), ["a", "b"]);
  assert.deepEqual(Object.keys(reduce(state, event("participantJoined", { userId: "a", name: "A" })).waiting), ["b"]);
});

test("of a large class the count is kept, and the names are read when they are asked for", () => {
  const person = (userId) => ({ userId, name: userId });
  const here = (state) => [headcount(state), Object.keys(state.people)];
  let state = after(joined({ participants: [person("a"), person(ME)], participantCount: 6 }));
  assert.deepEqual(here(state), [6, ["a", ME]]);
  state = [
    event("participantJoined", person("g")), event("participantLeft", { userId: "b" }),
    event("participantKicked", { userId: "a", seq: 4 }), event("participantLeft", { userId: "a" }),
    event("participantKicked", { userId: "c", seq: 5 }),
  ].reduce(reduce, state);
  assert.deepEqual(here(state), [5, [ME, "g"]]);
  const page = { type: "people", people: ["a", "b", "c", ME, "d"].map(person), complete: false };
  state = reduce(reduce(state, page), event("participantLeft", { userId: "c" }));
  assert.deepEqual(here(state), [4, [ME, "g", "d"]], "those who have left meanwhile are not among them");
  state = reduce(state, { type: "people", people: [person("e")], complete: true });
  assert.deepEqual(here(state), [4, [ME, "g", "d", "e"]]);
  assert.equal(state.names.e, "e");
  assert.deepEqual(here(reduce(state, event("participantLeft", { userId: "d" }))), [3, [ME, "g", "e"]]);
  assert.equal(reduce(state, page), state, "nobody asked any more");
  assert.equal(after(joined()).crowd, null);
});

test("one's own reactions of before are known, and those of since are newer", () => {
  const own = (reactions) => ({ type: "mine", reactions: reactions.map(([id, emoji]) => ({ message_id: id, emoji })) });
  const taken = event("messageReaction", { id: "id-3", seq: 4, userId: ME, emoji: "👍", reacted: false, reactions: { "🎉": 2 } });
  const state = after(joined(), history(3), taken, own([["id-3", "👍"], ["id-3", "🎉"]]));
  assert.deepEqual(rowOf(state).reactions, [{ emoji: "🎉", count: 2, mine: true }]);
  assert.equal(state.mine["id-3"]["👍"], false);
});

test("pauses are said in minutes and seconds", () => {
  assert.deepEqual([0, 10, 60, 90, 3_600].map(seconds), ["0 s", "10 s", "1 min", "1 min 30 s", "60 min"]);
});
