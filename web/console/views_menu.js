/**
 * The menu of saved views: links to them, and buttons to save, rename and delete them.
 *
 * @module views_menu
 */

import { announce, beforeOpening, h, icon, setText } from "./dom.js";
import { writeFilter } from "./filters.js";
import { MAX_NAME_CHARACTERS } from "./saved_views.js";

export class ViewsMenu {
  element;

  #views;
  #current;
  #name = h("span", {}, "Views");
  #list = h("ul", { class: "view-list", "data-testid": "saved-views" });
  #fault = h("p", { class: "fault", role: "alert", "data-testid": "view-fault" });
  #input = h("input", { name: "name", required: true, maxlength: MAX_NAME_CHARACTERS, autocomplete: "off", "aria-label": "Name of this view", placeholder: "Name of this view", "data-testid": "view-name" });

  /** @param {{views: Object, current: () => Object}} use  `current`: the board's filter. */
  constructor({ views, current }) {
    this.#views = views;
    this.#current = current;
    const form = h("form", { class: "view-form", onsubmit: (event) => this.#save(event) }, this.#input, h("button", { class: "button primary", type: "submit", "data-testid": "view-save" }, "Save"));
    const summary = h("summary", { class: "button quiet-button views-button", "aria-label": "Saved views", "data-testid": "views-button" }, icon("bookmark"), this.#name);
    this.element = h("details", { class: "menu views-menu" }, summary, h("div", { class: "popover" }, this.#list, this.#fault, form));
    beforeOpening(this.element, () => this.#draw());
    this.#list.addEventListener("click", ({ target }) => {
      if (target.closest("a")) this.#close();
    });
  }

  /** Shows the name of the view, if the board shows a saved one. */
  refresh() {
    const address = this.#address;
    const view = this.#views.all.find((each) => each.address === address);
    setText(this.#name, view?.name ?? "Views");
    this.element.firstChild.setAttribute("aria-label", view ? `Saved views, now: ${view.name}` : "Saved views");
    this.element.firstChild.dataset.active = String(view !== undefined);
    if (this.element.open) this.#draw();
  }

  get #address() {
    return writeFilter(this.#current()).toString();
  }

  #close() {
    this.element.open = false;
    this.element.firstChild.focus();
  }

  #draw() {
    setText(this.#fault, "");
    const address = this.#address;
    const views = this.#views.all;
    const none = h("li", { class: "quiet" }, "None yet. A view is what the board shows now: filters, search, sorting and columns.");
    this.#list.replaceChildren(...(views.length ? views.map((view) => this.#item(view, view.address === address)) : [none]));
  }

  #item({ name, address }, isCurrent) {
    const button = (act, symbol, testId, onclick) =>
      h("button", { class: "button icon-button", type: "button", "aria-label": `${act} ${name}`, title: act, "data-testid": testId, onclick }, icon(symbol));
    const link = h("a", { href: `?${address}`, "data-saved-view": true, "aria-current": isCurrent && "true", "data-testid": "saved-view" }, name);
    const item = h(
      "li",
      {},
      link,
      button("Rename", "edit", "view-rename", () => this.#askName(item, name)),
      button("Delete", "close", "view-delete", () => this.#delete(name)),
    );
    return item;
  }

  #askName(item, name) {
    const input = h("input", { name: "name", required: true, value: name, maxlength: MAX_NAME_CHARACTERS, autocomplete: "off", "aria-label": `New name of ${name}`, "data-testid": "view-new-name" });
    const rename = (event) => {
      event.preventDefault();
      const after = input.value.trim();
      if (!after) return;
      this.#try(() => this.#views.rename(name, after), `${name} is now called ${after}.`, after);
    };
    item.replaceChildren(h("form", { class: "view-form", onsubmit: rename }, input, h("button", { class: "button", type: "submit" }, "Rename")));
    input.focus();
    input.select();
  }

  #delete(name) {
    this.#try(() => this.#views.delete(name), `The view ${name} is deleted.`, null);
  }

  #save(event) {
    event.preventDefault();
    const name = this.#input.value.trim();
    if (!name) return;
    if (!this.#try(() => this.#views.save(name, this.#address), `The view ${name} is saved.`, name)) return;
    this.#input.value = "";
    this.#close();
  }

  /** Runs an action, announces it, and focuses the view of that name, or the input of names. */
  #try(act, said, name) {
    try {
      act();
    } catch (error) {
      setText(this.#fault, error.message);
      return false;
    }
    announce(said);
    this.refresh();
    const links = [...this.#list.querySelectorAll("a")];
    (links.find((link) => link.textContent === name) ?? this.#input).focus();
    return true;
  }
}
