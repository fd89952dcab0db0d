/** The state of the connection in words: a short one in the header, and a sentence under it while something is amiss. */

import { byId, h, icon, setText } from "./dom.js";
import { clock } from "./words.js";

const KEPT = "What you write is kept and sent as soon as you are back.";

const WORDS = {
  connecting: ["Connecting…", null],
  live: ["Connected", null],
  lobby: ["Waiting", null],
  waiting: ["Reconnecting…", `The connection is interrupted. ${KEPT}`],
  offline: ["Offline", `You are offline. ${KEPT}`],
  draining: ["Reconnecting…", "The server is being updated and you are moved over in a moment. Nothing is lost."],
  signedOut: ["Signed out", "Your access has ended."],
};

/** @returns {{word: string, sentence: ?string, token: boolean, retry: boolean}} `token`: a new one is asked for. Pure. */
export function describe({ phase, message, tokenEnds }) {
  const [word, usual] = WORDS[phase] ?? ["", null];
  if (phase === "signedOut") {
    return { word, sentence: `${message ?? usual} Paste a new access token to go on.`, token: true, retry: false };
  }
  if (phase === "live" && tokenEnds) {
    return { word, sentence: `Your access ends at ${clock(tokenEnds)}. Paste a new access token to stay.`, token: true, retry: false };
  }
  const sentence = phase === "waiting" && message ? `${message} ${KEPT}` : usual;
  return { word, sentence, token: false, retry: phase === "waiting" || phase === "offline" };
}

/** @param {{useToken: (text: string) => void, reconnectNow: () => void}} acts `useToken` throws what is wrong with the text. */
export function openConnectionLine(acts) {
  const line = byId("connection");
  const banner = byId("banner");
  const word = h("span", {});
  line.replaceChildren(h("span", { class: "dot", "aria-hidden": "true" }), word);

  function tokenForm() {
    const problem = h("span", { class: "problem", role: "alert" });
    const field = h("input", { type: "password", autocomplete: "off", required: true, placeholder: "Access token", "aria-label": "New access token" });
    return h("form", {
      class: "banner-form",
      onsubmit: (event) => {
        event.preventDefault();
        try {
          acts.useToken(field.value.trim());
        } catch (error) {
          setText(problem, error.message);
        }
      },
    }, field, h("button", { type: "submit", class: "button small primary" }, "Continue"), problem);
  }

  return {
    render({ connection }) {
      const { word: said, sentence, token, retry } = describe(connection);
      setText(word, said);
      line.dataset.phase = connection.phase;
      const shown = sentence ? JSON.stringify([connection.phase, sentence]) : "";
      if ((banner.dataset.shown ?? "") === shown) return;
      banner.dataset.shown = shown;
      banner.dataset.phase = connection.phase;
      banner.hidden = !sentence;
      if (!sentence) return void banner.replaceChildren();
      banner.replaceChildren(h("div", { class: "banner-text" }, icon(token ? "warning" : "clock"), h("p", { role: "status" }, sentence)),
        ...(token ? [tokenForm()] : []),
        ...(retry ? [h("button", { type: "button", class: "link", onclick: acts.reconnectNow }, "Try now")] : []));
    },
  };
}
