/**
 * Films of the lesson on their way to the server, while they are made.
 *
 * A film grows on the server by a resumable upload whose length is said at the end, in a request of its own: whatever
 * breaks off, what has come is a film. What has not come yet waits in the page, and in the browser's database for the case
 * that the page goes: then the next page of this browser that records the same lesson sends it, and ends the film. Where
 * none comes, the server ends it after a while.
 */

import { ServerError } from "./api.js";
import { newId } from "./ids.js";
import { later } from "./later.js";
import { hold } from "./locks.js";
import { keep, kept } from "./storage.js";
import { announce, append, conclude, isOver, mayGoOn, standOf, trying } from "./tus.js";
import { dropOldPieces, dropPieces, goingOn, keepPiece, keptPieces, OLD_MS } from "./unsent.js";

const MOST_BYTES = 8 * 1024 * 1024; // of one request
const LEAST_BYTES = 256 * 1024; //     of it, where a proxy takes no more
/** For which a proxy may refuse the same before that is told. */
const REFUSED_MS = 2 * 60_000;

/** By which the server tells apart who records. A page that takes another's film over goes on by its name. */
let page = newId();

const goesOn = (error) => !isOver(error);

const KEY = "encounters.recording";

/** The uploads that pages of this browser have begun and not ended: path → {userId, ref, page, at}. */
const open = {
  all: () => kept("localStorage", KEY) ?? {},
  save: (all) => keep("localStorage", KEY, all),
  add: (path, about) => open.save({ ...open.all(), [path]: { ...about, at: Date.now() } }),
  remove(path) {
    const { [path]: _, ...others } = open.all();
    open.save(others);
  },
  dropOld() {
    const all = Object.entries(open.all());
    const young = all.filter(([, { at }]) => at > Date.now() - OLD_MS);
    if (young.length < all.length) open.save(Object.fromEntries(young));
  },
};

/** Held by the page that sends a film, which so tells this browser's other pages that it lives. */
const lockOf = (path) => `${KEY} ${path}`;

/** Lets go of what is kept of films for which nobody came back: whoever opens the page. */
export function dropOld() {
  open.dropOld();
  return dropOldPieces();
}

/**
 * Announces a film. Rejects with what the server refuses; `recorded_elsewhere`: another page makes it.
 *
 * @param {{token: () => string, about: Object<string, string>}} film
 * @returns {Promise<string>} the path of its upload
 */
export const announceFilm = ({ token, about, wait = later }) =>
  trying(() => announce(token, { about: { kind: "recording", page, ...about } }), { wait });

/**
 * What is sent of one film, in order.
 *
 * @param {{token: () => string, path: string, wait: typeof later, offset?: number, pieces?: Blob[]}} film `pieces` are
 *   what there is to send from `offset` on
 */
function openQueue({ token, path, wait, offset = 0, pieces = [] }) {
  let most = MOST_BYTES;
  let tried = 0; //     bytes of the last request
  let refusal = null; // {message, since} of what a proxy says again and again
  let known = true; //  how far it has come: not after a request that failed
  let ended = false;
  let isOpen = true;
  let wake = () => {};

  const size = () => pieces.reduce((bytes, piece) => bytes + piece.size, 0);

  /** What is to be sent is there, or nothing more will be. */
  async function ready() {
    while (size() === 0 && !ended) await new Promise((resolve) => { wake = resolve; });
  }

  function confirm(now) {
    if (now < offset) throw new ServerError({ status_code: 410, error: "film_lost", message: "The server has lost some of what had come." });
    pieces = [new Blob(pieces).slice(now - offset)].filter((piece) => piece.size);
    offset = now;
    dropPieces(path, now);
  }

  /** @returns {Promise<boolean>} whether that was the end */
  async function sendNext() {
    try {
      const whole = await sendSome();
      refusal = null;
      return whole;
    } catch (error) {
      note(error);
      throw error;
    }
  }

  /** What a proxy refuses may come right by itself; what is too large for it, in smaller pieces. */
  function note({ status, code, message }) {
    const isProxys = !mayGoOn({ status, code }) && !isOver({ status, code });
    if (!isProxys) refusal = null;
    else if (refusal?.message !== message) refusal = { message, since: Date.now() };
    if (isProxys && status === 413) most = Math.max(LEAST_BYTES, Math.floor(tried / 2));
  }

  async function sendSome() {
    const isNothing = ended && offset === 0 && size() === 0; // may have been given up already, unheard
    if (!known && !isNothing) {
      const { offset: now, length } = await standOf(token, path);
      confirm(now);
      known = true;
      if (length !== null) {
        if (ended && size() === 0) return true;
        throw tookForEnded();
      }
    }
    const body = new Blob(pieces).slice(0, most);
    tried = body.size;
    if (body.size === 0 && !ended) return false; // all had come, unheard
    known = false;
    if (body.size === 0) {
      await conclude(token, path, offset);
      return true;
    }
    const wanted = offset + body.size;
    confirm(await append(token, path, offset, body));
    known = offset === wanted;
    return false;
  }

  return {
    /** Sends until the end. Rejects with what the server refuses for good. */
    async run() {
      try {
        for (let whole = false; !whole;) {
          await ready();
          whole = await trying(sendNext, { goesOn, wait });
        }
      } finally {
        isOpen = false;
      }
    },
    add(piece) {
      if (!piece.size || !isOpen) return;
      keepPiece(path, offset + size() + piece.size, piece);
      pieces.push(piece);
      wake();
    },
    end() {
      ended = true;
      wake();
    },
    left: size, sent: () => offset,
    trouble: () => (refusal && Date.now() - refusal.since >= REFUSED_MS ? refusal.message : ""),
  };
}

const tookForEnded = () =>
  new ServerError({ status_code: 410, error: "film_ended", message: "The server took it for ended: nothing had come for too long." });

/**
 * Sends what is added to a film, in order, and waits while the server cannot be reached.
 *
 * @param {{token: () => string, path: string, owner: {userId: string, ref: string}}} film
 * @returns {{add: (piece: Blob) => void, end: () => void, done: Promise<void>, left: () => number, sent: () => number,
 *            trouble: () => string}}
 *   `done` rejects with what the server refuses for good; `left` are the bytes that it has not confirmed; `trouble` is what
 *   a proxy has been saying to every request for minutes
 */
export function openSender({ token, path, owner, wait = later }) {
  const { run, ...queue } = openQueue({ token, path, wait });

  async function whileHeld() {
    const letGo = await hold(lockOf(path));
    open.add(path, { ...owner, page });
    try {
      await run();
    } finally {
      close(path);
      letGo();
    }
  }

  return { ...queue, done: whileHeld() };
}

function close(path) {
  open.remove(path);
  dropPieces(path);
}

/**
 * Takes over what pages that are gone have left open of a lesson: sends what is kept of it, and ends it. This page records
 * by their name then, so that it need not wait for that. Where there are no locks, nothing is: its page may live.
 *
 * @returns {Promise<{done: Promise<void>, left: () => number, trouble: () => string}[]>} the films, as those of `openSender`
 */
export async function takeOver({ token, userId, ref, wait = later }) {
  const films = [];
  for (const [path, about] of Object.entries(open.all())) {
    if (about.userId !== userId || about.ref !== ref) continue;
    const letGo = await hold(lockOf(path), { alone: true, without: null });
    if (!letGo) continue; // its page sends it
    page = about.page ?? page;
    films.push(openRest({ token, path, wait, letGo, pieces: await keptPieces(path) }));
  }
  return films;
}

function openRest({ token, path, wait, letGo, pieces }) {
  let left = () => pieces.reduce((bytes, { piece }) => bytes + piece.size, 0);
  let trouble = () => "";

  async function run() {
    try {
      const { offset, length } = await trying(() => standOf(token, path), { goesOn, wait });
      const rest = goingOn(pieces, offset);
      if (length !== null && rest.length) throw tookForEnded();
      if (length !== null) return;
      const queue = openQueue({ token, path, wait, offset, pieces: rest });
      ({ left, trouble } = queue);
      queue.end();
      await queue.run();
    } finally {
      close(path);
      letGo();
    }
  }

  const done = run();
  done.catch(() => {}); // it may fail before anybody listens
  return { done, left: () => left(), trouble: () => trouble() };
}
