/**
 * Lists of messages: reading them from the wire and merging what comes from history, events and acks. Pure.
 */

/** A message as REST, `newMessage` and acks carry it → Message (see state.js). */
export function readMessage(data) {
  return {
    id: data.id,
    seq: data.seq,
    userId: data.user_id,
    from: data.from,
    text: data.text,
    at: data.created_at,
    editedAt: data.edited_at ?? null,
    deleted: data.deleted ?? data.text === "", // a text is never empty; one resumed as "" was deleted
    clientId: data.client_id ?? null,
    reactions: data.reactions ?? {},
  };
}

/**
 * The newer of two sights of one message: deletion is final, and an edit outlives what was read before it. Reactions are
 * kept up by their events; whatever else shows the message may be older.
 */
function newer(known, seen) {
  const clientId = seen.clientId ?? known.clientId;
  if (known.deleted) return { ...known, clientId };
  if (!seen.deleted && (known.editedAt ?? "") > (seen.editedAt ?? "")) return { ...known, clientId };
  return { ...seen, clientId, reactions: seen.deleted ? {} : known.reactions };
}

/** Both lists as one, ascending by seq, each id once. */
export function mergeMessages(list, more) {
  if (more.length === 0) return list;
  const last = list.at(-1);
  if (more.length === 1 && (!last || more[0].seq > last.seq)) return [...list, more[0]];
  const byId = new Map(list.map((message) => [message.id, message]));
  for (const message of more) {
    const known = byId.get(message.id);
    byId.set(message.id, known ? newer(known, message) : message);
  }
  return [...byId.values()].sort((a, b) => a.seq - b.seq);
}

/** `messageEdited {id, text, edited_at}` on the list; an id that is not in it changes nothing. */
export function editMessage(list, { id, text, edited_at: editedAt }) {
  return list.map((message) =>
    message.id === id && !message.deleted ? { ...message, text, editedAt } : message);
}

/** `messageDeleted {id}` on the list. The message keeps its place. */
export function removeMessage(list, id) {
  return list.map((message) => (message.id === id ? { ...message, text: "", deleted: true, reactions: {} } : message));
}

/** `messageReaction {id, reactions}` on the list: how many people reacted with which emoji. */
export function countReactions(list, { id, reactions }) {
  return list.map((message) => (message.id === id && !message.deleted ? { ...message, reactions } : message));
}
