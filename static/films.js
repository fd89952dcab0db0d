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
import { keep, kept } from "./storage.js";
import { announce, append, conclude, isOver, standOf, trying } from "./tus.js";
import { dropOldPieces, dropPieces, goingOn, keepPiece, keptPieces } from "./unsent.js";

const MOST_BYTES = 8 * 1024 * 1024; // of one request

/** By which the server tells apart who records. A page that takes another's film over goes on by its name. */
let page = newId();

const goesOn = (error) => !isOver(error);

const KEY = "encounters.recording";

/** The uploads that pages of this browser have begun and not ended: path → {userId, ref, page}. */
const open = {
  all: () => kept("localStorage", KEY) ?? {},
  save: (all) => keep("localStorage", KEY, all),
  add: (path, about) => open.save({ ...open.all(), [path]: about }),
  remove(path) {
    const { [path]: _, ...others } = open.all();
    open.save(others);
  },
};

const locks = globalThis.navigator?.locks; // not where the page is not in a secure context

/**
 * Says to this browser's other pages that this one lives and does something.
 *
 * @returns {Promise<?() => void>} to let go; null where it is to be held `alone`, and another page holds it
 */
export function hold(name, { alone = false } = {}) {
  if (!locks) return Promise.resolve(alone ? null : () => {});
  const how = alone ? { ifAvailable: true } : { mode: "shared" };
  return new Promise((held) => {
    locks.request(`${KEY} ${name}`, how, (lock) => (lock ? new Promise((letGo) => { held(letGo); }) : held(null)));
  });
}

/** Whether a page of this browser holds that. */
export const isHeld = async (name) => Boolean((await locks?.query())?.held.some((lock) => lock.name === `${KEY} ${name}`));

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
    if (!known) {
      const { offset: now, length } = await standOf(token, path);
      confirm(now);
      known = true;
      if (length !== null) {
        if (ended && size() === 0) return true;
        throw tookForEnded();
      }
    }
    const body = new Blob(pieces).slice(0, MOST_BYTES);
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
  };
}

const tookForEnded = () =>
  new ServerError({ status_code: 410, error: "film_ended", message: "The server took it for ended: nothing had come for too long." });

/**
 * Sends what is added to a film, in order, and waits while the server cannot be reached.
 *
 * @param {{token: () => string, path: string, owner: {userId: string, ref: string}}} film
 * @returns {{add: (piece: Blob) => void, end: () => void, done: Promise<void>, left: () => number, sent: () => number}}
 *   `done` rejects with what the server refuses for good; `left` are the bytes that it has not confirmed
 */
export function openSender({ token, path, owner, wait = later }) {
  const { run, ...queue } = openQueue({ token, path, wait });

  async function whileHeld() {
    const letGo = await hold(path);
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
 * by their name then, so that it need not wait for that.
 *
 * @returns {Promise<{done: Promise<void>, left: () => number}[]>} the films, as those of `openSender`
 */
export async function takeOver({ token, userId, ref, wait = later }) {
  dropOldPieces();
  const films = [];
  for (const [path, about] of Object.entries(open.all())) {
    if (about.userId !== userId || about.ref !== ref) continue;
    const letGo = await hold(path, { alone: true });
    if (!letGo) continue; // its page sends it
    page = about.page ?? page;
    films.push(openRest({ token, path, wait, letGo, pieces: await keptPieces(path) }));
  }
  return films;
}

function openRest({ token, path, wait, letGo, pieces }) {
  let left = () => pieces.reduce((bytes, { piece }) => bytes + piece.size, 0);

  async function run() {
    try {
      const { offset, length } = await trying(() => standOf(token, path), { goesOn, wait });
      const rest = goingOn(pieces, offset);
      if (length !== null && rest.length) throw tookForEnded();
      if (length !== null) return;
      const queue = openQueue({ token, path, wait, offset, pieces: rest });
      ({ left } = queue);
      queue.end();
      await queue.run();
    } finally {
      close(path);
      letGo();
    }
  }

  const done = run();
  done.catch(() => {}); // it may fail before anybody listens
  return { done, left: () => left() };
}
