/**
 * What films still have to send, kept in the browser's own database, so that it outlasts the page.
 *
 * The database may be missing, blocked or full: then less is kept, and nothing else happens. A film's pieces lie under
 * `[path of its upload, end of the piece in bytes, time in ms]`.
 */

import { later } from "./later.js";

const DATABASE = "encounters.films";
const PIECES = "pieces";
/** For which a database may keep whoever opens it waiting: some browsers' hang for good. */
const OPEN_MS = 5_000;
/** Long after the server has taken every film for ended that was left open. */
export const OLD_MS = 24 * 60 * 60 * 1_000;

const settled = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

let opening = null;

function database() {
  opening ??= (async () => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(PIECES);
    const opened = settled(request).then((found) => {
      found.onversionchange = () => found.close(); // of a page of another version, or of who clears the site's data
      return found;
    });
    const tooLong = new Promise((_, reject) => {
      request.onblocked = () => reject(new Error("Another page keeps the database."));
      later(OPEN_MS).then(() => reject(new Error("The database does not open.")));
    });
    return Promise.race([opened, tooLong]);
  })();
  return opening;
}

/** What `act` makes of the pieces; `otherwise` where there is no database, or it fails. */
async function within(mode, act, otherwise = undefined) {
  try {
    return await act((await database()).transaction(PIECES, mode).objectStore(PIECES));
  } catch {
    return otherwise;
  }
}

const upTo = (path, end) => IDBKeyRange.bound([path], [path, end, Infinity]);

/** Keeps a piece of a film that ends at byte `end`. @param {Blob} piece */
export const keepPiece = (path, end, piece) => within("readwrite", (pieces) => settled(pieces.put(piece, [path, end, Date.now()])));

/** Lets go of the pieces up to byte `end`: the server has them. */
export const dropPieces = (path, end = Infinity) => within("readwrite", (pieces) => settled(pieces.delete(upTo(path, end))));

/** @returns {Promise<{end: number, piece: Blob}[]>} what is kept of a film, in order */
export const keptPieces = (path) => within("readonly", async (pieces) => {
  const range = upTo(path, Infinity);
  const [keys, found] = await Promise.all([settled(pieces.getAllKeys(range)), settled(pieces.getAll(range))]);
  return keys.map(([, end], at) => ({ end, piece: found[at] }));
}, []);

/** Lets go of what nobody came back for. */
export const dropOldPieces = () => within("readwrite", async (pieces) => {
  const before = Date.now() - OLD_MS;
  for (const key of await settled(pieces.getAllKeys())) if (key[2] < before) pieces.delete(key);
});

/** What of those pieces goes on from byte `offset`, without a gap. Pure. @param {{end: number, piece: Blob}[]} pieces */
export function goingOn(pieces, offset) {
  const found = [];
  let at = offset;
  for (const { end, piece } of pieces) {
    if (end <= at) continue;
    const begin = end - piece.size;
    if (begin > at) break;
    found.push(piece.slice(at - begin));
    at = end;
  }
  return found;
}
