/** The video's part of the page: the tiles, one's own switches under them, and what is to be said of it. */

import { canShareScreen } from "./devices.js";
import { byId, h, icon, setText } from "./dom.js";
import { openTiles } from "./tiles.js";

/**
 * @typedef {{on: boolean, allowed: boolean, busy: boolean}} Switch
 * @typedef {{phase: "out" | "joining" | "in" | "elsewhere", offered: boolean, problem: string, retry: boolean, unreached: string,
 *            people: import("./tiles.js").Shown[], mic: Switch, camera: Switch, screen: Switch,
 *            elsewhere: ?{sentence: string, url: ?string}}} Stage
 */

const SAYS = {
  mic: { on: "Turn the microphone off", off: "Turn the microphone on", barred: "The host has turned off your microphone" },
  camera: { on: "Turn the camera off", off: "Turn the camera on", barred: "The host has turned off your camera" },
  screen: { on: "Stop sharing the screen", off: "Share the screen", barred: "The host has turned off your camera" },
};
const KINDS = ["mic", "camera"];

/**
 * @param {{join: () => void, cancel: () => void, leave: () => void, toggle: (what: "mic" | "camera" | "screen") => void, dismiss: () => void,
 *          devices: (kind: "mic" | "camera") => Promise<{chosen: string, devices: {id: string, name: string}[]}>,
 *          choose: (kind: "mic" | "camera", id: string) => void}} acts
 */
export function openStage(acts) {
  const stage = byId("stage");
  const joinButton = byId("video-join");
  const buttons = { mic: byId("video-mic"), camera: byId("video-camera"), screen: byId("video-screen") };
  const problem = byId("video-problem");
  const elsewhere = byId("video-elsewhere");
  const menu = byId("video-devices");
  const soundButton = byId("video-sound");
  const tiles = openTiles(byId("tiles"), { silent: () => { soundButton.hidden = false; } });
  let shownPhase = "out";

  function renderSwitch(what, { on, allowed, busy }) {
    const button = buttons[what];
    const says = SAYS[what][!allowed ? "barred" : on ? "on" : "off"];
    button.setAttribute("aria-pressed", String(on));
    button.setAttribute("aria-label", says);
    button.title = says;
    button.disabled = busy || !allowed;
    const drawing = what === "screen" ? "screen" : on ? what : `${what}-off`;
    if (button.dataset.drawing === drawing) return;
    button.dataset.drawing = drawing;
    button.replaceChildren(icon(drawing));
  }

  function renderElsewhere(place) {
    elsewhere.hidden = !place;
    const signature = JSON.stringify(place ?? null);
    if (elsewhere.dataset.drawn === signature) return;
    elsewhere.dataset.drawn = signature;
    elsewhere.replaceChildren(...(place ? [
      h("p", {}, place.sentence),
      place.url && h("a", { class: "button primary", href: place.url, target: "_blank", rel: "noopener noreferrer" }, "Open the video", icon("open")),
    ].filter(Boolean) : []));
  }

  /** The focus goes on to what comes instead of the button that one has pressed. */
  function moveFocus(phase) {
    const was = shownPhase;
    shownPhase = phase;
    if (was === phase) return;
    const lost = document.activeElement === document.body || document.activeElement === joinButton || stage.contains(document.activeElement);
    if (!lost) return;
    if (phase === "in") buttons.mic.focus();
    else if (phase === "elsewhere") (elsewhere.querySelector("a") ?? byId("video-leave")).focus();
    else if (phase === "out" && was !== "joining") joinButton.focus();
  }

  async function fill(kind) {
    const select = byId(`choose-${kind}`);
    const { chosen, devices } = await acts.devices(kind);
    select.replaceChildren(...(devices.length ? devices : [{ id: "", name: kind === "mic" ? "No microphone found" : "No camera found" }])
      .map(({ id, name }) => h("option", { value: id, selected: id === chosen }, name)));
    select.disabled = devices.length === 0;
  }
  const fillAll = () => KINDS.forEach(fill);

  // The second click of a double-click is none to cancel what the first has begun.
  joinButton.addEventListener("click", ({ detail }) => detail < 2 && (shownPhase === "joining" ? acts.cancel() : acts.join()));
  byId("video-leave").addEventListener("click", acts.leave);
  byId("video-retry").addEventListener("click", acts.join);
  byId("video-dismiss").addEventListener("click", acts.dismiss);
  soundButton.addEventListener("click", () => {
    soundButton.hidden = true;
    tiles.sound();
  });
  for (const what of Object.keys(buttons)) buttons[what].addEventListener("click", () => acts.toggle(what));
  for (const kind of KINDS) byId(`choose-${kind}`).addEventListener("change", ({ target }) => acts.choose(kind, target.value));
  menu.addEventListener("toggle", ({ newState }) => newState === "open" && fillAll());

  return {
    /** @param {Stage} model */
    render(model) {
      const { phase } = model;
      const isIn = phase === "in";
      stage.hidden = phase === "out" && !model.problem;
      stage.dataset.phase = phase;
      joinButton.hidden = !model.offered || !["out", "joining"].includes(phase);
      setText(joinButton.lastElementChild, phase === "joining" ? "Cancel joining" : "Join video");
      byId("tiles").hidden = !isIn;
      tiles.render(isIn ? model.people : []);
      byId("video-bar").hidden = !isIn && phase !== "elsewhere";
      byId("video-own").hidden = !isIn;
      setText(byId("video-leave"), isIn ? "Leave video" : "Close");
      if (!isIn) {
        soundButton.hidden = true;
        if (menu.matches(":popover-open")) menu.hidePopover();
      }
      for (const what of Object.keys(buttons)) renderSwitch(what, model[what]);
      buttons.screen.hidden = !canShareScreen();
      byId("video-problem-line").hidden = !model.problem;
      setText(problem, model.problem);
      byId("video-retry").hidden = !model.retry || phase !== "out";
      const alone = isIn && model.people.length === 1;
      setText(byId("video-alone"), alone ? "Nobody else is in the video yet." : isIn ? model.unreached : "");
      renderElsewhere(phase === "elsewhere" ? model.elsewhere : null);
      moveFocus(phase);
    },
    refreshDevices: () => menu.matches(":popover-open") && fillAll(),
    speaking: tiles.speaking,
    videoOf: tiles.videoOf,
  };
}
