/** Whether one agrees to be recorded: the question, and what it comes to. Where the host has set `recordingConsent`. */

import { byId, setText } from "./dom.js";
import { listNames } from "./words.js";

/** Those whom one decides for: oneself, and the children whom the server names. */
export const askedFor = ({ me, children }) => [me.userId, ...children.map(({ userId }) => userId)];

/** @returns {"agreed" | "declined" | "open" | null} null where nobody asks, or nothing is known yet. Pure. */
export function ownConsent(state) {
  const { me, session, consents } = state;
  if (!session?.settings.recordingConsent || !consents || me.userId === session.hostId) return null;
  const said = askedFor(state).map((userId) => consents[userId]);
  if (said.includes(false)) return "declined";
  return said.every(Boolean) ? "agreed" : "open";
}

/** Who is here and has not agreed, for the host: a sentence. Pure. */
export function consentOfOthers({ me, session, people, consents }) {
  if (!consents) return "";
  const others = Object.values(people).filter(({ userId }) => userId !== session.hostId && userId !== me.userId);
  const declined = others.filter(({ userId }) => consents[userId] === false).map(({ name }) => name);
  const open = others.filter(({ userId }) => consents[userId] === undefined).map(({ name }) => name);
  if (!others.length) return "Nobody else is here yet. Everybody is asked when they come in.";
  if (!declined.length && !open.length) return "Everybody who is here has agreed to be recorded.";
  return [
    declined.length && `${listNames(declined)} ${declined.length === 1 ? "does" : "do"} not agree to be recorded.`,
    open.length && `${listNames(open)} ${open.length === 1 ? "has" : "have"} not answered yet.`,
  ].filter(Boolean).join(" ");
}

/** @param {{decide: (agreed: boolean) => Promise<void>}} acts `decide` rejects with what the server says. */
export function openConsent(acts) {
  const dialog = byId("consent");
  const problem = byId("consent-problem");
  let asked = false; // once per page: who closes the question finds it again under Recordings

  for (const [id, agreed] of [["consent-yes", true], ["consent-no", false]]) {
    byId(id).addEventListener("click", async () => {
      setText(problem, "");
      try {
        await acts.decide(agreed);
        dialog.close();
      } catch (error) {
        setText(problem, guardianDecides(error) ?? error.message);
      }
    });
  }

  byId("consent-later").addEventListener("click", () => dialog.close());

  return {
    render(state) {
      const own = ownConsent(state);
      const live = state.connection.phase === "live";
      if (own === "open" && live && !asked && !document.querySelector("dialog[open]")) {
        asked = true;
        const names = listNames(state.children.map(({ name }) => name));
        setText(byId("consent-for"), names && ` Your answer counts for ${names} too.`);
        dialog.showModal();
      }
      if (own !== "open" && dialog.open) dialog.close();
    },
  };
}

/** What is said when somebody has decided; of oneself that is what a guardian said. Pure. */
export const consentToast = ({ userId, name, agreed }, { me }) => userId === me.userId
  ? `Your parent or guardian ${agreed ? "agrees" : "does not agree"} that you are recorded.`
  : `${name} ${agreed ? "agrees" : "does not agree"} to be recorded.`;

/** The server's refusal in a child's words; null where it is another one. */
export const guardianDecides = (error) => error.code === "guardian_decides"
  ? "Your parent or guardian has to agree for you. They are asked when they open the link of this lesson." : null;

/**
 * What a guardian is asked who does not come in themselves; null where there is nothing to ask them. Pure.
 *
 * @param {{required: boolean, consents: Object<string, boolean>, children: {userId: string, name: string}[]}} answers
 * @param {{decide: (agreed: boolean) => void, leave: () => void}} acts
 */
export function guardianNotice({ required, consents, children }, { decide, leave }) {
  if (!required || !children.length) return null;
  const names = listNames(children.map(({ name }) => name));
  const said = children.map(({ userId }) => consents[userId]);
  const agree = { label: "I agree", primary: true, act: () => decide(true) };
  const refuse = { label: "I do not agree", act: () => decide(false) };
  const start = { label: "Back to the start", act: leave };
  if (said.includes(false)) {
    const text = `While ${names} is there, this lesson is not recorded. You can change that here at any time.`;
    return { icon: "record", title: `You do not agree that ${names} is recorded`, text, actions: [{ ...agree, label: "Agree after all" }, start] };
  }
  if (said.every(Boolean)) {
    const text = "You can take it back here at any time, which stops the recording.";
    return { icon: "record", title: `You have agreed that ${names} is recorded`, text, actions: [{ ...start, primary: true }, { ...refuse, label: "Take it back" }] };
  }
  const text = "The host asks for your consent. A recording can be watched by the people of this lesson. You can take it back at any time.";
  return { icon: "record", title: `May ${names} be recorded in this lesson?`, text, actions: [agree, refuse] };
}
