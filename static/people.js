/** Who is in the room, what the host may do about it, and, on narrow pages, the drawer that holds the list. */

import { avatar, byId, h, icon, iconButton, place, setText } from "./dom.js";
import { headcount } from "./state.js";
import { initials, number, ROLE_WORD } from "./words.js";

const NAMES = new Intl.Collator();
const FACES = 3; // in the button that opens the drawer

/** The host first, then raised hands, then names. */
function inOrder(state) {
  const rank = (person) => (person.userId === state.session?.hostId ? 0 : person.handRaised ? 1 : 2);
  return Object.values(state.people).sort((a, b) => rank(a) - rank(b) || NAMES.compare(a.name, b.name));
}

/**
 * @param {{setPermissions: (userId: string, change: object) => void, kick: (person) => void,
 *          letBackIn: (userId: string, name: string) => void, admit: (userId: string) => void,
 *          turnAway: (userId: string) => void, showAll: () => Promise<void>}} acts `showAll` names those who are not yet
 */
export function openPeople(acts) {
  const drawer = byId("people");
  const toggle = byId("people-toggle");
  const shade = byId("shade");
  const all = byId("people-all");
  const narrow = matchMedia("(max-width: 820px)");
  const drawn = new Map(); // userId → {element, signature}
  let open = false;

  function setOpen(next) {
    const was = open;
    open = next && narrow.matches;
    drawer.classList.toggle("open", open);
    drawer.inert = narrow.matches && !open;
    shade.hidden = !open;
    toggle.setAttribute("aria-expanded", String(open));
    if (open) byId("people-close").focus();
    else if (was && narrow.matches) toggle.focus();
  }

  function permission(person, kind, iHost) {
    const allowed = kind === "mic" ? person.micAllowed : person.cameraAllowed;
    const what = kind === "mic" ? "Microphone" : "Camera";
    const drawing = allowed ? kind : `${kind}-off`;
    const says = `${what} ${allowed ? "allowed" : "off"}`;
    if (!iHost) {
      return h("span", { class: `permission ${allowed ? "" : "off"}`, title: says, role: "img", "aria-label": says }, icon(drawing));
    }
    const change = kind === "mic" ? { micAllowed: !allowed } : { cameraAllowed: !allowed };
    return iconButton(drawing, `${what} for ${person.name}`, () => acts.setPermissions(person.userId, change), {
      class: `icon-button permission ${allowed ? "" : "off"}`, "aria-pressed": String(allowed),
      title: `${says}. Click to ${allowed ? "turn off" : "allow"}`,
    });
  }

  function draw(person, { me, isHost, iHost }) {
    const roles = [me && "You", ROLE_WORD[person.role] ?? person.role].filter(Boolean);
    return h("li", { class: `person ${person.handRaised ? "raised" : ""}` },
      h("span", { class: "face" }, avatar(person.userId, initials(person.name)),
        person.handRaised && h("span", { class: "hand-mark", role: "img", "aria-label": "Hand raised", title: "Hand raised" }, icon("hand"))),
      h("div", { class: "who" },
        h("p", { class: "person-name", title: person.name }, person.name),
        h("p", { class: "person-role" }, roles.join(" · "), isHost && h("span", { class: "badge" }, "Host"))),
      h("div", { class: "tools" },
        permission(person, "mic", iHost && !me), permission(person, "camera", iHost && !me),
        iHost && !me && !isHost && iconButton("remove", `Remove ${person.name} from the lesson`, () => acts.kick(person))));
  }

  function element(person, about) {
    const signature = JSON.stringify([person, about]);
    const known = drawn.get(person.userId);
    if (known?.signature === signature) return known.element;
    const fresh = draw(person, about);
    const focused = known?.element.contains(document.activeElement) && document.activeElement;
    if (known) {
      const at = focused ? [...known.element.querySelectorAll("button")].indexOf(focused) : -1;
      known.element.replaceWith(fresh);
      if (at >= 0) fresh.querySelectorAll("button")[at]?.focus();
    }
    drawn.set(person.userId, { element: fresh, signature });
    return fresh;
  }

  function drawToggle(people, count, waiting) {
    const raised = people.filter((person) => person.handRaised).length;
    const label = `People in the room: ${number(count)}${raised ? `, hands raised: ${raised}` : ""}${waiting ? `, waiting: ${waiting}` : ""}`;
    const signature = JSON.stringify([label, people.slice(0, FACES).map((person) => person.name)]);
    if (toggle.dataset.drawn === signature) return;
    toggle.dataset.drawn = signature;
    toggle.setAttribute("aria-label", label);
    toggle.title = label;
    toggle.replaceChildren(
      h("span", { class: "faces" }, ...people.slice(0, FACES).map((person) => avatar(person.userId, initials(person.name), "small"))),
      h("span", { class: "faces-count" }, number(count)),
      ...(raised ? [h("span", { class: "faces-hand" }, icon("hand"))] : []),
      ...(waiting ? [h("span", { class: "faces-waiting" }, icon("door"))] : []));
  }

  /** Those who wait to be let in; they keep their places, so that a click meets whom it was meant for. */
  function drawWaiting(waiting) {
    byId("waiting").hidden = waiting.length === 0;
    setText(byId("waiting-heading"), waiting.length > 1 ? `Waiting to come in · ${waiting.length}` : "Waiting to come in");
    const list = byId("waiting-list");
    const focused = list.contains(document.activeElement);
    const known = new Map([...list.children].map((item) => [item.dataset.userId, item]));
    place(list, waiting.map(([userId, { name, role }]) => known.get(userId) ??
      h("li", { class: "person", "data-user-id": userId }, avatar(userId, initials(name)),
        h("div", { class: "who" }, h("p", { class: "person-name", title: name }, name), h("p", { class: "person-role" }, ROLE_WORD[role] ?? role)),
        h("div", { class: "verdicts" },
          h("button", { type: "button", class: "button small primary", "aria-label": `Let ${name} in`, onclick: () => acts.admit(userId) }, "Admit"),
          h("button", { type: "button", class: "button small", "aria-label": `Turn ${name} away`, onclick: () => acts.turnAway(userId) }, "Turn away")))));
    if (focused && !list.contains(document.activeElement)) (list.querySelector("button") ?? byId("people-heading")).focus();
  }

  toggle.addEventListener("click", () => setOpen(!open));
  byId("people-close").addEventListener("click", () => setOpen(false));
  all.addEventListener("click", async () => {
    all.disabled = true;
    await acts.showAll();
    all.disabled = false;
  });
  shade.addEventListener("click", () => setOpen(false));
  drawer.addEventListener("keydown", (event) => event.key === "Escape" && setOpen(false));
  narrow.addEventListener("change", () => setOpen(false));
  setOpen(false);

  return {
    close: () => setOpen(false),
    render(state) {
      const people = inOrder(state);
      const count = headcount(state);
      const iHost = Boolean(state.me?.isHost);
      setText(byId("people-heading"), count ? `In the room · ${state.crowd ? `${number(people.length)} of ${number(count)}` : number(count)}` : "In the room");
      const list = byId("people-list");
      const focused = list.contains(document.activeElement);
      place(list, people.map((person) =>
        element(person, { me: person.userId === state.me?.userId, isHost: person.userId === state.session?.hostId, iHost })));
      if (focused && !list.contains(document.activeElement)) byId("people-heading").focus(); // who had it has left
      for (const userId of drawn.keys()) if (!(userId in state.people)) drawn.delete(userId);
      all.hidden = !state.crowd;
      const waiting = iHost ? Object.entries(state.waiting) : [];
      drawToggle(people, count, waiting.length);
      drawWaiting(waiting);

      const removed = iHost ? Object.entries(state.removed) : [];
      byId("removed").hidden = removed.length === 0;
      byId("removed-list").replaceChildren(...removed.map(([userId, name]) =>
        h("li", { class: "person away" }, avatar(userId, initials(name)), h("div", { class: "who" }, h("p", { class: "person-name" }, name)),
          h("button", { type: "button", class: "button small", onclick: () => acts.letBackIn(userId, name) }, "Let back in"))));
    },
    /** Links that open the same lesson as somebody else of the demonstration. */
    offer(people, room, present) {
      const away = people.filter((person) => !(person.user_id in present));
      byId("others").hidden = away.length === 0;
      byId("others-list").replaceChildren(...away.map((person) =>
        h("li", {}, h("a", {
          href: `/?as=${encodeURIComponent(person.user_id)}&session=${encodeURIComponent(room)}`, target: "_blank", rel: "noopener",
        }, avatar(person.user_id, initials(person.name), "small"), h("span", {}, person.name),
          h("span", { class: "quiet" }, ROLE_WORD[person.role] ?? person.role), icon("open")))));
    },
  };
}
