/**
 * A long timeline, of which only the rows near the view are in the page. Rows differ in height, so they are in blocks:
 * a distant block is an empty box with its last or estimated height.
 *
 * @module timeline_blocks
 */

import { h } from "./dom.js";

const BLOCK = 50;

/** Blocks are filled at this distance from the view, in CSS pixels. */
const AHEAD_PX = 1000;

/** The estimated height of a row, for blocks that were not drawn yet. */
const ROW_PX = 84;

export class TimelineBlocks {
  element = h("div", { class: "timeline", "data-testid": "timeline" });

  #view;
  #observer;
  #blocks = new Map(); // number of older rows → the block

  /**
   * @param {HTMLElement} scroller  The scrolling element that contains the timeline.
   * @param {(entry: Object) => HTMLElement} view  A row.
   */
  constructor(scroller, view) {
    this.#view = view;
    this.#observer = new IntersectionObserver((changes) => this.#scrolled(changes), {
      ...{ root: scroller, rootMargin: `${AHEAD_PX}px 0px` },
    });
  }

  /**
   * Shows these entries, newest first. Blocks are counted from the oldest, so that they stay as they are when steps follow.
   *
   * @param {Array<Object>} entries
   * @param {(entry: Object) => string} keyOf  The same for entries whose rows look the same.
   */
  show(entries, keyOf) {
    const kept = new Map();
    for (let end = entries.length; end > 0; end -= BLOCK) {
      const behind = entries.length - end;
      const own = entries.slice(Math.max(0, end - BLOCK), end);
      const key = own.map(keyOf).join(" ");
      const block = this.#blocks.get(behind) ?? { element: h("ol"), key: null, isFilled: behind === 0 && end <= BLOCK, height: null };
      const isNewest = end <= BLOCK;
      if (block.key !== key) {
        Object.assign(block, { entries: own, key, height: null });
        if (block.isFilled || isNewest) this.#fill(block);
        else this.#empty(block);
      }
      kept.set(behind, block);
    }
    for (const [behind, { element }] of this.#blocks) {
      if (kept.has(behind)) continue;
      this.#observer.unobserve(element);
      element.remove();
    }
    for (const [behind, { element }] of kept) {
      if (this.#blocks.has(behind)) continue;
      this.element.prepend(element); // newer ones are above
      element.dataset.behind = String(behind);
      this.#observer.observe(element);
    }
    this.#blocks = kept;
  }

  #scrolled(changes) {
    for (const { target, isIntersecting } of changes) {
      const block = this.#blocks.get(Number(target.dataset.behind));
      if (!block || block.isFilled === isIntersecting) continue;
      if (isIntersecting) this.#fill(block);
      else if (!target.contains(document.activeElement)) {
        block.height = target.getBoundingClientRect().height;
        this.#empty(block);
      }
    }
  }

  #fill(block) {
    block.isFilled = true;
    block.element.style.blockSize = "";
    block.element.replaceChildren(...block.entries.map((entry) => this.#view(entry)));
  }

  #empty(block) {
    block.isFilled = false;
    block.element.style.blockSize = `${block.height ?? block.entries.length * ROW_PX}px`;
    block.element.replaceChildren();
  }
}
