/**
 * The messages on the page: drawing rows.js's rows, keeping the reader's place, and what one can do to a message.
 */

import { avatar, byId, h, icon, iconButton, place, setText, textNodes } from "./dom.js";
import { editor } from "./editor.js";
import { picker, reactionLine } from "./reactions.js";
import { rowsOf } from "./rows.js";
import { clock, fullTime, initials, listNames } from "./words.js";

/** This near to the end counts as reading along, this near to the top asks for what came before. In pixels. */
const NEAR_END = 60;
const NEAR_TOP = 160;

/**
 * @param {{edit: (id: string, text: string) => Promise<void>, remove: (row) => void, sendAgain: (clientId: string) => void,
 *          discard: (clientId: string) => void, loadOlder: () => void, seen: () => void, focusComposer: () => void,
 *          react: (id: string, emoji: string) => void, pin: (id: ?string) => void}} acts
 */
export function openChat(acts) {
  const scroll = byId("scroll");
  const list = byId("messages");
  const before = byId("before");
  const jump = byId("jump");
  const drawn = new Map(); //  row key → {element, signature}
  let rows = [];
  let active = null; //       key of the message the keyboard is on
  let editing = null; //      id of the message being edited
  let reacting = null; //     id of the message for which an emoji is being chosen
  let atEnd = true;
  let below = 0; //           messages that came while reading further up
  let state = null;
  let settled = false; //     the first page is on the page: what comes now is new

  const toEnd = () => { scroll.scrollTop = scroll.scrollHeight; };
  const redraw = () => state && render(state);

  function stopEditing() {
    editing = null;
    redraw();
    acts.focusComposer();
  }

  function startEditing(id) {
    editing = id;
    redraw();
    const field = list.querySelector(".editor textarea");
    field?.focus();
    field?.setSelectionRange(field.value.length, field.value.length);
    field?.closest(".message").scrollIntoView({ block: "nearest" });
  }

  function setReacting(id) {
    const before = reacting;
    reacting = id;
    redraw();
    if (id !== null) return void list.querySelector(".picker button")?.focus();
    const row = rows.find((each) => each.kind === "message" && each.id === before);
    if (row) drawn.get(row.key).element.focus({ preventScroll: true });
  }

  function actions(row) {
    return h("div", { class: "actions" },
      iconButton("react", "React", () => setReacting(row.id)),
      row.canPin && iconButton("pin", row.pinned ? "Unpin message" : "Pin message", () => acts.pin(row.pinned ? null : row.id),
        { "aria-pressed": String(row.pinned) }),
      row.canEdit && iconButton("edit", "Edit message", () => startEditing(row.id)),
      row.canDelete && iconButton("delete", "Delete message", () => acts.remove(row)));
  }

  function under(row) {
    if (row.sending === "failed") {
      return h("p", { class: "under failed" }, icon("warning"), h("span", {}, `Not sent. ${row.problem ?? ""}`),
        h("button", { type: "button", class: "link", onclick: () => acts.sendAgain(row.clientId) }, "Retry"),
        h("button", { type: "button", class: "link quiet", onclick: () => acts.discard(row.clientId) }, "Discard"));
    }
    if (row.sending) {
      return row.last && h("p", { class: "under sending" }, icon("clock"), row.sending === "waiting" ? "Waiting for the connection" : "Sending…");
    }
    if (row.seenBy.length > 0) return h("p", { class: "under" }, `Seen by ${listNames(row.seenBy)}`);
    return null;
  }

  function bubble(row) {
    if (row.id !== null && row.id === editing && !row.deleted) {
      const save = (text) => acts.edit(row.id, text).then(stopEditing);
      return editor({ text: row.text, save, cancel: stopEditing });
    }
    if (row.deleted) return h("div", { class: "bubble deleted" }, "Message deleted");
    const edited = row.edited && h("span", { class: "edited" }, " edited");
    return h("div", { class: "line" },
      h("div", { class: "bubble", title: fullTime(row.at) }, ...textNodes(row.text), edited),
      row.id !== null && actions(row));
  }

  function reactions(row) {
    if (row.id === null || row.deleted) return null;
    const react = (emoji) => {
      if (row.id === reacting) setReacting(null);
      acts.react(row.id, emoji);
    };
    if (row.id === reacting) return [reactionLine(row, react), picker({ react, close: () => setReacting(null) })];
    return [reactionLine(row, react)];
  }

  function draw(row) {
    if (row.kind === "day") return h("li", { class: "day" }, h("span", {}, row.text));
    if (row.kind === "note") return h("li", { class: "note" }, row.text);
    const classes = ["message", row.mine ? "mine" : "theirs", row.first && "first", row.last && "last",
      row.sending && `is-${row.sending}`].filter(Boolean).join(" ");
    const author = row.first && h("p", { class: "author" },
      h("span", { class: row.mine ? "visually-hidden" : "name" }, row.mine ? "You" : row.name),
      h("time", { dateTime: row.at, title: fullTime(row.at) }, clock(row.at)));
    return h("li", { class: classes, tabIndex: -1, "data-key": row.key },
      !row.mine && (row.first ? avatar(row.userId, initials(row.name)) : h("span", { class: "avatar-space" })),
      h("div", { class: "body" }, author, bubble(row), ...(reactions(row) ?? []), under(row)));
  }

  /** The keyboard stays on a button that is still there, by what it says; else it goes back to the message. */
  function focusAgain(fresh, focused) {
    const emoji = focused.querySelector?.(".emoji")?.textContent;
    const same = [...fresh.querySelectorAll("button")].find((button) =>
      emoji ? button.querySelector(".emoji")?.textContent === emoji : button.getAttribute("aria-label") === focused.getAttribute("aria-label"));
    (focused.tagName === "BUTTON" && same ? same : fresh).focus({ preventScroll: true });
  }

  function element(row) {
    const inEditor = row.id !== null && row.id === editing;
    const signature = JSON.stringify([row, inEditor, row.id !== null && row.id === reacting]);
    const known = drawn.get(row.key);
    if (known?.signature === signature) return known.element;
    if (inEditor && !row.deleted && known?.element.querySelector(".editor")) return known.element; // half-written text stays
    const fresh = draw(row);
    if (known) {
      const focused = known.element.contains(document.activeElement) && document.activeElement;
      known.element.replaceWith(fresh);
      if (focused && !inEditor) focusAgain(fresh, focused);
    } else if (rows.length > 0 && drawn.size > 0 && settled) {
      fresh.classList.add("enter");
    }
    drawn.set(row.key, { element: fresh, signature });
    return fresh;
  }

  function drawBefore() {
    const { history, messages, outgoing } = state;
    const empty = messages.length === 0 && outgoing.length === 0;
    const shown = `${history}|${empty}`;
    if (before.dataset.shown === shown) return;
    before.dataset.shown = shown;
    const button = (text) => h("button", { type: "button", class: "button small", onclick: acts.loadOlder }, text);
    before.replaceChildren(...{
      none: [], loading: [h("p", { class: "quiet" }, "Loading messages…")],
      failed: [h("p", { class: "quiet" }, "Earlier messages could not be loaded."), button("Try again")],
      more: [button("Load earlier messages")],
      complete: empty
        ? [h("div", { class: "empty" }, icon("chat"), h("p", { class: "empty-title" }, "No messages yet"),
            h("p", {}, "Say hello, share a link, or ask the first question."))]
        : [],
    }[history]);
    before.classList.toggle("is-empty", history === "complete" && empty);
  }

  /** What stands at the top of the view and where, so that it can stay there when something comes in above it. */
  function anchor() {
    const top = scroll.getBoundingClientRect().top;
    for (const row of rows) {
      const box = drawn.get(row.key)?.element.getBoundingClientRect();
      if (box && box.bottom > top) return { key: row.key, top: box.top };
    }
    return null;
  }

  function render(next) {
    const held = atEnd ? null : anchor();
    const newest = rows.at(-1)?.key;
    const known = drawn.has(newest);
    state = next;
    rows = rowsOf(state, Date.now());
    if (!rows.some((row) => row.key === active)) active = rows.findLast((row) => row.kind === "message")?.key ?? null;
    place(list, rows.map(element));
    const keys = new Set(rows.map((row) => row.key));
    for (const key of drawn.keys()) if (!keys.has(key)) drawn.delete(key);
    markActive();
    drawBefore();
    settled = ["more", "complete"].includes(state.history) && drawn.size > 0;

    const from = rows.findIndex((row) => row.key === newest);
    const came = known && from >= 0 ? rows.slice(from + 1).filter((row) => row.kind === "message") : [];
    if (atEnd || came.some((row) => row.sending)) {
      toEnd();
      atEnd = true;
      below = 0;
    } else {
      below += came.filter((row) => !row.mine).length;
      const box = held && drawn.get(held.key)?.element.getBoundingClientRect();
      if (box) scroll.scrollTop += box.top - held.top;
    }
    drawJump();
    if (atEnd) acts.seen();
  }

  function drawJump() {
    jump.hidden = atEnd;
    setText(jump, below === 0 ? "Newest messages" : below === 1 ? "1 new message" : `${below} new messages`);
    jump.classList.toggle("has-new", below > 0);
  }

  scroll.addEventListener("scroll", () => {
    atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_END;
    if (atEnd) below = 0;
    drawJump();
    if (atEnd) acts.seen();
    if (scroll.scrollTop < NEAR_TOP && state?.history === "more" && scroll.scrollHeight > scroll.clientHeight) acts.loadOlder();
  }, { passive: true });
  jump.addEventListener("click", () => { atEnd = true; toEnd(); acts.focusComposer(); });
  const following = new ResizeObserver(() => { if (atEnd) toEnd(); });
  following.observe(scroll);
  following.observe(list);

  /** One message at a time is in the tab order; the arrow keys move on to its neighbours. */
  function markActive() {
    for (const [key, { element: message }] of drawn) {
      if (message.dataset.key) message.tabIndex = key === active ? 0 : -1;
    }
  }
  const activate = (key) => {
    active = key;
    markActive();
  };
  const messageOf = (target) => target.closest?.("[data-key]")?.dataset.key ?? null;
  list.addEventListener("focusin", (event) => messageOf(event.target) && activate(messageOf(event.target)));
  list.addEventListener("keydown", (event) => {
    if (event.target.closest("textarea") || !["ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
    const messages = rows.filter((row) => row.kind === "message");
    const at = messages.findIndex((row) => row.key === active);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: messages.length - 1 }[event.key];
    if (!messages[to]) return;
    event.preventDefault();
    activate(messages[to].key);
    drawn.get(messages[to].key).element.focus();
  });

  return {
    render,
    isAtEnd: () => atEnd,
    /** Puts the keyboard back on a message, for instance after a question about it. */
    focusOn: (key) => drawn.get(key)?.element.focus({ preventScroll: true }),
    /** Shows a message, if it is on the page. @returns {boolean} whether it is */
    show(id) {
      const row = rows.find((each) => each.kind === "message" && each.id === id);
      if (!row) return false;
      drawn.get(row.key).element.scrollIntoView({ block: "center" });
      drawn.get(row.key).element.focus({ preventScroll: true });
      return true;
    },
    /** Opens the newest of one's own messages for editing, if there is one. */
    editLast() {
      const row = rows.findLast((each) => each.canEdit);
      if (row) startEditing(row.id);
    },
  };
}
