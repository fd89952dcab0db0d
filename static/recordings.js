/** The recordings of a lesson: making one, who agrees to it, and those there are, in one dialog. */

import { askedFor, consentOfOthers, consentToast, guardianDecides, openConsent, ownConsent } from "./consent.js";
import { byId, h, icon, iconButton, place, setText } from "./dom.js";
import { openPlayer } from "./player.js";
import { openSending } from "./sending.js";
import { duration, fileSize, when } from "./words.js";

const STATUS = { recording: "Recording", processing: "Being prepared", failed: "Failed" };
const OWN = {
  agreed: ["You have agreed to be recorded.", "Take it back", false],
  declined: ["You do not agree to be recorded.", "Agree after all", true],
  open: ["You have not said yet whether you agree to be recorded.", "Agree", true],
};

/** Stopped, and what was recorded has not come. */
const hasNoFile = ({ status, file_name: name }) => status === "processing" && !name;
/** The same, and nobody sends it. */
const waitsForFile = (recording) => hasNoFile(recording) && !recording.arriving;

/** What is said of a recording under its name. Pure. */
export function factsOf(recording) {
  if (hasNoFile(recording)) return recording.arriving ? "Is being sent" : "Waits for its file";
  const { duration_seconds: seconds, file_size_bytes: bytes, failure } = recording;
  return [STATUS[recording.status], failure, seconds !== null && duration(seconds), bytes && fileSize(bytes)].filter(Boolean).join(" · ");
}

/**
 * @param {{start: () => Promise, stop: () => Promise, list: () => Promise<object[]>, remove: (id: string) => Promise,
 *          consents: () => Promise<object>, decide: (userId: string, agreed: boolean) => Promise,
 *          dispatch: Function, getState: Function, token: () => string, confirm: Function, toast: Function}} acts
 */
export function openRecordings(acts) {
  const dialog = byId("recordings");
  const toggle = byId("recordings-toggle");
  const record = byId("record");
  const problem = byId("recordings-problem");
  const drawn = new Map(); // id → {element, line, signature, player}
  let items = null; //   what the server said last
  let watched = null; // the id of the recording whose player is open
  let asking = 0; //     counts the requests for the list: an older answer does not replace a newer one

  const sending = openSending({ token: acts.token, getState: acts.getState, sent: refresh, confirm: acts.confirm, toast: acts.toast });
  const consent = openConsent({ decide });

  /** Says in the dialog what the server refuses. */
  const attempt = async (act) => {
    setText(problem, "");
    try {
      await act();
    } catch (error) {
      setText(problem, guardianDecides(error) ?? error.message);
    }
  };

  async function refresh() {
    if (!dialog.open) return;
    const own = asking += 1;
    try {
      const list = await acts.list();
      if (own === asking) items = list;
    } catch (error) {
      setText(problem, error.message);
    }
    render(acts.getState());
  }

  async function refreshConsents() {
    const { session } = acts.getState();
    if (!session?.settings.recordingConsent) return;
    const known = await acts.consents().catch(() => null);
    if (known) acts.dispatch({ type: "consents", consents: known.consents, children: known.children });
  }

  async function decide(agreed) {
    for (const userId of askedFor(acts.getState())) await acts.decide(userId, agreed);
    await refreshConsents();
  }

  async function remove({ id }) {
    const text = "It is gone for everyone, with its file. This cannot be undone.";
    if (await acts.confirm({ title: "Delete this recording?", text, yes: "Delete" })) await attempt(() => acts.remove(id).then(refresh));
  }

  /** A recording as it is now, with new links; undefined where there is none any more. */
  const anew = async (id) => {
    items = await acts.list();
    return items.find((recording) => recording.id === id);
  };

  const save = (id) => attempt(async () => {
    const url = (await anew(id))?.download_url;
    if (url) h("a", { href: url, download: "" }).click();
    render(acts.getState());
  });

  function watch(id) {
    watched = watched === id ? null : id;
    render(acts.getState());
  }

  function draw(recording, name, { playing, isHost }) {
    const live = recording.status === "recording";
    return h("div", { class: "recorded-line" },
      h("div", { class: "who" },
        h("p", { class: "recorded-name", title: recording.file_name ?? "" }, name),
        h("p", { class: `recorded-facts ${recording.status}` }, factsOf(recording))),
      h("div", { class: "tools" },
        recording.url && h("button", {
          type: "button", class: "button small", "aria-expanded": String(playing), "aria-label": `${playing ? "Close" : "Watch"} the recording of ${name}`, onclick: () => watch(recording.id),
        }, playing ? "Close" : "Watch"),
        isHost && waitsForFile(recording) && h("button", {
          type: "button", class: "button small", "aria-label": `Send the file of the recording of ${name}`, onclick: () => sending.choose(recording.id),
        }, "Send its file"),
        recording.download_url && iconButton("download", `Download the recording of ${name}`, () => save(recording.id)),
        isHost && !live && iconButton("delete", `Delete the recording of ${name}`, () => remove(recording))));
  }

  /** The row of a recording. Its line is drawn anew where it changes; a player in it stays, with the link it has. */
  function row(recording, about) {
    const name = when(recording.started_at ?? recording.created_at, null, Date.now());
    const signature = JSON.stringify([{ ...recording, url: Boolean(recording.url), download_url: "" }, name, about]);
    const known = drawn.get(recording.id) ?? { element: h("li", { class: "recorded" }), line: null, signature: "", player: null };
    drawn.set(recording.id, known);
    if (known.signature !== signature) {
      const line = draw(recording, name, about);
      const focused = known.line ? [...known.line.querySelectorAll("button")].indexOf(document.activeElement) : -1;
      if (known.line) known.line.replaceWith(line);
      else known.element.prepend(line);
      if (focused >= 0) line.querySelectorAll("button")[focused]?.focus();
      Object.assign(known, { line, signature });
    }
    if (about.playing && !known.player) {
      known.player = openPlayer({
        url: recording.url, label: `Recording of ${name}`, link: async () => (await anew(recording.id))?.url ?? null,
        problem: (sentence) => setText(problem, sentence),
      });
      known.element.append(known.player);
    } else if (!about.playing && known.player) {
      known.player.remove();
      known.player = null;
    }
    return known.element;
  }

  function renderList(isHost) {
    place(byId("recordings-list"), (items ?? []).map((recording) => row(recording, { playing: watched === recording.id && Boolean(recording.url), isHost })));
    const kept = new Set((items ?? []).map(({ id }) => id));
    for (const id of drawn.keys()) if (!kept.has(id)) drawn.delete(id);
    byId("recordings-empty").hidden = items === null || items.length > 0;
  }

  function renderConsent(state, isHost) {
    const own = ownConsent(state);
    const line = byId("recordings-consent");
    const asks = Boolean(state.session.settings.recordingConsent);
    line.hidden = !asks || !(isHost || own);
    if (line.hidden) return;
    const [sentence, act, agreed] = own ? OWN[own] : [consentOfOthers(state), "", false];
    setText(byId("recordings-consent-text"), sentence);
    const button = byId("recordings-consent-change");
    button.hidden = !own;
    setText(button, act);
    button.onclick = () => attempt(() => decide(agreed));
  }

  function render(state) {
    const { session, me, recording } = state;
    toggle.hidden = !session;
    toggle.classList.toggle("on", recording !== null);
    if (!session) return;
    consent.render(state);
    if (!dialog.open) return;
    const isHost = Boolean(me?.isHost);
    byId("recorder").hidden = !isHost || session.status === "ended";
    setText(byId("recorder-state"), recording ? "This lesson is being recorded." : "This lesson is not being recorded.");
    setText(record, recording ? "Stop recording" : "Start recording");
    record.classList.toggle("primary", !recording);
    renderConsent(state, isHost);
    renderList(isHost);
    sending.render(isHost);
  }

  toggle.addEventListener("click", () => {
    dialog.showModal();
    byId("recordings-heading").focus();
    render(acts.getState());
    refresh();
  });
  byId("recordings-close").append(icon("close"));
  byId("recordings-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.querySelector("video")?.pause()); // it would be heard on
  record.addEventListener("click", async () => {
    record.disabled = true;
    await attempt(acts.getState().recording ? acts.stop : acts.start);
    record.disabled = false;
    record.focus();
  });

  return {
    render,
    /** After each (re)join: what the ack does not say. */
    joined: () => void Promise.all([refreshConsents(), refresh()]),
    tell({ event, data }) {
      if (event === "recordingState") {
        if (data.state === "recording") acts.toast("This lesson is being recorded now.");
        refresh();
      }
      if (event === "sessionSettings" && data.recordingConsent && !acts.getState().consents) refreshConsents();
      else if (event === "recordingConsent") acts.toast(consentToast(data, acts.getState()));
    },
  };
}
