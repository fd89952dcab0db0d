/** What the host sets while the lesson goes on: a small menu in the header. */

import { byId } from "./dom.js";

/** Seconds between two messages of one person that the menu offers. */
const SLOW_MODES = [0, 10, 30, 60, 300];

const SWITCHES = { "set-locked": "locked", "set-waiting-room": "waitingRoom", "set-chat-muted": "chatMuted", "set-recording-consent": "recordingConsent" };

/** @param {{set: (change: object) => Promise<unknown>}} acts `set` never rejects: it says itself what went wrong. */
export function openControls(acts) {
  const menu = byId("controls");
  const slow = byId("set-slow-mode");
  let shown = null; // the state as it is drawn

  /** What the server refuses springs back. */
  const set = (change) => acts.set(change).then(() => render(shown));

  for (const [id, setting] of Object.entries(SWITCHES)) {
    byId(id).addEventListener("change", ({ target }) => set({ [setting]: target.checked }));
  }
  slow.addEventListener("change", () => set({ slowModeSeconds: Number(slow.value) }));

  function render(state) {
    shown = state;
    const isHost = Boolean(state.me?.isHost && state.session);
    byId("controls-toggle").hidden = !isHost;
    if (!isHost) {
      if (menu.matches(":popover-open")) menu.hidePopover();
      return;
    }
    const { settings } = state.session;
    for (const [id, setting] of Object.entries(SWITCHES)) byId(id).checked = settings[setting];
    const other = slow.querySelector("[data-other]");
    const isOther = !SLOW_MODES.includes(settings.slowModeSeconds);
    other.hidden = !isOther;
    if (isOther) {
      other.value = String(settings.slowModeSeconds);
      other.textContent = `${settings.slowModeSeconds} s`;
    }
    slow.value = String(settings.slowModeSeconds);
  }

  return { render };
}
