/** What one sends oneself: microphone, camera and screen, as far as the host lets one. */

import { chosenDevices, listDevices, open as openDevices, openScreen } from "./devices.js";

/**
 * @param {{allowed: (what: "mic" | "camera" | "screen") => boolean, changed: () => void, say: (sentence: string) => void}} acts
 *   `changed`: what is sent is something else now; `say`: why something cannot be sent, or "" where it can
 */
export function openOwn({ allowed, changed, say }) {
  const tracks = { mic: null, camera: null, screen: null };
  const busy = new Set();
  const chosenMeanwhile = new Set(); // devices that were chosen while others were being turned on
  let isOpen = false;
  let opened = 0; // what was asked for before the last opening or closing is not wanted any more

  const sending = () => ({ mic: Boolean(tracks.mic?.enabled), camera: Boolean(tracks.camera || tracks.screen), screen: Boolean(tracks.screen) });

  /** Takes a device over, in place of the one before; null lets go of it: the camera's light goes off. */
  function hold(kind, track) {
    const old = tracks[kind];
    if (old && old !== track) {
      old.onended = null;
      old.stop();
    }
    tracks[kind] = track;
    if (track) track.onended = () => {
      if (tracks[kind] !== track) return;
      put(kind, null);
      if (kind !== "screen") say(`Your ${kind === "mic" ? "microphone" : "camera"} has gone. Perhaps it was unplugged.`);
    };
  }

  function put(kind, track) {
    hold(kind, track);
    changed();
  }

  /** Asks for something, which the person or the host may not want any more when it is there. */
  async function whileBusy(what, does) {
    if (!isOpen || busy.has(what)) return;
    const mine = opened;
    busy.add(what);
    changed();
    try {
      await does(() => mine === opened && allowed(what));
    } finally {
      busy.delete(what);
      changed();
      if (chosenMeanwhile.delete(what)) use(what);
    }
  }

  /** Goes over to the device that is chosen now, where one is on. */
  function use(kind) {
    if (busy.has(kind)) return void chosenMeanwhile.add(kind);
    if (!tracks[kind]) return;
    const { enabled } = tracks[kind];
    whileBusy(kind, (isWanted) => turnOn(kind, isWanted, enabled));
  }

  async function turnOn(kind, isWanted, enabled = true) {
    const { problems, ...found } = await openDevices([kind], chosenDevices.get());
    if (!isWanted()) return void found[kind]?.stop();
    if (found[kind]) put(kind, Object.assign(found[kind], { enabled }));
    say(problems.join(" "));
  }

  async function showScreen(isWanted) {
    try {
      const track = await openScreen();
      if (track && isWanted()) put("screen", track);
      else track?.stop();
    } catch (error) {
      say(error.message);
    }
  }

  return {
    sending,
    mic: () => tracks.mic,
    video: () => tracks.screen ?? tracks.camera,
    /** @returns {Promise<string[]>} why what is not there is not there */
    async open(kinds) {
      const mine = opened += 1;
      isOpen = true;
      const { problems, ...found } = await openDevices(kinds, chosenDevices.get());
      for (const kind of kinds) {
        if (mine === opened && allowed(kind)) hold(kind, found[kind]);
        else found[kind]?.stop();
      }
      return problems;
    },
    close() {
      opened += 1;
      isOpen = false;
      for (const kind of Object.keys(tracks)) hold(kind, null);
    },
    toggle(what) {
      if (!allowed(what)) return;
      if (what === "mic" && tracks.mic) {
        tracks.mic.enabled = !tracks.mic.enabled;
        changed();
      } else if (tracks[what]) {
        put(what, null);
      } else {
        whileBusy(what, what === "screen" ? showScreen : (isWanted) => turnOn(what, isWanted));
      }
    },
    async devices(kind) {
      const chosen = tracks[kind]?.getSettings().deviceId ?? chosenDevices.get()[kind] ?? "";
      return { chosen, devices: await listDevices(kind) };
    },
    choose(kind, id) {
      chosenDevices.set(kind, id);
      use(kind);
    },
    /** The host keeps control: what one may not send is let go of, and stays so until one turns it on again. */
    obey() {
      const barred = Object.keys(tracks).filter((what) => tracks[what] && !allowed(what));
      for (const what of barred) hold(what, null);
      if (barred.length) changed();
    },
    /** @returns {{mic: import("./stage.js").Switch, camera: import("./stage.js").Switch, screen: import("./stage.js").Switch}} */
    switches() {
      const on = { mic: sending().mic, camera: Boolean(tracks.camera), screen: Boolean(tracks.screen) };
      return Object.fromEntries(Object.keys(tracks).map((what) => [what, { on: on[what], allowed: allowed(what), busy: busy.has(what) }]));
    },
  };
}
