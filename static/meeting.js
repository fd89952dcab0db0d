/**
 * One's own part in the lesson's video: the pass, one's devices, and who is seen and heard.
 *
 * Phases: `out`, `joining`, then `in` (here, browsers connected to each other) or `elsewhere` (at another provider, by a
 * link). What the server says of people has the last word: who is removed, or may not speak or be seen, is not, whatever
 * their own page does.
 */

import * as api from "./api.js";
import { watchDevices } from "./devices.js";
import { newId } from "./ids.js";
import { openOwn } from "./own.js";
import { placeOf, renewIn, unreachedSentence } from "./passes.js";
import { openMesh } from "./peers.js";
import { openStage } from "./stage.js";
import { keep as remember, kept } from "./storage.js";

const LEVEL_MS = 250;
const SPEAKING = 0.02; //             of an audio level from 0 to 1
const ABSENT_MS = 30_000; //          that somebody who is heard may be away from the room: they reconnect, too
const RETRY_MS = 5_000;
const LOOK_MS = 10_000; //            between two looks whether the meeting is another one, where something hints at it
const GONE = new Set(["left", "kicked", "removed"]);
const OUT = new Set(["signedOut", "lobby", "kicked", "refused", "turnedAway", "left"]);

/**
 * @param {{ref: string, userId: string, getState: () => object, ask: (event: string, payload: object) => Promise<unknown>,
 *          token: () => string, notify: (sentence: string) => void, announce: (sentence: string) => void,
 *          changed: () => void}} room `changed`: one has come into the video, or left it
 */
export function openMeeting({ ref, userId, getState, ask, token, notify, announce, changed }) {
  let phase = "out";
  let turn = 0; //        counts what ends everything that is under way
  let pass = null;
  let mesh = null;
  let problem = "";
  let retry = false;
  let known = new Map(); //  key → name, of the pages whose people were told of
  let renewing = 0;
  let asking = null; //   the look for a new pass that is under way
  let lookedAt = 0;
  let levels = 0;
  const absent = new Map(); // userId → since when they are not in the room
  const memory = `encounters.video.${ref}.${userId}`;
  let before = kept("sessionStorage", memory); // what this tab was in the video before
  let rejoins = performance.getEntriesByType("navigation")[0]?.type === "reload" && before !== null;
  remember("sessionStorage", memory, null);
  let tab = null; //      what this page calls itself in the video: another name each time that one comes in
  const callers = new Set(); // who has said hello while one was still coming in

  const allowed = (what) => getState().people[userId]?.[what === "mic" ? "micAllowed" : "cameraAllowed"] ?? true;

  const own = openOwn({
    allowed, say,
    changed() {
      mesh?.setTrack("audio", own.mic());
      mesh?.setTrack("video", own.video());
      mesh?.tell(own.sending());
      draw();
    },
  });

  const stage = openStage({
    join: () => join(),
    cancel: () => leave(),
    leave: () => leave(),
    dismiss: () => say(""),
    toggle: own.toggle, devices: own.devices, choose: own.choose,
  });

  const nameOf = (id) => getState().people[id]?.name ?? getState().names[id] ?? "Someone";
  /** Says hello to those whom the pass names, and to who has called meanwhile; the host first. */
  function greet(given) {
    const { removed, session } = getState();
    const all = [...given.people, ...callers].filter((id) => !(id in removed));
    callers.clear();
    mesh.hello(all.sort((a, b) => (b === session?.hostId) - (a === session?.hostId)));
  }

  const giveBack = (which) => api.leaveMeeting(token(), ref, which).catch(() => {});

  function say(sentence, more = {}) {
    problem = sentence;
    retry = Boolean(more.retry);
    draw();
  }

  // Coming and going

  async function join(wanted = { mic: true, camera: true }) {
    if (phase !== "out") return;
    const mine = ++turn;
    const as = newId();
    tab = as;
    callers.clear();
    phase = "joining";
    say("");
    let given;
    try {
      given = await api.meetingPass(token(), ref, as);
    } catch (error) {
      if (!error.status) giveBack(as); // without an answer, there may be a pass
      if (mine !== turn) return;
      phase = "out";
      return void say(error.message, { retry: true });
    }
    if (mine !== turn) return void giveBack(as);
    if (given.provider !== "peer") return void goElsewhere(given);
    const problems = await own.open(["mic", "camera"].filter((kind) => wanted[kind] && allowed(kind)));
    if (mine !== turn) return;
    phase = "in";
    problem = problems.length ? `${problems.join(" ")} You see and hear the others.` : "";
    levels = setInterval(showLevels, LEVEL_MS);
    enter(given);
    announce("You are in the video.");
  }

  function enter(given) {
    mesh?.close();
    known = new Map();
    mesh = openMesh({
      meeting: given.meeting_id, userId, tab, iceServers: given.data.iceServers ?? [], maxPeople: given.data.maxPeople, instead: before?.tab,
      send: (to, data) => ask("signal", { to, data }).catch(refused), changed: draw,
    });
    before = null;
    keep(given);
    mesh.setTrack("audio", own.mic());
    mesh.setTrack("video", own.video());
    mesh.tell(own.sending());
    greet(given);
    draw();
  }

  /** Perhaps the pass was given back elsewhere, for all tabs, or the meeting is not what it was. */
  function refused(error) {
    if (error.code === "no_pass" || error.code === "not_peer") lookAgain();
    throw error;
  }

  function lookAgain() {
    if (Date.now() - lookedAt < LOOK_MS) return;
    lookedAt = Date.now();
    renew();
  }

  function goElsewhere(given) {
    stop();
    phase = "elsewhere";
    keep(given);
    draw();
  }

  function keep(given) {
    pass = given;
    clearTimeout(renewing);
    renewing = setTimeout(renew, renewIn(given.expires_at, Date.now()));
  }

  /** Lets go of everything of one's own. @returns {?Promise} settled when those who saw it were told */
  function stop() {
    turn += 1;
    clearTimeout(renewing);
    clearInterval(levels);
    const told = mesh?.close();
    mesh = null;
    own.close();
    absent.clear();
    phase = "out";
    pass = null;
    return told;
  }

  function leave(sentence = "") {
    if (phase === "out") return;
    const gone = tab;
    if (phase !== "joining") announce("You have left the video.");
    // The place is free for somebody else, once the others know: who has no pass is not heard any more.
    Promise.resolve(stop()).then(() => giveBack(gone));
    say(sentence);
  }

  /** As `leave`, of a page that is about to be gone: it waits for nothing. */
  function close() {
    if (phase === "out") return;
    stop();
    giveBack(tab);
    draw();
  }

  /** A pass for what the meeting is now: before the present one ends, after a break, and when the meeting has moved. */
  function renew() {
    asking ??= renewNow().finally(() => { asking = null; });
    return asking;
  }

  async function renewNow() {
    if (phase !== "in" && phase !== "elsewhere") return;
    const mine = turn;
    const as = tab;
    clearTimeout(renewing);
    let given;
    try {
      given = await api.meetingPass(token(), ref, as);
    } catch (error) {
      if (mine !== turn) return;
      const isFinal = [403, 404, 409].includes(error.status) && error.code !== "permissions_changing";
      if (isFinal) leave(error.message);
      else renewing = setTimeout(renew, error.retryAfterMs || RETRY_MS);
      return;
    }
    if (mine !== turn) return void giveBack(as);
    if (phase === "elsewhere" && given.provider === "peer") return void leave("The video of this lesson has moved to this page. You can join it here.");
    if (given.provider !== "peer") return void goElsewhere(given);
    if (given.meeting_id !== pass.meeting_id) return void enter(given);
    mesh.setIceServers(given.data.iceServers ?? []);
    keep(given);
    greet(given);
  }

  // What the room says

  function watchPeople(state) {
    for (const page of mesh.pages()) {
      const id = page.userId;
      const mayBeHere = id in state.people || (state.crowd && !state.crowd.gone.has(id));
      if (id in state.removed) mesh.dropPerson(id);
      else if (mayBeHere || state.connection.phase !== "live") absent.delete(id);
      else if (page.phase === "interrupted") mesh.dropPerson(id);
      else if (!absent.has(id)) {
        absent.set(id, Date.now());
        setTimeout(draw, ABSENT_MS + 1);
      } else if (Date.now() - absent.get(id) >= ABSENT_MS) mesh.dropPerson(id);
    }
  }

  /** What comes of this meeting beside the room's other events. */
  function hear(event, data) {
    if (event === "signal") {
      if (data.from in getState().removed) return;
      if (phase === "joining" && data.data?.hello) callers.add(data.from);
      if (!mesh) return;
      const isStrange = typeof data.data?.meeting === "string" && data.data.meeting !== pass.meeting_id;
      if (!isStrange) return mesh.receive(data.from, data.data);
      lookAgain();
    } else if (event === "meetingMoved") {
      if (!pass || data.meeting_id === pass.meeting_id) return;
      notify("The host has moved the video.");
      Promise.resolve(asking).then(renew);
    } else if (event === "meetingEnded" && data.meeting_id === pass?.meeting_id) {
      leave("The host has ended the video.");
    }
  }

  /** One of the room's events, as it comes. */
  function told({ event, data }) {
    if (!mesh) return;
    if (event === "participantKicked" || (event === "participantLeft" && GONE.has(data.reason))) mesh.dropPerson(data.userId);
  }

  // What is shown

  function tileOf(page) {
    const person = getState().people[page.userId];
    const mayBeHeard = person?.micAllowed ?? true;
    const mayBeSeen = person?.cameraAllowed ?? true;
    return {
      key: page.key, userId: page.userId, name: nameOf(page.userId), me: false, phase: page.phase, unreached: page.unreached, micAllowed: mayBeHeard,
      mic: mayBeHeard && page.sending.mic, screen: page.sending.screen,
      audio: mayBeHeard ? page.audio : null, video: mayBeSeen && page.sending.camera ? page.video : null,
    };
  }

  function ownTile() {
    return {
      key: "me", userId, name: nameOf(userId), me: true, phase: "connected", micAllowed: allowed("mic"), mic: own.sending().mic,
      screen: own.sending().screen, audio: null, video: own.video(),
    };
  }

  const tiles = () => (mesh ? [...mesh.pages().map(tileOf), ownTile()] : []);

  const unreached = (people) => unreachedSentence(
    [...new Set(people.filter((one) => one.unreached).map((one) => one.name))], pass?.data.iceServers ?? [],
  );

  function announceChanges(people) {
    const now = new Map(people.filter((one) => !one.me && one.phase !== "connecting").map((one) => [one.key, one.name]));
    for (const [key, name] of now) if (!known.has(key)) announce(`${name} is in the video.`);
    for (const [key, name] of known) if (!now.has(key)) announce(`${name} is not in the video any more.`);
    known = now;
  }

  let planned = false;
  let wasIn = false;

  function draw() {
    if (planned) return;
    planned = true;
    setTimeout(() => {
      planned = false;
      drawNow(getState());
    });
  }

  function drawNow(state) {
    if (mesh) {
      own.obey();
      watchPeople(state);
    }
    if (wasIn !== (phase === "in")) {
      wasIn = phase === "in";
      changed();
    }
    const people = tiles();
    if (mesh) announceChanges(people);
    stage.render({
      phase, people, problem, retry, unreached: unreached(people), ...own.switches(),
      offered: Boolean(state.session) && state.session.status !== "ended",
      elsewhere: phase === "elsewhere" ? placeOf(pass) : null,
    });
  }

  function showLevels() {
    if (!mesh || document.hidden) return;
    stage.speaking(new Set(mesh.pages().filter((page) => page.sending.mic && page.level() > SPEAKING).map((page) => page.key)));
  }

  watchDevices(() => stage.refreshDevices());
  addEventListener("pagehide", () => {
    if (phase === "in") remember("sessionStorage", memory, { tab, mic: own.sending().mic, camera: own.switches().camera.on });
    if (phase !== "elsewhere") close();
  });
  addEventListener("pageshow", ({ persisted }) => {
    if (!persisted) return;
    // Back out of the browser's cache, without its connections: a page as new, whose camera is off.
    remember("sessionStorage", memory, null);
    location.reload();
  });

  return {
    hear, told,
    /** After each (re)join of the room: the video goes on, and whoever came meanwhile hears of it. */
    joined() {
      if (rejoins) join(before);
      else renew();
      rejoins = false;
    },
    /** The room's state has changed. */
    render(state) {
      if (phase !== "out" && OUT.has(state.connection.phase)) stop();
      if (phase !== "out" && state.session?.status === "ended") leave("The lesson has ended, and its video with it.");
      draw();
    },
    /** For a recording: what is seen and heard just now. */
    scene: () => ({
      pictures: tiles().filter((one) => one.video).map((one) => ({ element: stage.videoOf(one.key), name: one.name, screen: one.screen })),
      names: tiles().filter((one) => !one.video).map((one) => one.name),
      sounds: [own.sending().mic ? own.mic() : null, ...tiles().map((one) => one.audio)].filter(Boolean),
    }),
    isIn: () => phase === "in",
    isOut: () => phase === "out",
    /** Whose video one is in; null: in none. */
    provider: () => pass?.provider ?? null,
    close,
  };
}
