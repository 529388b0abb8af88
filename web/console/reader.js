/**
 * Detects if a list is in use: it is not at its top, a pointer moves over it, or one of its rows has the focus.
 *
 * @module reader
 */

/** After this time without a movement or a key the list is no longer in use. */
const POINTER_RESTS_MS = 10_000;
const KEYBOARD_RESTS_MS = 60_000;

export class Reader {
  #viewport;
  #pointerAt = null;
  #usedAt = -Infinity; // by key or click

  /**
   * @param {HTMLElement} viewport
   * @param {() => void} left  Called when the pointer has left it.
   */
  constructor(viewport, left) {
    this.#viewport = viewport;
    const moved = ({ pointerType }) => {
      if (pointerType !== "touch") this.#pointerAt = performance.now();
    };
    viewport.addEventListener("pointermove", moved);
    for (const name of ["keydown", "pointerdown", "focusin"]) {
      viewport.addEventListener(name, () => {
        this.#usedAt = performance.now();
      });
    }
    viewport.addEventListener("pointerleave", () => {
      this.#pointerAt = null;
      left();
    });
  }

  get isReading() {
    if (this.#viewport.scrollTop > 2) return true;
    const now = performance.now();
    const inUse = this.#viewport.contains(document.activeElement);
    if (inUse && now - this.#usedAt < KEYBOARD_RESTS_MS) return true;
    return this.#pointerAt !== null && now - this.#pointerAt < POINTER_RESTS_MS;
  }

  /** Ignores the last movement and key: they did not use the list. */
  rest() {
    this.#pointerAt = null;
    this.#usedAt = -Infinity;
  }
}
