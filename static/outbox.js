/**
 * Sends what was written, one after the other and in the order written, for as long as there is a connection.
 *
 * A message whose answer is lost stays `pending` and goes out again under the same clientId, which the server lands once.
 */

import { later } from "./later.js";

const TRIES = 5;
const PAUSE_MS = 1_000;

/**
 * @param {{send: (message: {clientId: string, text: string}) => Promise<{message: object}>, isLive: () => boolean,
 *          dispatch: Function, getState: Function, wait?: (ms: number) => Promise<void>}} parts
 */
export function openOutbox({ send, isLive, dispatch, getState, wait = later }) {
  let pumping = false;

  const next = () => getState().outgoing.find((message) => message.state === "pending");

  async function deliver(message) {
    for (let tried = 1; isLive(); tried += 1) {
      try {
        const { message: stored } = await send(message);
        return void dispatch({ type: "message", message: { ...stored, client_id: message.clientId } });
      } catch (error) {
        if (!isLive()) return; // it goes out again when the connection is back
        if (!error.passing || tried === TRIES) {
          return void dispatch({ type: "sendFailed", clientId: message.clientId, problem: error.message });
        }
        await wait(error.retryAfterMs || PAUSE_MS * tried);
      }
    }
  }

  return {
    /** Sends all that is pending. Calling it while it runs does nothing more. */
    async pump() {
      if (pumping) return;
      pumping = true;
      try {
        for (let message = next(); message && isLive(); message = next()) await deliver(message);
      } finally {
        pumping = false;
      }
    },
  };
}
