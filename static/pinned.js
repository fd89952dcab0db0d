/** The message that the host has pinned, on top of the others. */

import { byId, h, icon, iconButton } from "./dom.js";
import { pinnedMessage } from "./state.js";

/**
 * @param {{show: (id: string) => void, unpin: () => void, read: (id: string) => Promise<void>}} acts `read` fetches the
 *        message where it is not on the page.
 */
export function openPinned(acts) {
  const bar = byId("pinned");
  let asked = null; // the id that is being fetched, or could not be

  return {
    render(state) {
      const message = pinnedMessage(state);
      const id = state.session?.pinnedId ?? null;
      if (id && !message && asked !== id && state.history !== "none" && state.history !== "loading") {
        asked = id;
        acts.read(id).catch(() => {});
      }
      const canUnpin = Boolean(state.me?.isHost);
      const drawn = message ? JSON.stringify([message.id, message.from, message.text, canUnpin]) : "";
      if ((bar.dataset.drawn ?? "") === drawn) return;
      bar.dataset.drawn = drawn;
      bar.hidden = !message;
      if (!message) return void bar.replaceChildren();
      bar.replaceChildren(
        h("button", { type: "button", class: "pinned-message", onclick: () => acts.show(message.id) }, icon("pin"),
          h("span", { class: "visually-hidden" }, "Pinned message: "),
          h("span", { class: "pinned-from" }, message.from), h("span", { class: "pinned-text" }, message.text)),
        ...(canUnpin ? [iconButton("close", "Unpin", acts.unpin)] : []));
    },
  };
}
