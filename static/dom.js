/**
 * Making elements. Text from people only ever becomes a text node; nothing here parses HTML.
 */

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/**
 * An element. Properties starting with "on" are listeners, `class` and `aria-…`/`data-…` attributes as written, everything
 * else is set as a property; `null`, `undefined` and `false` are left out.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, String(value));
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A drawing of index.html. It says nothing: the button or text beside it does. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

export function iconButton(name, label, onclick, properties = {}) {
  return h("button", { type: "button", class: "icon-button", title: label, "aria-label": label, onclick, ...properties }, icon(name));
}

const HUES = 8;
const hues = new Map(); // userId → hue

/** A person's colour: by their id, moved on to the next free one, so that few people never look alike. */
function hueOf(userId) {
  if (!hues.has(userId)) {
    let hue = 0;
    for (const character of userId) hue = (hue * 31 + character.codePointAt(0)) % 65_521;
    const taken = hues.size < HUES ? new Set(hues.values()) : new Set();
    while (taken.has(hue % HUES)) hue += 1;
    hues.set(userId, hue % HUES);
  }
  return hues.get(userId);
}

/** A person's initials on a colour of their own. */
export function avatar(userId, letters, size = "") {
  return h("span", { class: `avatar hue-${hueOf(userId)} ${size}`, "aria-hidden": "true" }, letters);
}

/** Writes text only where it changes, so that live regions and screen readers are left in peace. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const LINK = /https?:\/\/[^\s<>"']+/g;
const TRAILING = /[.,;:!?\]}]+$/;

/** The address without what ends the sentence around it; a closing bracket stays where it was opened inside. */
function withoutTrail(match) {
  const address = match.replace(TRAILING, "");
  return address.endsWith(")") && !address.includes("(") ? withoutTrail(address.slice(0, -1)) : address;
}

/** A person's text as nodes: web addresses become links, all else stays text. */
export function textNodes(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(LINK)) {
    const address = withoutTrail(match[0]);
    if (!URL.canParse(address)) continue;
    nodes.push(text.slice(from, match.index));
    nodes.push(h("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, address));
    from = match.index + address.length;
  }
  nodes.push(text.slice(from));
  return nodes.filter((node) => node !== "");
}

/** Puts `children` into `parent`, which then has exactly those; what stays is not moved, so it keeps the focus. */
export function place(parent, children) {
  const kept = new Set(children);
  for (const child of [...parent.childNodes]) if (!kept.has(child)) child.remove();
  let at = parent.firstChild;
  for (const child of children) {
    if (child === at) at = at.nextSibling;
    else parent.insertBefore(child, at);
  }
}
