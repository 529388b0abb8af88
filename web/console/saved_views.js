/**
 * Named views of the board: addresses, stored in this browser for each user.
 *
 * @module saved_views
 */

const MAX_VIEWS = 50;
export const MAX_NAME_CHARACTERS = 60;

/** @typedef {{name: string, address: string}} View  `address`: the parameters of the board, without the question mark. */

/** The views of one user, read from the storage each time, because other tabs write there too. */
export class SavedViews {
  #storage;
  #claims;

  /**
   * @param {Storage} storage
   * @param {() => {sub?: string, iss?: string}} claims  Of the signed-in user.
   */
  constructor(storage, claims) {
    this.#storage = storage;
    this.#claims = claims;
  }

  /** @returns {View[]} By name. */
  get all() {
    try {
      const views = JSON.parse(this.#storage.getItem(this.#key) ?? "[]");
      return views.filter(({ name, address }) => typeof name === "string" && typeof address === "string").slice(0, MAX_VIEWS);
    } catch {
      return []; // something else wrote there
    }
  }

  /**
   * Stores an address under a name, and replaces the one before.
   * @throws {Error} For people: the storage is full.
   */
  save(name, address) {
    const others = this.all.filter((view) => view.name !== name);
    if (others.length === MAX_VIEWS) throw new Error(`No more than ${MAX_VIEWS} views can be kept. Delete one first.`);
    this.#keep([...others, { name, address }]);
  }

  /** @throws {Error} For people: the other name is taken. */
  rename(before, after) {
    const views = this.all;
    if (before !== after && views.some(({ name }) => name === after)) throw new Error(`There is a view “${after}” already.`);
    this.#keep(views.map((view) => (view.name === before ? { ...view, name: after } : view)));
  }

  delete(name) {
    this.#keep(this.all.filter((view) => view.name !== name));
  }

  get #key() {
    const { iss, sub } = this.#claims();
    return `tracking.views:${JSON.stringify([iss ?? null, sub ?? null])}`;
  }

  #keep(views) {
    views.sort((a, b) => a.name.localeCompare(b.name));
    try {
      this.#storage.setItem(this.#key, JSON.stringify(views));
    } catch {
      throw new Error("This browser keeps nothing for this page.");
    }
  }
}
