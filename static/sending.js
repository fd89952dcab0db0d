/** Sending the file of a recording: choosing it, how far it has come, and going on after a reload. */

import { byId, setText } from "./dom.js";
import { hold } from "./locks.js";
import { keep, kept } from "./storage.js";
import { giveUp, isOver } from "./tus.js";
import { sendFile } from "./uploads.js";
import { fileSize } from "./words.js";

/** A file is known again by these; its content cannot be asked for before it is chosen. */
const markOf = ({ name, size, lastModified }) => ({ name, size, lastModified });
const isSame = (file, { name, size, lastModified }) => file.name === name && file.size === size && file.lastModified === lastModified;

const IN_ANOTHER_TAB = "A file of this lesson is being sent in another tab. Wait for it there, or cancel it.";

/** Does `act` while no other tab of the browser does. Resolves with whether it was done. */
async function alone(name, act) {
  const letGo = await hold(name, { alone: true });
  if (!letGo) return false;
  try {
    await act();
  } finally {
    letGo();
  }
  return true;
}

/**
 * @param {{token: () => string, getState: Function, sent: () => void, confirm: Function,
 *          toast: (sentence: string) => void}} acts
 */
export function openSending(acts) {
  const input = byId("send-file");
  const bar = byId("send-progress");
  const line = byId("send-line");
  const note = byId("send-note");
  let chosenFor = null; // the id of the recording whose file is being chosen; null: one of its own
  let under = null; //     {file, sent, abort: AbortController, path} of the file that is on its way
  let problem = "";

  const key = () => `encounters.upload.${acts.getState().session.id}.${acts.getState().me.userId}`;
  /** What was begun, and may go on: {path, recordingId, name, size, lastModified}. */
  const begun = {
    get: () => kept("localStorage", key()),
    set: (upload) => keep("localStorage", key(), upload),
    clear: () => keep("localStorage", key(), null),
  };

  const say = (sentence) => {
    problem = sentence;
    render(true);
  };

  /** What came of an upload is not wanted any more; the server finds out by itself if it does not hear of it. */
  const drop = (path) => giveUp(acts.token, path).catch(() => {});

  /** Whether there is nothing left that `file` would replace. */
  async function replaces(known, file) {
    const text = `“${file.name}” is another file. If you send it, what has come of “${known.name}” is thrown away.`;
    if (!await acts.confirm({ title: `Give up “${known.name}”?`, text, yes: "Give it up" })) return false;
    drop(known.path);
    begun.clear();
    return true;
  }

  async function send(file, recordingId) {
    const known = begun.get();
    const goesOn = known !== null && isSame(file, known);
    if (known && !goesOn && !await replaces(known, file)) return;
    await transfer(file, goesOn ? known : { path: null, recordingId });
  }

  async function transfer(file, { path, recordingId }) {
    const { session } = acts.getState();
    under = { file, sent: 0, abort: new AbortController(), path };
    problem = "";
    render(true);
    try {
      await sendFile(file, {
        token: acts.token, path: under.path, signal: under.abort.signal,
        about: { kind: "recording", session_id: session.id, recording_id: recordingId, filename: file.name, filetype: file.type },
        begun(path) {
          under.path = path;
          begun.set({ ...markOf(file), path, recordingId });
        },
        progress(sent) {
          under.sent = sent;
          render(true);
        },
      });
      begun.clear();
      problem = "";
      acts.toast(`${file.name} was sent. It can be watched in a moment.`);
    } catch (error) {
      if (under.abort.signal.aborted) {
        if (under.path) drop(under.path);
        begun.clear();
      } else {
        problem = error.message;
        if (isOver(error)) begun.clear();
      }
    }
    under = null;
    render(true);
    acts.sent();
  }

  function render(isHost) {
    byId("sending").hidden = !isHost;
    if (!isHost) return;
    line.hidden = !under;
    byId("send-choose").hidden = Boolean(under);
    const left = under ? null : begun.get();
    byId("send-forget").hidden = !left;
    if (under) {
      const { file, sent } = under;
      bar.max = file.size;
      bar.value = sent;
      setText(byId("send-name"), file.name);
      setText(byId("send-share"), `${fileSize(sent)} of ${fileSize(file.size)}`);
      setText(note, problem);
      return;
    }
    const goOn = left ? `“${left.name}” has not come all the way. Choose it again to go on where it stopped.` : "";
    setText(note, [problem, goOn].filter(Boolean).join(" "));
  }

  input.addEventListener("change", async () => {
    const [file] = input.files;
    input.value = ""; // the same file may be chosen once more
    if (!file || under) return;
    if (!file.size) return say("This file is empty.");
    problem = "";
    const recordingId = chosenFor;
    if (!await alone(key(), () => send(file, recordingId))) say(IN_ANOTHER_TAB);
  });
  byId("send-choose").addEventListener("click", () => { chosenFor = null; input.click(); });
  byId("send-cancel").addEventListener("click", () => under?.abort.abort());
  byId("send-forget").addEventListener("click", async () => {
    problem = "";
    const forgotten = await alone(key(), async () => {
      const left = begun.get();
      if (left) drop(left.path);
      begun.clear();
    });
    if (!forgotten) return say(IN_ANOTHER_TAB);
    render(true);
    byId("send-choose").focus();
  });

  return {
    render,
    /** Asks for the file of a recording. */
    choose(recordingId) {
      if (under) return say("One file at a time: wait for this one, or cancel it.");
      chosenFor = recordingId;
      input.click();
    },
  };
}
