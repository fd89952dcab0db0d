/** The room: puts the state, the connection and the parts of the page together. One per page load. */

import * as api from "./api.js";
import { openChat } from "./chat.js";
import { openComposer } from "./composer.js";
import { openConnectionLine } from "./connection.js";
import { guardianNotice } from "./consent.js";
import { openControls } from "./controls.js";
import { announce, confirm, toast } from "./dialogs.js";
import { byId, setText } from "./dom.js";
import { titleOf } from "./lesson.js";
import { openMeeting } from "./meeting.js";
import { goToStart, hideNotice, lobbyNotice, noticeFor, showNotice } from "./notice.js";
import { openPeople } from "./people.js";
import { openPinned } from "./pinned.js";
import { openLessonRecorder } from "./recorder.js";
import { openRecordings } from "./recordings.js";
import { newestSeq } from "./rows.js";
import { openSession } from "./session.js";
import { initialState, reduce } from "./state.js";
import { keep, kept } from "./storage.js";
import { listNames, remaining, STATUS_WORD, typingSentence, when } from "./words.js";

const READ_AFTER_MS = 400;
const CLOCK_MS = 20_000;

/**
 * @param {{ref: string, signIn: api.SignIn, demo: ?{people: object[], lessons: object[]}}} opening
 */
export function openRoom({ ref, signIn, demo }) {
  let state = initialState;
  let planned = false;
  let marked = 0; // the seq that others were told we have read
  let marking = 0;
  let inLobby = false;
  const unsent = `encounters.unsent.${ref}.${signIn.userId}`;

  function dispatch(action) {
    const before = state;
    state = reduce(state, action);
    if (state === before) return;
    if (state.outgoing !== before.outgoing) keep("sessionStorage", unsent, state.outgoing);
    if (state.connection.phase === "live" && before.connection.phase !== "live") joined();
    if (action.type === "event") {
      tell(action, before);
      meeting.told(action);
      if (action.event === "recordingState") recorder.look();
    }
    if (!planned) {
      planned = true;
      setTimeout(render);
    }
  }

  async function renew() {
    if (!signIn.demo) return null;
    const fresh = await api.demoSignIn(signIn.userId);
    api.stored.set(fresh);
    return fresh;
  }

  /** Does what may fail on the server's side and says so if it does. */
  const attempt = (promise) => promise.catch((error) => toast(error.message));

  const session = openSession({ ref, signIn, renew, dispatch, getState: () => state, notify: toast, hear: (...event) => meeting.hear(...event) });

  const meeting = openMeeting({
    ref, userId: signIn.userId, getState: () => state, ask: session.ask, token: session.token, notify: toast, announce,
    changed: () => recorder.look(),
  });

  const recorder = openLessonRecorder({
    ref, userId: signIn.userId, getState: () => state, ask: session.ask, token: session.token, notify: toast, meeting,
  });

  const composer = openComposer({
    send: session.send,
    typing: (typing) => session.hint("typing", { typing }),
    raiseHand: (raised) => attempt(session.ask("raiseHand", { raised })),
    editLast: () => chat.editLast(),
  });

  const chat = openChat({
    edit: session.edit,
    sendAgain: session.sendAgain,
    discard: (clientId) => dispatch({ type: "discard", clientId }),
    loadOlder: session.loadOlder,
    focusComposer: composer.focus,
    seen: markRead,
    react: (id, emoji) => attempt(session.react(id, emoji)),
    pin: (id) => attempt(session.ask("pinMessage", { id })),
    async remove(row) {
      const text = row.mine ? "Everyone will see that a message was deleted." : `This takes ${row.name}’s message away for everyone.`;
      const sure = await confirm({ title: "Delete this message?", text, yes: "Delete" });
      chat.focusOn(row.key);
      if (sure) attempt(session.remove(row.id));
    },
  });

  const pinned = openPinned({
    show: (id) => chat.show(id) || toast("This message is further up. Load earlier messages to see it in its place."),
    unpin: () => attempt(session.ask("pinMessage", { id: null })),
    read: session.readPinned,
  });

  const controls = openControls({ set: (change) => attempt(session.ask("setSession", change)) });

  const recordings = openRecordings({
    start: recorder.start,
    stop: () => session.ask("stopRecording", { end: false }),
    list: () => api.recordings(session.token(), ref),
    remove: (id) => api.removeRecording(session.token(), ref, id),
    consents: () => api.consents(session.token(), ref),
    decide: (userId, agreed) => api.decide(session.token(), ref, userId, agreed),
    token: session.token, getState: () => state,
    dispatch, confirm, toast,
  });

  const people = openPeople({
    admit: (userId) => attempt(session.ask("admit", { userId })),
    turnAway: (userId) => attempt(session.ask("admit", { userId, admitted: false })),
    showAll: () => attempt(session.gather()),
    setPermissions: (userId, change) => attempt(session.ask("setPermissions", { userId, ...change })),
    async kick({ userId, name }) {
      const text = "They leave at once and cannot come back until you let them in again.";
      if (await confirm({ title: `Remove ${name}?`, text, yes: "Remove" })) attempt(session.ask("kick", { userId }));
    },
    letBackIn: (userId, name) => attempt(api.letBackIn(session.token(), ref, userId).then(() => {
      dispatch({ type: "letBackIn", userId });
      toast(`${name} can join again.`);
    })),
  });

  const connectionLine = openConnectionLine({
    reconnectNow: session.reconnectNow,
    useToken(text) {
      signIn = api.readNextToken(text, signIn);
      api.stored.set(signIn);
      session.useToken(signIn);
      if (state.connection.tokenEnds) dispatch({ type: "connection", connection: { phase: state.connection.phase } });
    },
  });

  /** After each (re)join: what the ack does not say. */
  async function joined() {
    meeting.joined();
    recorder.look();
    recordings.joined();
    if (state.me.isHost) api.barred(session.token(), ref).then((people) => dispatch({ type: "barred", people }), () => {});
    const { id, room, title, otherIds } = state.session;
    const known = demo?.lessons.find((lesson) => lesson.session_id === id || lesson.room_name === room);
    if (known) dispatch({ type: "lesson", known: { title: title || known.title } });
    const others = otherIds.filter((userId) => userId !== state.me.userId);
    const names = await Promise.all(others.map((userId) => state.names[userId] ?? api.nameOf(session.token(), userId)));
    dispatch({ type: "lesson", known: { with: listNames(names.filter(Boolean)) || known?.with || "" } });
  }

  /** What happens to others is said to those who do not see the page. */
  function tell({ event, data }, before) {
    recordings.tell({ event, data });
    const who = state.people[data.userId]?.name ?? before.people[data.userId]?.name ?? state.names[data.userId];
    if (event === "newMessage" && data.user_id !== state.me?.userId) announce(`${data.from}: ${data.text}`);
    else if (event === "participantJoined" && !(data.userId in before.people)) announce(`${data.name} is here.`);
    else if (event === "participantLeft" && data.userId in before.people) announce(`${who} has left.`);
    else if (event === "handRaised" && data.raised && data.userId !== state.me?.userId) tellHand(data.userId, who);
    else if (event === "waiting" && data.waiting && !(data.userId in before.waiting)) toast(`${data.name} is waiting to come in.`);
    else if (event === "permissionsChanged" && data.userId === state.me?.userId) tellPermissions(data, before.people[data.userId]);
  }

  /** In a large class it may be the hand of one whom the page has no name for yet. */
  function tellHand(userId, who) {
    announce(`${who ?? "Someone"} has raised a hand.`);
    if (state.me?.isHost && !(userId in state.people)) attempt(session.gather());
  }

  function tellPermissions({ micAllowed, cameraAllowed }, before) {
    const say = (what, allowed) => toast(`The host has ${allowed ? "allowed" : "turned off"} your ${what}.`);
    if (before && before.micAllowed !== micAllowed) say("microphone", micAllowed);
    if (before && before.cameraAllowed !== cameraAllowed) say("camera", cameraAllowed);
  }

  function markRead() {
    clearTimeout(marking);
    marking = setTimeout(() => {
      const seq = newestSeq(state);
      if (document.hidden || !chat.isAtEnd() || state.connection.phase !== "live" || seq <= marked) return;
      marked = seq;
      session.hint("markRead", { seq });
    }, READ_AFTER_MS);
  }

  function renderHeader() {
    const lesson = state.session;
    const title = titleOf(lesson);
    setText(byId("lesson-title"), lesson ? title : "Joining the lesson…");
    document.title = `${state.unread ? `(${state.unread}) ` : ""}${title} · Encounters`;
    const now = Date.now();
    const company = lesson?.title && lesson.with ? `with ${lesson.with}` : "";
    setText(byId("lesson-when"), lesson
      ? [when(lesson.startsAt, lesson.endsAt, now), remaining(lesson, now), company].filter(Boolean).join(" · ") : "");
    const status = byId("lesson-status");
    setText(status, lesson ? STATUS_WORD[lesson.status] : "");
    status.dataset.status = lesson?.status ?? "";
    byId("recording").hidden = state.recording === null;
    byId("host-actions").hidden = !state.me?.isHost || lesson.status === "ended";
    byId("start").hidden = lesson?.status !== "scheduled";
    byId("end").hidden = lesson?.status !== "live";
  }

  function render() {
    planned = false;
    meeting.render(state);
    const { phase } = state.connection;
    const neverIn = phase === "signedOut" && !state.session;
    if (neverIn || ["kicked", "refused", "turnedAway"].includes(phase)) {
      showNotice(noticeFor(state.connection, titleOf(state.session), agree));
      if (state.connection.status === 403) askGuardian();
      return;
    }
    if (phase === "left") return;
    if (phase === "lobby" && !inLobby) {
      inLobby = true;
      showNotice(lobbyNotice(leave));
    }
    if (inLobby && phase !== "live") return; // also while the connection to the lobby comes and goes
    if (inLobby) {
      inLobby = false;
      hideNotice();
      composer.focus();
    }
    renderHeader();
    connectionLine.render(state);
    controls.render(state);
    pinned.render(state);
    recordings.render(state);
    people.render(state);
    if (demo && state.session) people.offer(demo.people, state.session.room, { ...state.people, ...state.removed });
    composer.render(state);
    chat.render(state);
    setText(byId("typing"), typingSentence(Object.entries(state.typing)
      .filter(([userId]) => userId !== state.me?.userId).map(([, name]) => name)));
  }

  /** From outside: one was not let in without it. */
  const agree = () => attempt(api.decide(session.token(), ref, signIn.userId, true).then(() => location.reload()));

  /** From outside, too: a parent's answer for their child. */
  async function askGuardian() {
    const answers = await api.consents(session.token(), ref).catch(() => null);
    const decide = (agreed) => attempt(
      Promise.all(answers.children.map(({ userId }) => api.decide(session.token(), ref, userId, agreed))).then(askGuardian));
    const notice = answers && guardianNotice(answers, { decide, leave: goToStart });
    if (notice) showNotice(notice);
  }

  let isLeaving = false;

  /** Who goes while a recording is being sent waits for it, or says a second time that they go. */
  async function leave() {
    const sending = recorder.leave();
    meeting.close();
    if (sending && !isLeaving) {
      isLeaving = true;
      toast("The rest of the recording is being sent. You leave as soon as it has come.");
      await sending;
    }
    session.leave();
    goToStart();
  }

  byId("leave").addEventListener("click", leave);
  byId("start").addEventListener("click", () => attempt(api.start(session.token(), state.session)));
  byId("end").addEventListener("click", async () => {
    const text = "It ends for everyone. The chat can still be read, and questions asked.";
    if (await confirm({ title: "End the lesson?", text, yes: "End lesson" })) attempt(session.ask("endSession"));
  });
  document.addEventListener("visibilitychange", () => {
    dispatch({ type: "visibility", hidden: document.hidden });
    markRead();
  });
  setInterval(renderHeader, CLOCK_MS);

  byId("entry").hidden = true;
  byId("room").hidden = false;
  for (const { clientId, text, at } of kept("sessionStorage", unsent) ?? []) {
    dispatch({ type: "compose", clientId, text, at });
  }
  dispatch({ type: "visibility", hidden: document.hidden });
  render();
  composer.focus();
}
