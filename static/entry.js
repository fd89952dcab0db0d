/** The way in: as one of the people of a demonstration, or with an access token. */

import * as api from "./api.js";
import { avatar, byId, h, icon, setText } from "./dom.js";
import { initials, remaining, ROLE_WORD, STATUS_WORD, when } from "./words.js";

const ABOUT_ROLE = {
  teacher: "Leads the lesson", student: "Takes the lesson", parent: "Listens in", admin: "Looks after everything",
};

/** A form that says what went wrong, and cannot be sent twice at once. */
function form(properties, submit, ...children) {
  const problem = h("p", { class: "problem", role: "alert" });
  const element = h("form", {
    ...properties,
    onsubmit: async (event) => {
      event.preventDefault();
      if (element.classList.contains("busy")) return;
      setText(problem, "");
      element.classList.add("busy");
      try {
        await submit(event.submitter);
      } catch (error) {
        setText(problem, error.message);
      } finally {
        element.classList.remove("busy");
      }
    },
  }, ...children, problem);
  return element;
}

function personCard(person, chosen) {
  return h("label", { class: "card person-card" },
    h("input", { type: "radio", name: "person", value: person.user_id, checked: chosen, class: "visually-hidden" }),
    avatar(person.user_id, initials(person.name), "large"),
    h("span", { class: "card-text" },
      h("span", { class: "card-title" }, person.name),
      h("span", { class: "quiet" }, [ROLE_WORD[person.role] ?? person.role, ABOUT_ROLE[person.role]].filter(Boolean).join(" · "))),
    h("span", { class: "tick", "aria-hidden": "true" }));
}

function lessonCard(lesson) {
  const now = Date.now();
  const { status, starts_at: startsAt, ends_at: endsAt } = lesson;
  const about = [when(startsAt, endsAt, now), remaining({ status, startsAt, endsAt }, now)].filter(Boolean).join(" · ");
  return h("button", { type: "submit", class: "card lesson-card", value: lesson.room_name, "data-room": lesson.room_name },
    h("span", { class: "card-text" },
      h("span", { class: "card-title" }, lesson.title || "Lesson",
        h("span", { class: "pill", "data-status": status }, STATUS_WORD[status] ?? status)),
      h("span", { class: "quiet" }, about),
      lesson.with && h("span", { class: "quiet" }, `With ${lesson.with}`)),
    h("span", { class: "go" }, "Join"));
}

function demoForm({ people, lessons }, chosen, join) {
  const start = people.find((person) => person.user_id === chosen) ?? people[0];
  const submit = async (submitter) => {
    const userId = element.querySelector("input[name=person]:checked").value;
    const room = submitter?.dataset.room ?? lessons[0]?.room_name;
    if (room) await join(await api.demoSignIn(userId), room);
  };
  const element = form({ class: "entry-form" }, submit,
    h("div", { class: "intro" },
      h("h1", {}, "Welcome to the demonstration"),
      h("p", {}, "Choose who you are and step into a lesson. Open a second window as somebody else to talk to each other.")),
    h("fieldset", {}, h("legend", {}, "Who are you?"),
      h("div", { class: "cards people-cards" }, ...people.map((person) => personCard(person, person === start)))),
    h("section", { "aria-labelledby": "lessons-heading" },
      h("h2", { id: "lessons-heading" }, lessons.length === 1 ? "Your lesson" : "Which lesson?"),
      lessons.length > 0
        ? h("div", { class: "cards" }, ...lessons.map(lessonCard))
        : h("p", { class: "quiet" }, "There are no lessons yet.")));
  return element;
}

function tokenForm(ref, join) {
  const token = h("textarea", { id: "token", rows: 3, required: true, spellcheck: false, autocomplete: "off", placeholder: "eyJhbGciOi…" });
  const room = h("input", { id: "ref", type: "text", required: true, value: ref ?? "", spellcheck: false, autocomplete: "off", autocapitalize: "off" });
  return form({ class: "entry-form token-form" }, () => join(api.readToken(token.value.trim()), room.value.trim()),
    h("div", { class: "field-group" }, h("label", { for: "token" }, "Access token"), token,
      h("p", { class: "quiet" }, "It stays in this tab and is forgotten when you close it.")),
    h("div", { class: "field-group" }, h("label", { for: "ref" }, "Lesson"), room,
      h("p", { class: "quiet" }, "The lesson’s room name or id.")),
    h("button", { type: "submit", class: "button primary wide" }, "Join the lesson"));
}

/**
 * @param {{demo: ?object, chosen: ?string, ref: ?string, join: (signIn: api.SignIn, ref: string) => Promise<void>}} way
 */
export function showEntry({ demo, chosen, ref, join }) {
  const body = byId("entry-body");
  if (demo) {
    body.replaceChildren(demoForm(demo, chosen, join),
      h("details", { class: "other-way" }, h("summary", {}, "Use an access token instead"), tokenForm(ref, join)));
  } else {
    body.replaceChildren(h("div", { class: "intro" }, h("h1", {}, "Join your lesson"),
      h("p", {}, "Paste the access token that your school or tutor gave you.")), tokenForm(ref, join));
  }
  body.classList.toggle("narrow", !demo);
  byId("entry").hidden = false;
}

/** The server could not be asked what it offers. */
export function showUnreachable(message) {
  byId("entry-body").replaceChildren(h("div", { class: "intro" },
    h("span", { class: "notice-icon" }, icon("warning")), h("h1", {}, "Nobody answers"), h("p", {}, message),
    h("button", { type: "button", class: "button primary", onclick: () => location.reload() }, "Try again")));
  byId("entry-body").classList.add("narrow");
  byId("entry").hidden = false;
}
