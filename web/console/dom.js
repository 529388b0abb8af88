/**
 * Makes elements of data. Text is never parsed as markup.
 *
 * @module dom
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element. Functions in `attributes` are listeners (`onclick`), `true` is an empty attribute, and
 * `false`, `null` and `undefined` are left out. Children become nodes or text; null and false are left out.
 */
export function h(name, attributes = {}, ...children) {
  return build(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, name), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  const given = children.flat(3).filter((child) => child !== null && child !== undefined && child !== false);
  element.append(...given.map((child) => (child instanceof Node ? child : contained(String(child)))));
  return element;
}

/**
 * The text with its directional isolates closed. The style sheet isolates every element, which ends whatever a text
 * has turned, except where the text ends that isolation itself, or begins others that would be ended in its place.
 */
function contained(text) {
  if (!/[\u2066-\u2069]/.test(text)) return text;
  let open = 0;
  const kept = text.replace(/[\u2066-\u2069]/g, (mark) => {
    if (mark !== "\u2069") open += 1;
    else if (open > 0) open -= 1;
    else return "";
    return mark;
  });
  return kept + "\u2069".repeat(open);
}

/** A symbol of the page's sprite. It is decoration next to a text with the same meaning. */
export function icon(name, className = "") {
  const use = svg("use", { href: `#i-${name}` });
  return svg("svg", { class: `icon ${className}`.trim(), "aria-hidden": "true", focusable: "false" }, use);
}

/** Changes the symbol of an `icon`. */
export function setIcon(element, name) {
  const use = element.firstChild;
  if (use.getAttribute("href") !== `#i-${name}`) use.setAttribute("href", `#i-${name}`);
}

/** Sets the text of an element if it differs. */
export function setText(element, text) {
  const wanted = contained(text ?? "");
  if (element.firstChild?.nodeType === 3 && element.childNodes.length === 1) {
    if (element.firstChild.data !== wanted) element.firstChild.data = wanted;
  } else if (element.textContent !== wanted) {
    element.textContent = wanted;
  }
}

/** Sets an attribute if it differs. */
export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export const byId = (id) => document.getElementById(id);

/** Announces a text to screen readers, politely. */
export function announce(text) {
  const region = byId("announcements");
  if (region) region.textContent = text;
}

/** A short message that disappears by itself; `kind` is `good` or `bad`. */
export function toast(text, kind = "good", action = null) {
  const note = h(
    "div",
    { class: "toast", "data-kind": kind, "data-testid": "toast" },
    icon(kind === "good" ? "check" : "alert"),
    h("span", {}, text),
    action,
  );
  byId("toasts").append(note);
  setTimeout(() => note.remove(), 6000);
}

/** Closes open menus on a click outside, or on Escape. */
export function closeMenus() {
  const open = () => [...document.querySelectorAll("details.menu[open]")];
  document.addEventListener("pointerdown", ({ target }) => {
    for (const menu of open()) if (!menu.contains(target)) menu.open = false;
  });
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.key !== "Escape" || !open().length) return;
      event.preventDefault();
      event.stopPropagation();
      for (const menu of open()) {
        menu.open = false;
        menu.firstElementChild.focus();
      }
    },
    { capture: true },
  );
}

/**
 * Calls `fill` right before a menu opens. Its `toggle` event comes later, when the focus may be in the menu already:
 * an element that is replaced then loses the focus.
 * @param {HTMLDetailsElement} menu  With its `summary`.
 */
export function beforeOpening(menu, fill) {
  menu.querySelector("summary").addEventListener("click", () => {
    if (!menu.open) fill();
  });
}

/** A part that is loaded when it is first needed; null: it could not be loaded, and the page says so. */
export async function loaded(part) {
  try {
    return await part();
  } catch {
    toast("This part of the page could not be loaded. Try again, or reload the page.", "bad");
    return null;
  }
}
