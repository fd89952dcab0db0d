/** What plays a recording, on as the link behind it ends. */

import { h } from "./dom.js";

/** A new link that fails so soon is not at fault. */
const AGAIN_MS = 10_000;

/**
 * @param {{url: string, label: string, link: () => Promise<?string>, problem: (sentence: string) => void}} about `link`
 *        asks for a new link to the same recording.
 */
export function openPlayer({ url, label, link, problem }) {
  let renewedAt = -Infinity;
  const video = h("video", { class: "player", controls: true, preload: "metadata", src: url, "aria-label": label });

  async function renew() {
    const { currentTime, paused } = video;
    const next = performance.now() - renewedAt > AGAIN_MS ? await link().catch(() => null) : null;
    if (!next) return problem("The recording cannot be played on. Close it and try again.");
    renewedAt = performance.now();
    video.addEventListener("loadedmetadata", () => {
      video.currentTime = currentTime;
      if (!paused) video.play().catch(() => {}); // it may be paused, or closed, meanwhile
    }, { once: true });
    video.src = next;
  }

  video.addEventListener("error", renew);
  video.addEventListener("playing", () => problem(""));
  return video;
}
