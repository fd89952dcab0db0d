/** The people in the video, each in a tile: their picture or their initials, their name, and whether they can be heard. */

import { avatar, h, icon, place, setText } from "./dom.js";
import { initials } from "./words.js";

/**
 * @typedef {{key: string, userId: string, name: string, me: boolean, audio: ?MediaStreamTrack, video: ?MediaStreamTrack,
 *            mic: boolean, micAllowed: boolean, screen: boolean, phase: "connecting" | "connected" | "interrupted",
 *            unreached?: boolean}} Shown
 *   one page of somebody: `audio` and `video` are null where they are not to be heard or seen
 */

const PHASE_WORD = { connecting: "Connecting…", interrupted: "Reconnecting…", connected: "" };
const wordOf = ({ phase, unreached }) => (unreached ? "No connection yet" : PHASE_WORD[phase]);

/** What the tile says to those who do not see it. Pure. */
export function describe({ name, me, mic, micAllowed, video, screen, phase, unreached }) {
  const parts = [me ? `${name} (you)` : name];
  const word = wordOf({ phase, unreached });
  if (word) parts.push(word.replace("…", "").toLowerCase());
  parts.push(micAllowed ? `microphone ${mic ? "on" : "off"}` : "microphone turned off by the host");
  parts.push(screen && video ? "shows a screen" : `camera ${video ? "on" : "off"}`);
  return parts.join(", ");
}

/** How many tiles stand beside each other. Pure. */
export const columnsOf = (count, narrow) => (count <= 1 ? 1 : narrow || count <= 2 ? 2 : count <= 4 && count !== 3 ? 2 : 3);

/** @param {{silent: () => void}} acts `silent`: the browser plays no sound before the person clicks. */
export function openTiles(list, acts) {
  const drawn = new Map(); // key → parts of the tile

  function make({ key, userId, name, me }) {
    const video = h("video", { class: "tile-video", muted: true, autoplay: true, playsInline: true, disablePictureInPicture: true, "aria-hidden": "true" });
    const audio = me ? null : h("audio", { autoplay: true });
    const mic = h("span", { class: "tile-mic" }, icon("mic-off"));
    const label = h("span", { class: "tile-name" });
    const state = h("span", { class: "tile-state" });
    const element = h("li", { class: `tile ${me ? "mine" : ""}`, "data-key": key, "data-user-id": userId },
      h("span", { class: "tile-face" }, avatar(userId, initials(name), "large")), video, audio, state,
      h("p", { class: "tile-foot" }, mic, label));
    const parts = { element, video, audio, mic, label, state };
    drawn.set(key, parts);
    return parts;
  }

  /** A track stays in the stream it is in; a stream is changed only with its track, so that nothing flickers. */
  function give(media, track) {
    if (!media || (media.srcObject?.getTracks()[0] ?? null) === track) return;
    media.srcObject = track ? new MediaStream([track]) : null;
    if (track) media.play().catch((error) => error.name === "NotAllowedError" && media.localName === "audio" && acts.silent());
  }

  return {
    /** @param {Shown[]} people */
    render(people) {
      place(list, people.map((one) => (drawn.get(one.key) ?? make(one)).element));
      for (const one of people) {
        const { element, video, audio, mic, label, state } = drawn.get(one.key);
        give(video, one.video);
        give(audio, one.audio);
        element.classList.toggle("pictured", Boolean(one.video));
        element.classList.toggle("screen", one.screen);
        mic.hidden = one.mic;
        setText(label, one.me ? "You" : one.name);
        setText(state, wordOf(one));
        element.setAttribute("aria-label", describe(one));
      }
      const kept = new Set(people.map((one) => one.key));
      for (const [key, { video, audio }] of drawn) {
        if (kept.has(key)) continue;
        video.srcObject = null;
        if (audio) audio.srcObject = null;
        drawn.delete(key);
      }
      list.dataset.count = String(Math.min(people.length, 7));
      list.style.setProperty("--columns", columnsOf(people.length, false));
      list.style.setProperty("--columns-narrow", columnsOf(people.length, true));
    },
    speaking(keys) {
      for (const [key, { element }] of drawn) element.classList.toggle("speaking", keys.has(key));
    },
    /** After a click, sound may be played. */
    sound() {
      for (const { audio } of drawn.values()) audio?.play().catch(() => {});
    },
    /** The element that shows somebody, for a recording. */
    videoOf: (key) => drawn.get(key)?.video ?? null,
  };
}
