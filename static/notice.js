/** One matter over the whole page: why there is no room to be seen, and where to go from here. */

import { byId, h, icon } from "./dom.js";

/**
 * @param {{icon: string, title: string, text: string, actions: {label: string, primary?: boolean, act: () => void}[]}} matter
 */
export function showNotice({ icon: drawing, title, text, actions }) {
  byId("entry").hidden = true;
  byId("room").hidden = true;
  const heading = h("h1", { tabIndex: -1 }, title);
  const notice = byId("notice");
  notice.replaceChildren(h("div", { class: "notice-card" },
    h("span", { class: "notice-icon" }, icon(drawing)), heading, h("p", {}, text),
    h("div", { class: "notice-actions" }, ...actions.map(({ label, primary, act }) =>
      h("button", { type: "button", class: `button ${primary ? "primary" : ""}`, onclick: act }, label)))));
  notice.hidden = false;
  document.title = `${title} · Encounters`;
  heading.focus();
}

export const hideNotice = () => {
  byId("notice").hidden = true;
  byId("room").hidden = false;
};

/** The way in is through the host. */
export const lobbyNotice = (leave) => ({
  icon: "door", title: "The host will let you in",
  text: "You are in the waiting room. This page opens by itself as soon as the host admits you.",
  actions: [{ label: "Leave", act: leave }],
});

export const goToStart = () => location.assign("/");

/** The notices a connection can end in, by its phase (see session.js). `agree` is to be recorded. */
export function noticeFor({ phase, status, code, message }, lessonTitle, agree) {
  const again = { label: "Try again", primary: true, act: () => location.reload() };
  const start = { label: "Back to the start", act: goToStart };
  if (phase === "kicked") {
    return {
      icon: "door", title: "You were removed from the lesson",
      text: `The host has removed you from “${lessonTitle}”. You can come back when they let you in again.`,
      actions: [again, start],
    };
  }
  if (phase === "turnedAway") {
    return {
      icon: "door", title: "You were not let in",
      text: "The host has turned you away from the lesson. If you think that you belong in it, ask again.",
      actions: [{ ...again, label: "Ask again" }, start],
    };
  }
  if (phase === "signedOut") {
    return { icon: "warning", title: "You could not be signed in", text: message, actions: [{ ...start, primary: true }] };
  }
  if (code === "consent_missing") {
    return {
      icon: "record", title: "This lesson is being recorded", text: "You can come in when you agree to be recorded.",
      actions: [{ label: "Agree and come in", primary: true, act: agree }, start],
    };
  }
  const titles = { 403: "You cannot join this lesson", 404: "This lesson does not exist", 409: "There is no room for you now" };
  const title = titles[status] ?? "The lesson could not be opened";
  return { icon: [403, 409].includes(status) ? "door" : "warning", title, text: message, actions: [{ ...start, primary: true }, { ...again, primary: false }] };
}
