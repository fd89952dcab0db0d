/** Writing a message: sending it, saying that one is writing, and the raised hand beside it. */

import { byId, setText } from "./dom.js";
import { grow, lengthOf, TEXT_LIMIT } from "./editor.js";
import { writing } from "./state.js";
import { seconds } from "./words.js";

const TYPING_EVERY_MS = 2_500; // the server ends it after 5 s without a repeat
const TYPING_IDLE_MS = 4_000;
const COUNT_FROM = 1_800;
const TICK_MS = 250; // of the seconds that slow mode asks for

/**
 * @param {{send: (text: string) => void, typing: (typing: boolean) => void, raiseHand: (raised: boolean) => void,
 *          editLast: () => void}} acts
 */
export function openComposer(acts) {
  const form = byId("composer");
  const field = byId("text");
  const count = byId("count");
  const hand = byId("hand");
  const rule = byId("rule");
  let saidAt = 0; //   when "typing" was last told; 0: not typing
  let idle = 0;
  let shown = null; // the state as it is drawn
  let ticking = 0;

  const may = () => (shown ? writing(shown, Date.now()) : { muted: false, wait: 0 });
  const fits = () => {
    const { muted, wait } = may();
    return !muted && wait === 0 && lengthOf(field.value) > 0 && lengthOf(field.value) <= TEXT_LIMIT;
  };

  function stopTyping() {
    clearTimeout(idle);
    if (saidAt === 0) return;
    saidAt = 0;
    acts.typing(false);
  }

  function sayTyping() {
    clearTimeout(idle);
    idle = setTimeout(stopTyping, TYPING_IDLE_MS);
    if (Date.now() - saidAt < TYPING_EVERY_MS) return;
    saidAt = Date.now();
    acts.typing(true);
  }

  function changed() {
    const length = lengthOf(field.value);
    grow(field);
    count.hidden = length < COUNT_FROM;
    count.classList.toggle("over", length > TEXT_LIMIT);
    setText(count, length > TEXT_LIMIT ? `${length - TEXT_LIMIT} too many` : `${TEXT_LIMIT - length} left`);
    form.classList.toggle("ready", fits());
  }

  function submit() {
    if (!fits()) return;
    const text = field.value.trim();
    field.value = "";
    changed();
    saidAt = 0; // the message itself ends it for the others
    clearTimeout(idle);
    acts.send(text);
  }

  field.addEventListener("input", () => {
    changed();
    if (lengthOf(field.value) > 0) sayTyping();
    else stopTyping();
  });
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      submit();
    } else if (event.key === "ArrowUp" && field.value === "") {
      event.preventDefault();
      acts.editLast();
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
    field.focus();
  });
  hand.addEventListener("click", () => acts.raiseHand(hand.getAttribute("aria-pressed") !== "true"));

  /** What the host asks of those who write: nothing, silence, or a pause, which is counted down. */
  function drawRule() {
    clearTimeout(ticking);
    const { muted, wait } = may();
    field.disabled = muted;
    field.placeholder = muted ? "Only the host can write now" : "Write a message";
    if (muted) stopTyping();
    const slow = shown?.session?.settings.slowModeSeconds ?? 0;
    if (wait > 0) ticking = setTimeout(drawRule, TICK_MS);
    rule.hidden = muted || slow === 0 || Boolean(shown.me?.isHost);
    rule.classList.toggle("waits", wait > 0);
    setText(rule, wait > 0 ? `Slow mode: write again in ${seconds(Math.ceil(wait / 1_000))}` : `Slow mode: one message every ${seconds(slow)}`);
    form.classList.toggle("ready", fits());
  }

  return {
    focus: () => field.focus(),
    render(state) {
      shown = state;
      drawRule();
      const raised = Boolean(state.people[state.me?.userId]?.handRaised);
      const label = raised ? "Lower your hand" : "Raise your hand";
      hand.setAttribute("aria-pressed", String(raised));
      hand.title = label;
      hand.setAttribute("aria-label", label);
    },
  };
}
