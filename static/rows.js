/**
 * What the chat shows, line by line: messages in groups, days between them, notes about the lesson. Pure.
 *
 * @typedef {{kind: "day", key: string, text: string}
 *   | {kind: "note", key: string, text: string}
 *   | {kind: "message", key: string, id: ?string, clientId: ?string, mine: boolean, userId: string, name: string,
 *      text: string, at: string, edited: boolean, deleted: boolean, first: boolean, last: boolean,
 *      sending: ?("pending" | "waiting" | "failed"), problem: ?string, canEdit: boolean, canDelete: boolean, canPin: boolean,
 *      pinned: boolean, reactions: {emoji: string, count: number, mine: boolean}[], seenBy: string[]}} Row
 */

import { dayKey, dayName } from "./words.js";

/** Two messages of one person stand together when no more than this lies between them. */
const GROUP_MS = 5 * 60_000;

/**
 * Whom to name under which message: the newest of one's own that somebody has read, and everybody who has read that far
 * without having written since, for an answer says more than a mark.
 *
 * @returns {?{id: string, names: string[]}}
 */
function seen(state) {
  const me = state.me?.userId;
  const reads = Object.entries(state.reads).filter(([userId]) => userId !== me);
  const farthest = Math.max(0, ...reads.map(([, upTo]) => upTo));
  const message = state.messages.findLast(({ userId, seq, deleted }) => userId === me && !deleted && seq <= farthest);
  if (!message) return null;
  const answered = new Set(state.messages.filter(({ seq }) => seq > message.seq).map(({ userId }) => userId));
  const names = reads
    .filter(([userId, upTo]) => upTo >= message.seq && !answered.has(userId))
    .map(([userId]) => state.people[userId]?.name ?? state.names[userId])
    .filter(Boolean).sort();
  return { id: message.id, names };
}

/** The most frequent first. */
function reactionsOf(state, { id, reactions }) {
  return Object.entries(reactions)
    .map(([emoji, count]) => ({ emoji, count, mine: Boolean(state.mine[id]?.[emoji]) }))
    .sort((a, b) => b.count - a.count || (a.emoji < b.emoji ? -1 : 1));
}

function messageRow(state, message) {
  const mine = message.userId === state.me?.userId;
  return {
    kind: "message",
    key: mine && message.clientId ? `c:${message.clientId}` : `m:${message.id}`, // the same before and after sending
    id: message.id, clientId: message.clientId, mine, userId: message.userId, name: message.from,
    text: message.text, at: message.at, edited: message.editedAt !== null, deleted: message.deleted,
    sending: null, problem: null,
    canEdit: mine && !message.deleted && (Boolean(state.me?.isHost) || !state.session?.settings.chatMuted),
    canDelete: !message.deleted && (mine || Boolean(state.me?.isHost) || state.me?.role === "admin"),
    canPin: !message.deleted && Boolean(state.me?.isHost),
    pinned: message.id === state.session?.pinnedId,
    reactions: reactionsOf(state, message),
    seenBy: [], first: true, last: true,
  };
}

function outgoingRow(state, waiting) {
  const kept = waiting.state === "pending" && state.connection.phase !== "live";
  return {
    kind: "message", key: `c:${waiting.clientId}`, id: null, clientId: waiting.clientId,
    mine: true, userId: state.me?.userId ?? "", name: state.me?.name ?? "", text: waiting.text, at: waiting.at,
    edited: false, deleted: false, sending: kept ? "waiting" : waiting.state, problem: waiting.problem,
    canEdit: false, canDelete: false, canPin: false, pinned: false, reactions: [], seenBy: [], first: true, last: true,
  };
}

const joins = (before, row) =>
  before?.kind === "message" && row.kind === "message" &&
  before.userId === row.userId && new Date(row.at) - new Date(before.at) < GROUP_MS;

/**
 * @param state see state.js
 * @param {number} now for "Today" and "Yesterday"
 * @returns {Row[]}
 */
export function rowsOf(state, now) {
  const entries = [];
  const oldest = state.messages[0]?.seq ?? 0;
  let note = 0;
  const notesBefore = (seq) => {
    for (; note < state.notes.length && state.notes[note].seq < seq; note += 1) {
      const { seq: at, text } = state.notes[note];
      if (at > oldest || state.history === "complete") entries.push({ kind: "note", key: `n:${at}`, text });
    }
  };
  for (const message of state.messages) {
    notesBefore(message.seq);
    entries.push(messageRow(state, message));
  }
  notesBefore(Infinity);
  for (const waiting of state.outgoing) entries.push(outgoingRow(state, waiting));

  const rows = [];
  let day = null;
  for (const row of entries) {
    if (row.kind === "message" && dayKey(row.at) !== day) {
      day = dayKey(row.at);
      rows.push({ kind: "day", key: `d:${day}`, text: dayName(row.at, now) });
    }
    const before = rows.at(-1);
    if (joins(before, row)) {
      before.last = false;
      row.first = false;
    }
    rows.push(row);
  }

  const marks = seen(state);
  if (marks) rows.find((row) => row.kind === "message" && row.id === marks.id).seenBy = marks.names;
  return rows;
}

/** Where a read mark belongs: the newest message's seq, or 0. */
export const newestSeq = (state) => state.messages.at(-1)?.seq ?? 0;
