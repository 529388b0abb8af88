/**
 * Gives the keyboard to a list as soon as its rows are there.
 *
 * @module list_focus
 */

export class ListFocus {
  #isReady;
  #give;
  #waiting = null; // an AbortController, while the rows are not there
  #from = null; // what had the focus when the list was asked for

  /** @param {{isReady: () => boolean, give: () => void}} use  `give`: focuses the list, or what stands for an empty one. */
  constructor({ isReady, give }) {
    this.#isReady = isReady;
    this.#give = give;
  }

  /** Focuses the list now, or once it is ready. A key or a press in the meantime is the user's wish, and ends the wait. */
  ask() {
    this.#end();
    if (this.#isReady()) {
      this.#give();
      return;
    }
    this.#from = document.activeElement;
    const waiting = (this.#waiting = new AbortController());
    for (const name of ["keydown", "pointerdown"]) {
      document.addEventListener(name, () => this.#end(), { capture: true, signal: waiting.signal });
    }
  }

  /** Must be called after each change of the list. */
  settle() {
    if (!this.#waiting || !this.#isReady()) return;
    this.#end();
    if (!this.#isInOtherField) this.#give();
  }

  /** True if the user has gone to a field without a key or a press, as screen readers do. */
  get #isInOtherField() {
    const { activeElement } = document;
    return activeElement !== this.#from && Boolean(activeElement?.matches("input, textarea, select"));
  }

  #end() {
    this.#waiting?.abort();
    this.#waiting = null;
  }
}
