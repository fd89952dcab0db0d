/** What a pass to the lesson's video says: where the video runs, how long it holds, and what helps where it leads to nobody. */

import { listNames } from "./words.js";

const SOONEST_MS = 30_000;
const RENEW_AT = 0.8; //              of a pass's life
const LONGEST_MS = 2 ** 31 - 1; //    that a timer can wait
const WHERE = { jitsi: "Jitsi Meet", daily: "Daily" };

/** Where to go for the video, by a pass of another provider. Pure. @returns {{sentence: string, url: ?string}} */
export function placeOf({ provider, url, token }) {
  if (provider === "chime") {
    return { url: null, sentence: "The video of this lesson runs in Amazon Chime, for which this page has no player. Join with an app that has the Amazon Chime SDK: the lesson’s token is made for it." };
  }
  if (!url) return { url: null, sentence: "The video of this lesson runs in another app." };
  const address = new URL(url);
  if (provider === "daily" && token) address.searchParams.set("t", token);
  if (address.protocol !== "https:" && address.protocol !== "http:") return { url: null, sentence: "The video of this lesson runs in another app." };
  return { url: address.href, sentence: `The video of this lesson runs in ${WHERE[provider] ?? "another app"}. It opens in a new tab; the chat stays here.` };
}

/** Why somebody is not seen, and what to do about it. Pure. @param {string[]} names of those to whom no way is found */
export function unreachedSentence(names, iceServers) {
  if (names.length === 0) return "";
  const hasRelay = iceServers.some(({ urls }) => [urls].flat().some((url) => /^turns?:/.test(url)));
  const help = hasRelay ? "" : " Whoever runs this server can set up a relay, which helps where networks do not.";
  return `No connection to ${listNames(names)} yet: your network, or theirs, may let none through. It is tried on; another network, such as a phone’s, may help.${help}`;
}

/** How long until a pass is renewed, in milliseconds. Pure. */
export const renewIn = (expiresAt, now) => Math.min(LONGEST_MS, Math.max(SOONEST_MS, (new Date(expiresAt) - now) * RENEW_AT));
