/** Reactions under a message, and the small choice of emoji to react with. */

import { h, iconButton } from "./dom.js";

/** Offered in this order. Others may come from other programs; they are shown and can be joined. */
const CHOICE = ["👍", "❤️", "😂", "🎉", "👏", "🤔"];

/**
 * What people reacted with, each a button to join in or take back; null where nobody has.
 *
 * @param {{reactions: {emoji: string, count: number, mine: boolean}[], deleted: boolean}} row
 * @param {(emoji: string) => void} react
 */
export function reactionLine({ reactions }, react) {
  if (reactions.length === 0) return null;
  return h("div", { class: "reactions" }, ...reactions.map(({ emoji, count, mine }) =>
    h("button", {
      type: "button", class: "reaction", "aria-pressed": String(mine),
      "aria-label": `${emoji} ${count === 1 ? "1 person" : `${count} people`}${mine ? ", you too" : ""}`,
      onclick: () => react(emoji),
    }, h("span", { class: "emoji" }, emoji), h("span", { class: "reaction-count" }, String(count)))));
}

/** @param {{react: (emoji: string) => void, close: () => void}} acts */
export function picker({ react, close }) {
  const choice = h("div", {
    class: "picker", role: "group", "aria-label": "React with",
    onkeydown: (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        event.preventDefault();
        event.stopPropagation();
        const buttons = [...choice.querySelectorAll("button")];
        const to = buttons.indexOf(document.activeElement) + (event.key === "ArrowRight" ? 1 : -1);
        buttons.at(to % buttons.length)?.focus();
      }
    },
  }, ...CHOICE.map((emoji) =>
    h("button", { type: "button", class: "choice", "aria-label": `React with ${emoji}`, onclick: () => react(emoji) }, emoji)),
  iconButton("close", "Close", close));
  return choice;
}
