/**
 * One person's connection to one lesson: connecting, joining, coming back after a break, and asking things of the server.
 *
 * Phases (`state.connection.phase`):
 *
 *     connecting ─▶ live ◀─▶ waiting | offline | draining      comes back by itself, with the last seq seen
 *          │ ▲
 *          ▼ │
 *         lobby                                                the host has yet to let one in
 *          │          │
 *          ▼          ▼
 *     signedOut    refused | turnedAway | kicked | left         stays until the person does something
 *
 * Everything that happens is dispatched to the reducer in state.js; nothing is kept here but the socket and its timers.
 */

import { io } from "/static/vendor/socket.io.esm.min.js";
import * as api from "./api.js";
import { ServerError } from "./api.js";
import { openOutbox } from "./outbox.js";

const ANSWER_MS = 10_000;
const RETRY_MS = 3_000;
const DRAIN_MS = 10_000; // beyond the server's own delay, an absence is no longer an update but an interruption
const TYPING_ENDS_MS = 6_000; // the server ends it after 5 s; this is for the case that its word is lost

const EVENTS = [
  "newMessage", "messageEdited", "messageDeleted", "sessionStatus", "recordingState", "handRaised", "permissionsChanged",
  "participantKicked", "participantJoined", "participantLeft", "typing", "read",
  "messageReaction", "messagePinned", "sessionSettings", "whiteboardCleared", "waiting", "recordingConsent",
];
/** What the video alone has to know, at once: see meeting.js. */
const MEETING_EVENTS = ["signal", "meetingMoved", "meetingEnded"];

/**
 * @param {{ref: string, signIn: api.SignIn, renew: () => Promise<?api.SignIn>, dispatch: Function, getState: Function,
 *          notify: (sentence: string) => void, hear: (event: string, data: object) => void}} room
 *   `renew` fetches a new token without asking; null where it cannot. `hear` gets what the video alone has to know.
 */
export function openSession({ ref, signIn, renew, dispatch, getState, notify, hear }) {
  const socket = io("/encounters", {
    auth: (send) => send({ token: signIn.token }),
    transports: ["websocket", "polling"],
    tryAllTransports: true,
    reconnectionDelay: 500,
    reconnectionDelayMax: 5_000,
    autoConnect: false,
  });
  let closed = false;
  let held = null; //     events that wait for the first page of history
  let timer = 0; //       the one planned reconnection of our own making
  let renewed = false; // a new token was fetched and has not been accepted yet
  let drainEnds = 0; //   until then the server is being updated
  let joins = 0; //       counts the acks of joining; what was asked for before the last one may be out of date
  let resets = 0; //      counts those that made the page forget what it had
  let gathering = 0; //   the join whose other people are being asked for
  const typingTimers = new Map();

  const phase = () => getState().connection.phase;
  const become = (next, more = {}) => dispatch({ type: "connection", connection: { phase: next, ...more } });
  const stop = (next, more) => {
    closed = true;
    clearTimeout(timer);
    become(next, more);
    socket.disconnect();
  };
  const connectIn = (ms) => {
    clearTimeout(timer);
    timer = setTimeout(() => !closed && socket.disconnect().connect(), ms);
  };

  /** Asks the server for something; resolves with its ack, rejects with a ServerError. */
  const ask = (event, payload = {}) => new Promise((resolve, reject) => {
    if (!socket.connected) {
      reject(new ServerError({ error: "no_connection", message: "You are not connected right now." }));
      return;
    }
    socket.timeout(ANSWER_MS).emit(event, { sessionId: ref, ...payload }, (silence, ack) => {
      if (silence) reject(new ServerError({ error: "no_answer", message: "The server did not answer." }));
      else if (ack?.ok) resolve(ack);
      else reject(new ServerError(ack?.error ?? {}));
    });
  });

  /** Slow mode that the page did not know of counts from when the server says that it began. */
  function noteSlowMode(error) {
    const slow = getState().session?.settings.slowModeSeconds ?? 0;
    if (error.code === "slow_mode") dispatch({ type: "chatted", at: Date.now() + error.retryAfterMs - slow * 1_000 });
    throw error;
  }

  const outbox = openOutbox({
    send: ({ clientId, text }) => ask("sendMessage", { text, clientId }).catch(noteSlowMode),
    isLive: () => phase() === "live",
    dispatch, getState,
  });

  /** A refusal of the connection or of joining: what to do about it depends on whether it may pass. */
  async function refused(error) {
    if (closed) return;
    if (error.status === 401) {
      socket.disconnect();
      if (!renewed) {
        renewed = true;
        const fresh = await renew().catch(() => null);
        if (fresh) return void useToken(fresh);
      }
      become("signedOut", { message: error.message });
    } else if (error.code === "waiting") {
      become("lobby");
    } else if (error.passing) {
      become("waiting", { message: error.status ? error.message : undefined });
      connectIn(error.retryAfterMs || RETRY_MS);
    } else {
      stop("refused", { message: error.message, status: error.status, code: error.code });
    }
  }

  /** The ack is taken in at once, not in a promise: the events right behind it must find the room joined. */
  function join() {
    const { lastSeq } = getState();
    const payload = lastSeq === null ? { sessionId: ref } : { sessionId: ref, lastSeq };
    socket.timeout(ANSWER_MS).emit("joinSession", payload, (silence, ack) => {
      if (closed) return;
      if (silence || !ack?.ok) return void refused(new ServerError(ack?.error ?? {}));
      renewed = false;
      joins += 1;
      if (ack.reset) resets += 1;
      dispatch({ type: "joined", ack });
      become("live");
      if (["none", "failed"].includes(getState().history)) firstPage();
      outbox.pump();
    });
  }

  const receive = (event, data) => {
    if (data?.session_id && data.session_id !== getState().session?.id) return;
    if (held) held.push({ event, data });
    else dispatch({ type: "event", event, data });
    if (event === "newMessage" && data.user_id === getState().me?.userId) dispatch({ type: "chatted", at: Date.now() });
    if (event !== "typing") return;
    clearTimeout(typingTimers.get(data.userId));
    if (data.typing) {
      const over = { type: "event", event, data: { ...data, typing: false } };
      typingTimers.set(data.userId, setTimeout(() => dispatch(over), TYPING_ENDS_MS));
    }
  };

  /** Events wait while the first page is fetched, so that an edit never comes before its message. */
  async function firstPage() {
    if (held) return;
    held = [];
    await page(null);
    const waiting = held;
    held = null;
    for (const { event, data } of waiting) dispatch({ type: "event", event, data });
  }

  /** What was asked for before a reset may leave a gap before what came with it: of that, only the end is asked again. */
  async function page(before) {
    dispatch({ type: "historyLoading" });
    const since = resets;
    const messages = await api.history(signIn.token, ref, before).catch(() => null);
    if (resets !== since) return before === null ? page(null) : undefined;
    if (!messages) return void dispatch({ type: "historyFailed" });
    dispatch({ type: "history", messages, complete: messages.length < api.HISTORY_PAGE });
    if (messages.some(({ reactions }) => reactions)) ownReactions(before);
  }

  /** The messages say how many reacted, not who. Without an answer, `react` finds out. */
  async function ownReactions(before) {
    const since = resets;
    const reactions = await api.ownReactions(signIn.token, ref, before).catch(() => []);
    if (resets === since) dispatch({ type: "mine", reactions });
  }

  /** The ack of joining names the first of a large class; this, everybody. */
  async function gather() {
    if (!getState().crowd || gathering === joins) return;
    const join = gathering = joins;
    try {
      for await (const { people, complete } of api.online(signIn.token, ref)) {
        if (joins !== join) return;
        dispatch({ type: "people", people, complete });
      }
    } finally {
      if (gathering === join) gathering = 0;
    }
  }

  function useToken(fresh) {
    signIn = fresh;
    if (socket.connected) {
      ask("refreshAuth", { token: fresh.token }).catch((error) => notify(error.message));
    } else if (!closed) {
      become("connecting");
      socket.connect();
    }
  }

  socket.on("connect", join);
  socket.on("connect_error", (error) => {
    if (closed) return;
    if (error.data) refused(new ServerError(error.data));
    else if (phase() !== "draining" || Date.now() > drainEnds) become(navigator.onLine ? "waiting" : "offline");
  });
  socket.on("disconnect", (reason) => {
    if (closed || reason === "io client disconnect" || phase() === "signedOut") return;
    if (phase() === "draining") return; // its own timer brings us back
    become(navigator.onLine ? "waiting" : "offline");
    if (reason === "io server disconnect") connectIn(RETRY_MS / 3);
  });
  for (const event of EVENTS) socket.on(event, (data) => receive(event, data));
  for (const event of MEETING_EVENTS) {
    socket.on(event, (data) => data?.session_id === getState().session?.id && hear(event, data));
  }
  socket.on("admitted", () => phase() === "lobby" && join());
  socket.on("refused", () => phase() === "lobby" && stop("turnedAway"));
  socket.on("kicked", () => stop("kicked"));
  socket.on("serverDraining", ({ retryAfterMs }) => {
    drainEnds = Date.now() + retryAfterMs + DRAIN_MS;
    become("draining");
    connectIn(retryAfterMs);
  });
  socket.on("authExpiring", async ({ expires_at: expiresAt }) => {
    const fresh = await renew().catch(() => null);
    if (fresh) useToken(fresh);
    else become(phase(), { tokenEnds: expiresAt });
  });
  socket.on("notification", ({ title }) => title && notify(title));

  const online = () => { if (!closed && !socket.connected) { become("waiting"); connectIn(0); } };
  const offline = () => { if (!closed) become("offline"); };
  addEventListener("online", online);
  addEventListener("offline", offline);
  socket.connect();

  return {
    ask,
    /** Queues a text; it is sent now, or as soon as there is a connection. */
    send(text) {
      dispatch({ type: "compose", clientId: crypto.randomUUID(), text, at: new Date().toISOString() });
      outbox.pump();
    },
    sendAgain(clientId) {
      dispatch({ type: "sendAgain", clientId });
      outbox.pump();
    },
    async edit(id, text) {
      dispatch({ type: "message", message: (await ask("editMessage", { id, text })).message });
    },
    async remove(id) {
      dispatch({ type: "message", message: (await ask("deleteMessage", { id })).message });
    },
    /** Reacts with an emoji or takes it back. What one did before this page was opened shows when nothing happens. */
    async react(id, emoji) {
      const { mine, messages } = getState();
      const count = messages.find((message) => message.id === id)?.reactions[emoji] ?? 0;
      const take = Boolean(mine[id]?.[emoji]);
      const { message } = await ask("react", { id, emoji, reacted: !take });
      if (take || count === 0 || message.reactions?.[emoji] !== count || getState().mine[id]?.[emoji] !== undefined) return;
      dispatch({ type: "reacted", id, emoji });
      await ask("react", { id, emoji, reacted: false });
    },
    /** Reads the pinned message, where it stands further up than what was read. */
    async readPinned(id) {
      dispatch({ type: "pinned", message: await api.message(signIn.token, ref, id) });
    },
    /** Best effort; nobody is told when it fails. */
    hint: (event, payload) => { if (phase() === "live") ask(event, payload).catch(() => {}); },
    loadOlder() {
      const { history, messages } = getState();
      if (history === "more" || history === "failed") page(messages[0]?.seq ?? null);
    },
    gather,
    useToken,
    token: () => signIn.token,
    reconnectNow: () => connectIn(0),
    leave() {
      if (socket.connected) socket.emit("leaveSession", { sessionId: ref });
      removeEventListener("online", online);
      removeEventListener("offline", offline);
      for (const pending of typingTimers.values()) clearTimeout(pending);
      stop("left");
    },
  };
}
