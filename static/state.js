/**
 * What a room is, as one value, and how everything that happens changes it.
 *
 * `reduce(state, action)` is pure: it never changes `state`, reads no clock and touches no page. Live events, the events
 * of a resumed connection and the user's own acts all come through here, so that they cannot disagree.
 *
 * @typedef {{userId: string, name: string, role: string, micAllowed: boolean, cameraAllowed: boolean,
 *            handRaised: boolean, joinedAt: string}} Person
 * @typedef {{id: string, seq: number, userId: string, from: string, text: string, at: string, editedAt: ?string,
 *            deleted: boolean, clientId: ?string, reactions: Object<string, number>}} Message
 * @typedef {{clientId: string, text: string, at: string, state: "pending" | "failed", problem: ?string}} Outgoing
 * @typedef {{seq: number, at: string, text: string}} Note   a line about the lesson, between the messages
 */

import { countReactions, editMessage, mergeMessages, readMessage, removeMessage } from "./messages.js";
import { readSession, readSettings } from "./lesson.js";
import { seconds } from "./words.js";

export const initialState = Object.freeze({
  me: null, //            {userId, name, role, isHost} once joined
  session: null, //       see lesson.js, once joined
  people: {}, //          userId → Person: who is here now, as far as `crowd` has not more
  crowd: null, //         {count, gone: Set of userIds} where more people are here than are known by name
  names: {}, //           userId → name of everyone seen so far
  removed: {}, //         userId → name of those who were removed and not let back in
  messages: [], //        Message[], ascending by seq
  outgoing: [], //        Outgoing[], in the order written
  notes: [], //           Note[], ascending by seq
  reads: {}, //           userId → seq up to which they have read
  mine: {}, //            message id → emoji → whether one has reacted with it, as far as that is known
  pinned: null, //        the pinned Message, where it is not among `messages`
  waiting: {}, //         userId → {name, role} of those whom the host may let in; known to hosts alone
  chattedAt: null, //     when one last wrote in slow mode, by this page's clock; it counts from there
  typing: {}, //          userId → name
  lastSeq: null, //       the last seq seen; what a rejoin sends
  history: "none", //     none | loading | failed | more | complete: what is before the first message
  recording: null, //     the id of the recording that runs
  consents: null, //      userId → whether they agree to be recorded, as far as one may know; null: not asked for yet
  children: [], //        [{userId, name}] in the lesson for whom one decides that; known with `consents`
  hidden: false, //       the tab is in the background
  unread: 0, //           messages of others since it is
  connection: { phase: "connecting" }, // see session.js
});

/** The events that carry a seq: each is applied once, in order, whether live or caught up on. */
const ORDERED = new Set([
  "newMessage", "messageEdited", "messageDeleted", "sessionStatus",
  "recordingState", "handRaised", "permissionsChanged", "participantKicked",
  "messageReaction", "messagePinned", "sessionSettings", "whiteboardCleared",
]);

const without = (map, key) => {
  if (!(key in map)) return map;
  const { [key]: _, ...rest } = map;
  return rest;
};

const withPerson = (state, userId, change) => {
  const person = state.people[userId];
  return person ? { ...state, people: { ...state.people, [userId]: { ...person, ...change } } } : state;
};

/** A read mark never moves back. */
const withReads = (reads, people) => ({
  ...reads,
  ...Object.fromEntries(people.map(({ userId, readSeq = 0 }) => [userId, Math.max(reads[userId] ?? 0, readSeq)])),
});

const withCount = (crowd, more) => crowd && { ...crowd, count: crowd.count + more };

/** Who has left while the others were asked for is not among them. */
const withGone = (crowd, userId) => crowd && { ...crowd, gone: new Set(crowd.gone).add(userId) };

const nameOf = (state, userId) => state.people[userId]?.name ?? state.names[userId] ?? "Someone";

const withMessages = (state, messages) => {
  const names = { ...state.names };
  for (const message of messages) names[message.userId] ??= message.from;
  const arrived = new Set(messages.filter((m) => m.userId === state.me?.userId).map((m) => m.clientId));
  return {
    ...state, names,
    messages: mergeMessages(state.messages, messages),
    outgoing: state.outgoing.filter((waiting) => !arrived.has(waiting.clientId)),
  };
};

const withNote = (state, data, text) => ({
  ...state,
  notes: [...state.notes, { seq: data.seq, at: data.at ?? data.created_at ?? null, text }],
});

const STATUS_NOTE = { live: "The lesson has started.", ended: "The lesson has ended. The chat stays open for questions." };
const RECORDING_NOTE = { recording: "Recording started.", processing: "Recording stopped.", failed: "A recording failed.", ready: "A recording can be watched." };

/** What changed of the settings, as a line for everybody; "" where they need not know. */
function settingsNote(before, { chatMuted, slowModeSeconds }) {
  if (chatMuted !== before.chatMuted) return chatMuted ? "Only the host can write now." : "Everybody can write again.";
  if (slowModeSeconds === before.slowModeSeconds) return "";
  return slowModeSeconds ? `Slow mode: one message every ${seconds(slowModeSeconds)}.` : "Slow mode is over.";
}

const withPinned = (state, change) => (state.pinned ? { ...state, pinned: change([state.pinned])[0] } : state);

const EVENTS = {
  newMessage(state, data) {
    const message = readMessage(data);
    const next = withMessages({ ...state, typing: without(state.typing, message.userId) }, [message]);
    const counts = state.hidden && message.userId !== state.me?.userId;
    return counts ? { ...next, unread: state.unread + 1 } : next;
  },
  messageEdited: (state, data) =>
    withPinned({ ...state, messages: editMessage(state.messages, data) }, (list) => editMessage(list, data)),
  messageDeleted: (state, data) => ({ ...state, messages: removeMessage(state.messages, data.id) }),
  messageReaction(state, data) {
    const next = { ...state, messages: countReactions(state.messages, data) };
    if (data.userId !== state.me?.userId) return next;
    return { ...next, mine: { ...state.mine, [data.id]: { ...state.mine[data.id], [data.emoji]: data.reacted } } };
  },
  messagePinned: (state, data) =>
    state.session ? { ...state, session: { ...state.session, pinnedId: data.id } } : state,
  sessionSettings(state, data) {
    if (!state.session) return state;
    const settings = readSettings(data);
    const note = settingsNote(state.session.settings, settings);
    const next = { ...state, session: { ...state.session, settings } };
    return note ? withNote(next, data, note) : next;
  },
  whiteboardCleared: (state) => state,
  waiting: (state, { userId, name, role, waiting }) => ({
    ...state, waiting: waiting ? { ...state.waiting, [userId]: { name, role } } : without(state.waiting, userId),
  }),
  sessionStatus(state, data) {
    if (!state.session || state.session.status === data.status) return state;
    const next = { ...state, session: { ...state.session, status: data.status } };
    return STATUS_NOTE[data.status] ? withNote(next, data, STATUS_NOTE[data.status]) : next;
  },
  recordingState(state, data) {
    const over = state.recording === data.recording_id ? null : state.recording;
    const next = { ...state, recording: data.state === "recording" ? data.recording_id : over };
    // A film that is sent by itself is being prepared, and nothing was stopped.
    const isNews = data.state !== "processing" || over !== state.recording;
    return isNews && RECORDING_NOTE[data.state] ? withNote(next, data, RECORDING_NOTE[data.state]) : next;
  },
  recordingConsent: (state, { userId, agreed }) => ({ ...state, consents: { ...state.consents, [userId]: agreed } }),
  handRaised: (state, data) => withPerson(state, data.userId, { handRaised: data.raised }),
  permissionsChanged: (state, { userId, micAllowed, cameraAllowed }) =>
    withPerson(state, userId, { micAllowed, cameraAllowed }),
  participantKicked(state, data) {
    const name = nameOf(state, data.userId);
    const next = { ...state, people: without(state.people, data.userId), typing: without(state.typing, data.userId),
                   crowd: withGone(state.crowd, data.userId), removed: { ...state.removed, [data.userId]: name } };
    return withNote(next, data, `${name} was removed from the lesson.`);
  },
  participantJoined: (state, { session_id: _, ...person }) => ({
    ...state,
    people: { ...state.people, [person.userId]: person },
    crowd: person.userId in state.people ? state.crowd : withCount(state.crowd, 1),
    names: { ...state.names, [person.userId]: person.name },
    reads: withReads(state.reads, [person]),
    removed: without(state.removed, person.userId),
    waiting: without(state.waiting, person.userId),
  }),
  participantLeft: (state, { userId }) => ({
    ...state, people: without(state.people, userId), typing: without(state.typing, userId),
    crowd: withCount(withGone(state.crowd, userId), -1),
  }),
  typing: (state, { userId, name, typing }) => ({
    ...state, typing: typing ? { ...state.typing, [userId]: name } : without(state.typing, userId),
  }),
  read: (state, { userId, seq }) => ({ ...state, reads: withReads(state.reads, [{ userId, readSeq: seq }]) }),
};

/** One server event. An ordered one at or below the last seq seen changes nothing. */
function applyEvent(state, { event, data }) {
  const apply = EVENTS[event];
  if (!apply) return state;
  if (!ORDERED.has(event)) return apply(state, data);
  if (state.lastSeq !== null && !(data.seq > state.lastSeq)) return state;
  return apply({ ...state, lastSeq: data.seq }, data);
}

/**
 * The ack of joinSession. With `reset` what we had is dropped for what came, which need not be messages: the history is
 * read anew. Then the missed events run through
 * `applyEvent` like live ones; then the server's word on who is here and how the lesson stands replaces ours.
 */
function join(state, ack) {
  let next = { ...state, me: { ...ack.you, isHost: ack.you.is_host }, session: readSession(ack.session, state.session) };
  if (ack.reset) next = { ...next, messages: [], notes: [], mine: {}, lastSeq: null, history: "none" };
  for (const missed of ack.events ?? []) next = applyEvent(next, missed);
  const people = Object.fromEntries(ack.participants.map((person) => [person.userId, person]));
  const names = { ...next.names, ...Object.fromEntries(ack.participants.map((person) => [person.userId, person.name])) };
  const removed = Object.fromEntries(Object.entries(next.removed).filter(([userId]) => !(userId in people)));
  const session = {
    ...next.session, status: ack.session.status, settings: readSettings(ack.session), pinnedId: ack.session.pinnedMessageId ?? null,
  };
  const reads = withReads(next.reads, ack.participants);
  const waiting = Object.fromEntries((ack.waiting ?? []).map(({ userId, name, role }) => [userId, { name, role }]));
  const lastSeq = Math.max(next.lastSeq ?? 0, ack.lastSeq);
  const count = ack.participantCount ?? ack.participants.length;
  const crowd = count > ack.participants.length ? { count, gone: new Set() } : null;
  const recording = ack.session.recordingId ?? null;
  return { ...next, session, people, crowd, names, removed, reads, waiting, recording, typing: {}, lastSeq };
}

const ACTIONS = {
  event: applyEvent,
  joined: (state, { ack }) => join(state, ack),
  connection: (state, { connection }) => ({ ...state, connection }),
  historyLoading: (state) => ({ ...state, history: "loading" }),
  historyFailed: (state) => ({ ...state, history: "failed" }),
  history: (state, { messages, complete }) => ({
    ...withMessages(state, messages.map(readMessage)), history: complete ? "complete" : "more",
  }),
  /** Some of those who are here; with the last of them, `complete`, everybody is known. */
  people(state, { people, complete }) {
    if (!state.crowd) return state;
    const more = people.filter(({ userId }) => !(userId in state.people) && !state.crowd.gone.has(userId));
    return {
      ...state, crowd: complete ? null : state.crowd,
      people: { ...state.people, ...Object.fromEntries(more.map((person) => [person.userId, person])) },
      names: { ...state.names, ...Object.fromEntries(more.map((person) => [person.userId, person.name])) },
    };
  },
  /** The document in an ack. It says nothing of what came before it, so `lastSeq` stays. */
  message: (state, { message }) => withMessages(state, [readMessage(message)]),
  compose: (state, { clientId, text, at }) => ({
    ...state, outgoing: [...state.outgoing, { clientId, text, at, state: "pending", problem: null }],
  }),
  sendFailed: (state, { clientId, problem }) => outgoing(state, clientId, { state: "failed", problem }),
  sendAgain: (state, { clientId }) => outgoing(state, clientId, { state: "pending", problem: null }),
  discard: (state, { clientId }) => ({
    ...state, outgoing: state.outgoing.filter((waiting) => waiting.clientId !== clientId),
  }),
  /** The pinned message, which is further up than what was read. */
  pinned: (state, { message }) => ({ ...state, pinned: readMessage(message) }),
  /** One reacted already, and the page did not know. */
  reacted: (state, { id, emoji }) => ({ ...state, mine: { ...state.mine, [id]: { ...state.mine[id], [emoji]: true } } }),
  /** What one had reacted with before; what has happened on this page since is newer. */
  mine(state, { reactions }) {
    const mine = { ...state.mine };
    for (const { message_id: id, emoji } of reactions) mine[id] = { [emoji]: true, ...mine[id] };
    return { ...state, mine };
  },
  /** One wrote just now; it counts where slow mode is on. */
  chatted: (state, { at }) => (state.session?.settings.slowModeSeconds ? { ...state, chattedAt: at } : state),
  lesson: (state, { known }) => (state.session ? { ...state, session: { ...state.session, ...known } } : state),
  consents: (state, { consents, children }) => ({ ...state, consents, children }),
  barred: (state, { people }) => ({ ...state, removed: people, names: { ...state.names, ...people } }),
  letBackIn: (state, { userId }) => ({ ...state, removed: without(state.removed, userId) }),
  visibility: (state, { hidden }) => ({ ...state, hidden, unread: 0 }),
};

const outgoing = (state, clientId, change) => ({
  ...state,
  outgoing: state.outgoing.map((waiting) => (waiting.clientId === clientId ? { ...waiting, ...change } : waiting)),
});

/** How many people are here. */
export const headcount = ({ crowd, people }) => crowd?.count ?? Object.keys(people).length;

/** The pinned message, or null while there is none or it is not read yet. */
export function pinnedMessage({ session, messages, pinned }) {
  if (!session?.pinnedId) return null;
  const message = messages.find(({ id }) => id === session.pinnedId) ?? (pinned?.id === session.pinnedId ? pinned : null);
  return message?.deleted ? null : message;
}

/**
 * Whether one may write at `now`: `muted` is the host's doing, `wait` the milliseconds that slow mode still asks for.
 *
 * @returns {{muted: boolean, wait: number}}
 */
export function writing({ session, me, chattedAt }, now) {
  if (!session || me?.isHost) return { muted: false, wait: 0 };
  const { chatMuted, slowModeSeconds } = session.settings;
  const wait = slowModeSeconds && chattedAt !== null ? chattedAt + slowModeSeconds * 1_000 - now : 0;
  return { muted: chatMuted, wait: Math.max(0, wait) };
}

/** @returns the state after `action`; the same object when nothing changed. */
export function reduce(state, action) {
  return ACTIONS[action.type](state, action);
}
