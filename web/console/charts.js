/**
 * Small charts, drawn as SVG in the width of their element.
 *
 * @module charts
 */

import { h, svg } from "./dom.js";

/** An element with a chart. `draw(width, height)` returns its SVG; called when the width changes, and by `redraw()`. */
export class Chart {
  element;
  #draw;
  #width = 0;
  #height;
  #label;

  constructor(height, label, draw) {
    this.#height = height;
    this.#label = label;
    this.#draw = draw;
    this.element = h("div", { class: "chart" });
    this.element.style.blockSize = `${height}px`;
    new ResizeObserver(([{ contentRect }]) => {
      this.#width = Math.floor(contentRect.width);
      this.redraw();
    }).observe(this.element);
  }

  redraw() {
    if (!this.#width) return;
    const content = this.#draw(this.#width, this.#height);
    const attributes = { viewBox: `0 0 ${this.#width} ${this.#height}`, width: this.#width, height: this.#height };
    this.element.replaceChildren(svg("svg", { ...attributes, role: "img", "aria-label": this.#label() }, content));
  }
}

const AXIS = 18;
const GUTTER = 36;

/** The approximate width of a character of the labels at 11 px, in CSS pixels. */
const CHARACTER_WIDTH = 6.5;
const LABEL_GAP = 10;

/** The next round number. */
function niceMaximum(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value);
}

/**
 * Stacked areas.
 * @param {{times: number[], layers: {name: string, values: number[]}[], from: number, to: number}} data
 * @param {(value: number) => string} formatValue
 * @param {(time: number) => string} formatTime
 */
export function stackedAreas(width, height, { times, layers, from, to }, formatValue, formatTime) {
  const totals = times.map((_, index) => layers.reduce((sum, { values }) => sum + values[index], 0));
  const top = niceMaximum(Math.max(1, ...totals));
  const x = (time) => GUTTER + ((time - from) / (to - from || 1)) * (width - GUTTER - 2);
  const y = (value) => 6 + (1 - value / top) * (height - AXIS - 6);
  const base = times.map(() => 0);
  const shapes = layers.map(({ name, values }) => {
    const lower = [...base];
    for (const index of base.keys()) base[index] += values[index];
    const upper = times.map((time, index) => `${x(time).toFixed(1)},${y(base[index]).toFixed(1)}`);
    const back = times.map((time, index) => `${x(time).toFixed(1)},${y(lower[index]).toFixed(1)}`).reverse();
    return svg("polygon", { class: "area", "data-status": name, points: [...upper, ...back].join(" ") });
  });
  return [...grid(width, height, top, y, formatValue), ...shapes, ...timeAxis(width, height, from, to, x, formatTime)];
}

/** Bars over time, of equal width. */
export function columns(width, height, { values, from, to, className }, formatValue, formatTime) {
  const top = niceMaximum(Math.max(1, ...values));
  const room = width - GUTTER - 2;
  const step = room / values.length;
  const y = (value) => 6 + (1 - value / top) * (height - AXIS - 6);
  const x = (time) => GUTTER + ((time - from) / (to - from || 1)) * room;
  const bars = values.map((value, index) =>
    value > 0
      ? svg("rect", { class: className, x: GUTTER + index * step + step * 0.1, width: Math.max(1, step * 0.8), y: y(value), height: y(0) - y(value), rx: Math.min(2, step / 4) })
      : null,
  );
  return [...grid(width, height, top, y, formatValue), bars, ...timeAxis(width, height, from, to, x, formatTime)];
}

/** A histogram; the labels are under the boundaries of the classes. */
export function histogram(width, height, { counts, labels, mark }, formatValue) {
  const top = niceMaximum(Math.max(1, ...counts));
  const room = width - GUTTER - 2;
  const step = room / counts.length;
  const y = (value) => 6 + (1 - value / top) * (height - AXIS - 6);
  const bars = counts.map((count, index) =>
    svg("rect", { class: index === mark ? "bar marked" : "bar", x: GUTTER + index * step + 1, width: Math.max(1, step - 2), y: y(count), height: y(0) - y(count), rx: 2 }),
  );
  const every = Math.ceil(labels.length / Math.max(2, Math.floor(room / 64)));
  const names = labels.map((text, index) =>
    index % every === 0 ? svg("text", { class: "axis", x: GUTTER + index * step, y: height - 4, "text-anchor": index ? "middle" : "start" }, text) : null,
  );
  return [...grid(width, height, top, y, formatValue), bars, names];
}

function grid(width, height, top, y, formatValue) {
  return [0, 0.5, 1].flatMap((share) => [
    svg("line", { class: "gridline", x1: GUTTER, x2: width, y1: y(top * share), y2: y(top * share) }),
    svg("text", { class: "axis", x: GUTTER - 6, y: y(top * share) + 4, "text-anchor": "end" }, formatValue(top * share)),
  ]);
}

/** As many marks as fit: the last label ends at its mark, the others are centred. */
function timeAxis(width, height, from, to, x, formatTime) {
  const labelWidth = CHARACTER_WIDTH * Math.max(formatTime(from).length, formatTime(to).length);
  const marks = Math.max(1, Math.min(6, Math.floor((width - GUTTER) / (1.5 * labelWidth + LABEL_GAP))));
  return Array.from({ length: marks + 1 }, (_, index) => {
    const time = from + ((to - from) * index) / marks;
    const anchor = index === 0 ? "start" : index === marks ? "end" : "middle";
    return svg("text", { class: "axis", x: x(time), y: height - 4, "text-anchor": anchor }, formatTime(time));
  });
}
