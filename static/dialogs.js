/** Asking before something that cannot be undone, and short sentences that come and go. */

import { byId, h, iconButton, setText } from "./dom.js";

const TOAST_MS = 6_000;
const TOASTS = 3;

/** @returns {Promise<boolean>} whether the person said yes. Escape and Cancel say no. */
export function confirm({ title, text, yes }) {
  const dialog = byId("confirm");
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** A sentence at the edge of the page, read out too. */
export function toast(sentence) {
  const toasts = byId("toasts");
  const element = h("div", { class: "toast" }, h("span", {}, sentence), iconButton("close", "Dismiss", () => element.remove()));
  toasts.append(element);
  while (toasts.children.length > TOASTS) toasts.firstChild.remove();
  setTimeout(() => element.remove(), TOAST_MS);
}

/** Says something to those who do not see the page, without showing it. */
export function announce(sentence) {
  const announcer = byId("announcer");
  announcer.append(h("p", {}, sentence));
  while (announcer.children.length > 5) announcer.firstChild.remove();
}
