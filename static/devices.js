/**
 * Cameras, microphones and screens: asking for them, and saying in a sentence why there is none.
 *
 * @typedef {"mic" | "camera"} Kind
 */

import { keep, kept } from "./storage.js";

const VIDEO = { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 24, max: 30 } };
const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const SCREEN = { video: { frameRate: { ideal: 10, max: 15 } }, audio: false };

const WHAT = { mic: "microphone", camera: "camera" };
const DEVICE = { mic: "audioinput", camera: "videoinput" };
const PERMISSION = { mic: "microphone", camera: "camera" };

/** The words for a failure to open something. Pure. @param {Kind[]} kinds what was asked for */
export function sentenceFor(error, kinds) {
  const what = kinds.map((kind) => WHAT[kind]).join(" and ");
  if (error.name === "NotSecure") return `The browser gives your ${what} only to pages with a secure address (https).`;
  if (error.name === "NotAllowedError" || error.name === "SecurityError") {
    return `The browser does not let this page use your ${what}. Allow it in the site’s settings, beside the address.`;
  }
  if (error.name === "NotFoundError" || error.name === "OverconstrainedError") return `No ${what} was found.`;
  if (error.name === "NotReadableError" || error.name === "AbortError") return `Your ${what} cannot be used. Perhaps another program has it.`;
  return `Your ${what} could not be turned on.`;
}

const constraintsOf = (kind, deviceId) => ({ ...(kind === "mic" ? AUDIO : VIDEO), ...(deviceId ? { deviceId: { exact: deviceId } } : {}) });

function request(wanted) {
  if (!navigator.mediaDevices?.getUserMedia) return Promise.reject(Object.assign(new Error("not a secure context"), { name: "NotSecure" }));
  return navigator.mediaDevices.getUserMedia(wanted);
}

async function ask(kinds, chosen) {
  const wanted = (ids) => Object.fromEntries(kinds.map((kind) => [kind === "mic" ? "audio" : "video", constraintsOf(kind, ids[kind])]));
  try {
    return await request(wanted(chosen));
  } catch (error) {
    const isGone = ["OverconstrainedError", "NotFoundError"].includes(error.name) && kinds.some((kind) => chosen[kind]);
    if (isGone) return request(wanted({})); // the device that was chosen is not there any more
    throw error;
  }
}

/** What the browser was told of it: "granted", "denied", "prompt", or "" as not every browser tells. */
async function permission(kind) {
  try {
    return (await navigator.permissions.query({ name: PERMISSION[kind] })).state;
  } catch {
    return "";
  }
}

/** Those of `kinds` whose permission is one of `states`. */
async function those(kinds, states) {
  const found = await Promise.all(kinds.map(permission));
  return kinds.filter((_, n) => states.includes(found[n]));
}

/**
 * What there is of `kinds`: with one question, and where that fails for want of one of them, each by itself.
 *
 * @param {Kind[]} kinds
 * @param {{mic?: string, camera?: string}} chosen ids of devices, where the person has chosen some
 * @returns {Promise<{mic: ?MediaStreamTrack, camera: ?MediaStreamTrack, problems: string[]}>} never rejects
 */
export async function open(kinds, chosen = {}) {
  const found = { mic: null, camera: null, problems: [] };
  const take = (stream) => {
    found.mic = stream.getAudioTracks()[0] ?? found.mic;
    found.camera = stream.getVideoTracks()[0] ?? found.camera;
  };
  const denied = await those(kinds, ["denied"]); // they are not asked for
  if (denied.length) found.problems.push(sentenceFor({ name: "NotAllowedError" }, denied));
  const wanted = kinds.filter((kind) => !denied.includes(kind));
  if (wanted.length === 0) return found;
  try {
    take(await ask(wanted, chosen));
  } catch (error) {
    // One of them may be kept back where the other is not, by the system, say. Whoever has just refused is not asked again.
    const more = wanted.length === 1 || error.name === "NotSecure" ? []
      : error.name === "NotAllowedError" ? await those(wanted, ["granted", ""]) : wanted;
    const refused = wanted.filter((kind) => !more.includes(kind));
    if (refused.length) found.problems.push(sentenceFor(error, refused));
    for (const kind of more) {
      try {
        take(await ask([kind], chosen));
      } catch (why) {
        found.problems.push(sentenceFor(why, [kind]));
      }
    }
  }
  return found;
}

export const canShareScreen = () => Boolean(navigator.mediaDevices?.getDisplayMedia);

/** @returns {Promise<?MediaStreamTrack>} null where the person thought better of it */
export async function openScreen() {
  try {
    return (await navigator.mediaDevices.getDisplayMedia(SCREEN)).getVideoTracks()[0];
  } catch (error) {
    if (error.name === "NotAllowedError") return null;
    throw new Error("The screen cannot be shared.", { cause: error });
  }
}

/** @returns {Promise<{id: string, name: string}[]>} names are known once one of them was used */
export async function listDevices(kind) {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  return devices.filter((device) => device.kind === DEVICE[kind] && device.deviceId)
    .map((device, n) => ({ id: device.deviceId, name: device.label || `${WHAT[kind]} ${n + 1}` }));
}

/** Calls back when a device is plugged in or out. @returns {() => void} stops that */
export function watchDevices(changed) {
  navigator.mediaDevices?.addEventListener?.("devicechange", changed);
  return () => navigator.mediaDevices?.removeEventListener?.("devicechange", changed);
}

const KEY = "encounters.devices";

/** The devices that the person chose last, in whatever lesson. */
export const chosenDevices = {
  /** @returns {{mic?: string, camera?: string}} */
  get: () => kept("localStorage", KEY) ?? {},
  set: (kind, id) => keep("localStorage", KEY, { ...chosenDevices.get(), [kind]: id || undefined }),
};
