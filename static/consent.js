/** Whether one agrees to be recorded: the question, and what it comes to. Where the host has set `recordingConsent`. */

import { byId, setText } from "./dom.js";
import { listNames } from "./words.js";

/** Those whom one decides for: oneself, and a parent for the student of a booked lesson. */
export const askedFor = ({ me, session }) =>
  me.role === "parent" && session.studentId ? [me.userId, session.studentId] : [me.userId];

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
        const child = askedFor(state)[1];
        const forChild = child ? ` Your answer counts for ${state.names[child] ?? "your child"} too.` : "";
        setText(byId("consent-for"), forChild);
        dialog.showModal();
      }
      if (own !== "open" && dialog.open) dialog.close();
    },
  };
}

/** The server's refusal in a child's words; null where it is another one. */
export const guardianDecides = (error) => error.code === "guardian_decides"
  ? "Your parent or guardian has to agree for you. They are asked when they open this lesson." : null;
