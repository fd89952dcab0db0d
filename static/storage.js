/** What the browser keeps for this page, which may be nothing: it can be blocked, full, or hold what another version wrote. */

/** @typedef {"localStorage" | "sessionStorage"} Where */

/** @param {Where} where  @returns {?object} what was kept by `key`; null where there is none, or none that can be read */
export function kept(where, key) {
  try {
    const found = JSON.parse(globalThis[where].getItem(key));
    return typeof found === "object" ? found : null;
  } catch {
    return null;
  }
}

/** Keeps it, if it can be. @param {Where} where  @param {?object} value null: nothing is kept any more */
export function keep(where, key, value) {
  try {
    if (value === null) globalThis[where].removeItem(key);
    else globalThis[where].setItem(key, JSON.stringify(value));
  } catch {
    // The page goes on without.
  }
}
