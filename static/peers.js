/**
 * The connections to everybody else in a meeting: a mesh, with one RTCPeerConnection for each page of each person.
 *
 * A page that comes says `hello` to everybody who has a place. Of two pages that know of each other one leads: it makes the
 * connection, and the other answers. After that either may negotiate, by perfect negotiation (W3C WebRTC 1.0, §10.7: the
 * one who leads is the impolite one), which here is left for ICE restarts: what is sent changes by `replaceTrack`.
 * Whatever is lost on the way is made up for by the next `hello`, or by the watch, which looks after connections that do
 * not come about.
 *
 * A signal's data: `{meeting, tab, …}`, from the page `tab`, with one of
 *
 *     hello: Sending, links: {tab: link}, instead: ?tab    here I am, with these connections; `instead` of a page that is gone
 *     state: Sending                                       what I send has changed
 *     to: tab, link, description                           an offer or an answer, of the connection `link`
 *     to: tab, link, candidates: []                        ways to me
 *     bye: true
 *
 * @typedef {{mic: boolean, camera: boolean, screen: boolean}} Sending
 * @typedef {{key: string, userId: string, tab: string, sending: Sending, phase: "connecting" | "connected" | "interrupted",
 *            unreached: boolean, audio: ?MediaStreamTrack, video: ?MediaStreamTrack, level: () => number}} Page   somebody's page, as it is shown; `unreached`:
 *   no way to it has been found for so long that there may be none
 */

import { newId } from "./ids.js";
import { later } from "./later.js";

export const BATCH_MS = 80; //        candidates that are found within it go together
const WATCH_MS = 2_000;
export const PATIENCE_MS = 5_000; //  a connection may take so long before it is tried again
export const UNREACHED_MS = 15_000; // of trying, after which it is said
export const GIVE_UP_MS = 40_000; //  without a connection; they may say hello again
const STALE_MS = 8_000; //            an interrupted page of somebody who has another one
const UPLINK_BITS = 3_000_000; //     shared among all who are sent to
const MOST_BITS = 1_200_000;
const MAX_TABS = 3; //                pages of one person; with one more, the oldest is taken for gone
const MAX_ID = 64;
const GREETINGS = 5; //               tries of a hello that comes too soon for the server

const NOTHING = Object.freeze({ mic: false, camera: false, screen: false });
const KINDS = ["audio", "video"];

const readSending = (said) => ({ mic: Boolean(said?.mic), camera: Boolean(said?.camera), screen: Boolean(said?.screen) });

/** Ids are whatever people are called: no separator would keep two of them apart. */
const keyOf = (userId, tab) => JSON.stringify([userId, tab]);

/**
 * @param {{meeting: string, userId: string, tab: string, iceServers: RTCIceServer[], maxPeople?: number, instead?: ?string,
 *          send: (to: string, data: object) => Promise<unknown>, changed: () => void,
 *          connect?: (configuration: RTCConfiguration) => RTCPeerConnection, clock?: () => number}} options
 *   `send` rejects where a signal was not taken; `changed` is called when `pages()` are others, or look different.
 */
export function openMesh({
  meeting, userId: me, tab, iceServers, maxPeople = Infinity, instead = null, send, changed,
  connect = (configuration) => new RTCPeerConnection(configuration), clock = Date.now,
}) {
  const own = keyOf(me, tab);
  const pages = new Map(); // key → {…Page, link, connection, acts, offeredAt, since, transceivers, waiting}
  const unmet = new Map(); // key → since when a first connection is tried; also while the page is given up
  const tracks = { audio: null, video: null };
  let sending = NOTHING;
  let configuration = { iceServers, bundlePolicy: "max-bundle" };
  let closed = false;

  const signal = (to, data) => send(to, { meeting, tab, ...data });
  const quietly = (promise) => promise.catch(() => {}); // the watch makes up for it
  const leads = (page) => own > page.key;

  /** @param {Iterable<string>} people ids of those in the meeting */
  async function hello(people) {
    await Promise.all([...new Set(people)].filter((to) => to !== me).map((to) => quietly(greet(to))));
  }

  async function greet(to, tries = GREETINGS) {
    if (closed) return;
    const theirs = [...pages.values()].filter((page) => page.userId === to && page.link);
    const links = Object.fromEntries(theirs.map((page) => [page.tab, page.link]));
    try {
      await signal(to, { hello: sending, links, instead });
    } catch (error) {
      if (error.status !== 429 || tries === 1) throw error;
      await later(error.retryAfterMs || PATIENCE_MS);
      await greet(to, tries - 1);
    }
  }

  /** Whether there is room for another page of theirs; who is over the limit was not let in by the server. */
  function admits(userId) {
    const others = new Set([...pages.values()].filter((page) => page.phase !== "interrupted").map((page) => page.userId));
    return others.has(userId) || others.size < maxPeople - 1;
  }

  function meet(userId, theirTab) {
    const key = keyOf(userId, theirTab);
    const theirs = [...pages.values()].filter((page) => page.userId === userId);
    if (theirs.length >= MAX_TABS) drop(theirs[0]);
    const page = {
      key, userId, tab: theirTab, sending: NOTHING, phase: "connecting", unreached: false, audio: null, video: null, level: () => 0,
      link: null, connection: null, acts: Promise.resolve(), offeredAt: 0, since: clock(), transceivers: {}, waiting: [], batch: 0,
    };
    pages.set(key, page);
    seek(page);
    return page;
  }

  function seek(page) {
    if (!unmet.has(page.key)) unmet.set(page.key, clock());
    page.unreached = clock() - unmet.get(page.key) >= UNREACHED_MS;
  }

  function drop(page) {
    if (pages.get(page.key) === page) pages.delete(page.key);
    unmet.delete(page.key);
    disconnect(page);
    share();
    changed();
  }

  function disconnect(page) {
    clearTimeout(page.batch);
    page.connection?.close();
    Object.assign(page, { connection: null, link: null, audio: null, video: null, transceivers: {}, waiting: [] });
  }

  /** One after the other: what arrives while something is under way finds it done. */
  function act(page, link, does) {
    page.acts = page.acts.then(() => (page.link === link ? does(page.connection) : null)).catch((error) => {
      if (page.link === link) console.warn("meeting:", error.message);
    });
  }

  function setPhase(page, phase) {
    if (page.phase === phase) return;
    if (page.phase === "connected" || phase === "connected") page.since = clock();
    page.phase = phase;
    page.unreached = false;
    if (phase === "connected") unmet.delete(page.key);
    changed();
  }

  /** A new connection to a page, in place of the one there was. */
  function begin(page, link) {
    disconnect(page);
    const connection = connect(configuration);
    Object.assign(page, { connection, link, since: clock(), acts: Promise.resolve() });
    setPhase(page, "connecting");
    seek(page);
    connection.onnegotiationneeded = () => act(page, link, () => offer(page));
    connection.onicecandidate = ({ candidate }) => candidate && page.link === link && post(page, candidate);
    connection.onconnectionstatechange = () => {
      if (page.link !== link) return;
      const state = connection.connectionState;
      if (state === "connected") setPhase(page, "connected");
      else if (page.phase === "connected") setPhase(page, "interrupted");
      if (state === "failed") connection.restartIce();
    };
    if (leads(page)) {
      for (const kind of KINDS) page.transceivers[kind] = connection.addTransceiver(tracks[kind] ?? kind, { direction: "sendrecv" });
      take(page);
    }
    share();
    changed();
  }

  function post(page, candidate) {
    if (page.waiting.length === 0) {
      page.batch = setTimeout(() => {
        const candidates = page.waiting.splice(0);
        quietly(signal(page.userId, { to: page.tab, link: page.link, candidates }));
      }, BATCH_MS);
    }
    page.waiting.push(candidate.toJSON());
  }

  async function offer(page) {
    if (page.connection.signalingState !== "stable") return; // it is asked for again when it is
    await page.connection.setLocalDescription();
    await describe(page);
  }

  /** The description has the candidates that are known by now: one that was lost can be sent again. */
  async function describe(page) {
    page.offeredAt = clock();
    const { type, sdp } = page.connection.localDescription;
    await signal(page.userId, { to: page.tab, link: page.link, description: { type, sdp }, state: sending });
  }

  async function heard(page, connection, description) {
    const isOffer = description.type === "offer";
    const collides = isOffer && connection.signalingState !== "stable";
    if (collides && leads(page)) return; // theirs is rolled back, and answered by ours
    if (!isOffer && connection.signalingState !== "have-local-offer") return; // the answer to an offer that was sent twice
    await connection.setRemoteDescription(description);
    if (!isOffer) return void share();
    for (const transceiver of connection.getTransceivers()) {
      const { kind } = transceiver.receiver.track;
      if (page.transceivers[kind] || !KINDS.includes(kind)) continue;
      page.transceivers[kind] = transceiver;
      transceiver.direction = "sendrecv";
      await transceiver.sender.replaceTrack(tracks[kind]);
    }
    take(page);
    await connection.setLocalDescription();
    await describe(page);
    share();
  }

  function take(page) {
    page.audio = page.transceivers.audio?.receiver.track ?? null;
    page.video = page.transceivers.video?.receiver.track ?? null;
    page.level = () => page.transceivers.audio?.receiver.getSynchronizationSources?.()[0]?.audioLevel ?? 0;
    changed();
  }

  /** What a home can send is shared among those who are sent to. */
  function share() {
    const bits = Math.min(MOST_BITS, Math.floor(UPLINK_BITS / Math.max(1, pages.size)));
    for (const { transceivers: { video } } of pages.values()) {
      if (!video) continue;
      const parameters = video.sender.getParameters();
      if (!parameters.encodings?.length || parameters.encodings[0].maxBitrate === bits) continue;
      parameters.encodings[0].maxBitrate = bits;
      quietly(video.sender.setParameters(parameters));
    }
  }

  /** Tries again, where a connection does not come about. */
  function nudge(page) {
    if (!leads(page)) return void hello([page.userId]);
    if (clock() - page.offeredAt < PATIENCE_MS) return;
    page.offeredAt = clock();
    const { connection, link } = page;
    if (connection.signalingState === "have-local-offer") act(page, link, () => describe(page));
    else connection.restartIce();
  }

  function greeted(userId, data) {
    const key = keyOf(userId, data.tab);
    const gone = typeof data.instead === "string" && pages.get(keyOf(userId, data.instead));
    if (gone && data.instead !== data.tab) drop(gone);
    const known = pages.get(key);
    if (!known && !admits(userId)) return;
    const page = known ?? meet(userId, data.tab);
    page.sending = readSending(data.hello);
    if (!leads(page)) {
      hello([userId]);
    } else if (!known) {
      begin(page, newId());
    } else if (data.links?.[tab] !== page.link) {
      if (page.phase === "connected" || clock() - page.offeredAt >= PATIENCE_MS) begin(page, newId());
    } else if (page.phase !== "connected") {
      nudge(page);
    }
    changed();
  }

  function receive(userId, data) {
    if (closed || userId === me || data?.meeting !== meeting || typeof data.tab !== "string" || data.tab.length > MAX_ID) return;
    if (data.hello) return greeted(userId, data);
    let page = pages.get(keyOf(userId, data.tab));
    if (data.bye) return void (page && drop(page));
    if (data.to !== undefined && data.to !== tab) return;
    if (data.description) {
      if (!page && !admits(userId)) return;
      page ??= meet(userId, data.tab);
      if (page.link !== data.link) {
        // An offer of the one who leads stands for a new connection; one of the other for an old one.
        if (leads(page)) return void (page.link ? hello([userId]) : begin(page, newId()));
        if (data.description.type !== "offer" || typeof data.link !== "string") return;
        begin(page, data.link);
      }
      act(page, data.link, (connection) => heard(page, connection, data.description));
    }
    if (!page) return;
    if (data.state) {
      page.sending = readSending(data.state);
      changed();
    }
    if (Array.isArray(data.candidates)) {
      // One that is of no use, or of an offer that was ignored, is no loss: there are others.
      for (const candidate of data.candidates) act(page, data.link, (connection) => quietly(connection.addIceCandidate(candidate)));
    }
  }

  function watch() {
    for (const page of [...pages.values()]) {
      if (page.phase === "connected") continue;
      const without = clock() - page.since;
      const another = [...pages.values()].some((other) => other !== page && other.userId === page.userId && other.phase === "connected");
      if (page.phase === "connecting" && !page.unreached) {
        seek(page);
        if (page.unreached) changed();
      }
      if (without >= GIVE_UP_MS || (another && without >= STALE_MS)) {
        const since = unmet.get(page.key);
        drop(page);
        if (another) continue;
        if (since !== undefined) unmet.set(page.key, since); // the same page, should it answer, is not a new matter
        hello([page.userId]);
      } else if (without >= PATIENCE_MS) {
        nudge(page);
      }
    }
  }

  const watching = setInterval(watch, WATCH_MS);

  return {
    hello, receive, watch,
    /** @returns {Page[]} in an order that stays */
    pages: () => [...pages.values()],
    /** Sends another track, or none, to everybody. */
    async setTrack(kind, track) {
      tracks[kind] = track;
      // A connection that has just been closed refuses it, which is no matter: the next one begins with it.
      const refused = (page) => (error) => page.connection && console.warn("meeting:", error.message);
      await Promise.all([...pages.values()].map((page) => page.transceivers[kind]?.sender.replaceTrack(track).catch(refused(page))));
    },
    /** @param {Sending} now what is sent from now on */
    tell(now) {
      if (JSON.stringify(now) === JSON.stringify(sending)) return;
      sending = readSending(now);
      for (const to of new Set([...pages.values()].map((page) => page.userId))) quietly(signal(to, { state: sending }));
    },
    /** Credentials for relays end: these are the next ones. They count from the next ICE restart on, or, where
     * the browser does not take them into a connection that there is (an older Firefox), from the next connection. */
    setIceServers(next) {
      configuration = { ...configuration, iceServers: next };
      for (const { connection } of pages.values()) {
        try {
          connection?.setConfiguration(configuration);
        } catch (error) {
          console.info("meeting:", error.message);
        }
      }
    },
    /** Somebody is not in the meeting any more. */
    dropPerson(userId) {
      for (const page of [...pages.values()]) if (page.userId === userId) drop(page);
    },
    /** Resolves when the others were told. */
    async close() {
      if (closed) return;
      closed = true;
      clearInterval(watching);
      const people = new Set([...pages.values()].map((page) => page.userId));
      for (const page of pages.values()) disconnect(page);
      pages.clear();
      await Promise.allSettled([...people].map((to) => signal(to, { bye: true })));
    },
  };
}
