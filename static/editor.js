/** A text field that grows with its text, and the form for changing a message in its place. */

import { h, setText } from "./dom.js";

export const TEXT_LIMIT = 2_000; // characters, as the server counts them: code points of the trimmed text

export const lengthOf = (text) => [...text.trim()].length;

/** Makes a textarea as high as its text; CSS caps it. */
export function grow(textarea) {
  textarea.style.height = "auto";
  textarea.style.height = `${textarea.scrollHeight}px`;
}

/**
 * @param {{text: string, save: (text: string) => Promise<void>, cancel: () => void}} editing
 *        `save` rejects with the sentence to show as its `message`.
 */
export function editor({ text, save, cancel }) {
  const problem = h("p", { class: "problem", role: "alert" });
  const field = h("textarea", { value: text, rows: 1, "aria-label": "Edit message", oninput: () => grow(field) });
  const submit = async () => {
    const changed = field.value.trim();
    if (changed === text) return void cancel();
    if (changed === "") return void setText(problem, "A message needs some text. To take it away, delete it.");
    if (lengthOf(changed) > TEXT_LIMIT) return void setText(problem, `A message can have ${TEXT_LIMIT} characters at most.`);
    form.classList.add("busy");
    try {
      await save(changed);
    } catch (error) {
      form.classList.remove("busy");
      setText(problem, error.message);
    }
  };
  const form = h("form", {
    class: "editor",
    onsubmit: (event) => { event.preventDefault(); submit(); },
    onkeydown: (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        cancel();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === field) {
        event.preventDefault();
        submit();
      }
    },
  }, field, problem, h("div", { class: "editor-actions" },
    h("span", { class: "hint" }, "Enter to save, Escape to cancel"),
    h("button", { type: "button", class: "button small", onclick: cancel }, "Cancel"),
    h("button", { type: "submit", class: "button small primary" }, "Save")));
  queueMicrotask(() => grow(field));
  return form;
}
