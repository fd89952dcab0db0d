/**
 * By which the pages of one browser know of each other: Web Locks. A browser may have none (where the page is not in a
 * secure context), or refuse them (where it keeps nothing for the site): then nobody knows.
 */

const locks = globalThis.navigator?.locks;

/**
 * Holds a name until this page lets go of it, or is gone.
 *
 * @param {{alone?: boolean, without?: ?() => void}} how `alone`: not together with other pages, and only where none holds
 *   it now; `without`: the answer where there are no locks
 * @returns {Promise<?() => void>} to let go; null: another page holds it
 */
export function hold(name, { alone = false, without = () => {} } = {}) {
  if (!locks) return Promise.resolve(without);
  const how = alone ? { ifAvailable: true } : { mode: "shared" };
  return new Promise((held) => {
    locks.request(name, how, (lock) => (lock ? new Promise((letGo) => { held(letGo); }) : held(null))).catch(() => held(without));
  });
}

/** Whether a page of this browser holds it; false where nobody knows. */
export async function isHeld(name) {
  const known = await locks?.query().catch(() => null);
  return Boolean(known?.held.some((lock) => lock.name === name));
}
