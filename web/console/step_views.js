/**
 * The rows of a timeline: steps, checkpoints, corrections, passed due times, repeated scans, and refused attempts.
 *
 * @module step_views
 */

import { h, icon } from "./dom.js";
import { duration, fullTime, kindIcon, kindName, number, statusIcon, statusName, timeOfDay, toMinute, when } from "./format.js";

/** A key that is equal for equal rows: recorded steps never change, except for erased names. */
export function keyOf({ group, item, update, isTakenBack }) {
  if (group) return `g${group.key}:${group.count}:${group.isOpen}`;
  return item ? `v${item.version}${isTakenBack ? "x" : ""}` : `u${update.update_id}`;
}

/** The time of a step: as reported by its source, or else when it was received. */
export const happened = (item) => Date.parse(item.occurred_at ?? item.received_at);

/**
 * The row of an entry of the timeline.
 * @param {Object} entry  Of `withGroups`; `isTakenBack`: a correction says that the step was wrong.
 * @param {(key: number) => void} toggle  Opens or closes a group.
 */
export function entryView({ group, item, before, update, isTakenBack }, toggle) {
  if (group) return groupView(group, () => toggle(group.key));
  if (update) return refusalView(update);
  if (item.kind) return checkpointView(item, before);
  if (item.reason) return correctionView(item, before);
  if (item.type === "order.customer_erased") return erasureView(item, before);
  return item.type === "order.overdue" ? overdueView(item, before) : stepView(item, before, isTakenBack);
}

function stepView(item, before, isTakenBack) {
  const again = before?.status === item.status;
  const status = isTakenBack ? h("s", {}, statusName(item.status)) : statusName(item.status);
  const note = isTakenBack ? " taken back by a correction" : again ? " again" : "";
  return row(item, before, {
    mark: icon(statusIcon(item.status), "status-icon"),
    title: [status, note && h("span", { class: "quiet" }, note)],
    isTakenBack,
  });
}

function checkpointView(item, before) {
  return row(item, before, { mark: icon(kindIcon(item.kind), "kind-icon"), title: [kindName(item.kind)], told: item.message, name: "checkpoint" });
}

function correctionView(item, before) {
  const { previous_status, status, reason } = item;
  const change = [h("s", {}, statusName(previous_status)), " → ", statusName(status)];
  return row(item, before, { mark: icon("edit", "kind-icon"), title: ["Corrected: ", ...change], told: reason, name: "correction" });
}

function overdueView(item, before) {
  return row(item, before, { mark: icon("late", "overdue-icon"), title: ["Overdue"], told: `It was due ${toMinute(item.due_at)}.`, name: "overdue" });
}

function erasureView(item, before) {
  return row(item, before, { mark: icon("edit", "kind-icon"), title: ["Customer erased"], name: "erasure" });
}

/** A change of the order. `told`: the text that came with it; `name`: what it is, if not a step. */
function row(item, before, { mark, title, told = null, name = "step", isTakenBack = false }) {
  return h(
    "li",
    { class: `step ${name}`, "data-status": item.status, "data-testid": "step", "data-kind": item.kind ?? name, "data-version": item.version, "data-taken-back": String(isTakenBack) },
    mark,
    h(
      "div",
      { class: "step-body" },
      h("div", { class: "step-line" }, h("div", {}, h("strong", {}, title), legView(item, before)), h("time", { datetime: item.recorded_at, title: fullTime(item.recorded_at) }, when(happened(item)))),
      told ? h("p", { class: "told", "data-testid": "told" }, told) : null,
      newTimes(item, before),
      sourceView(item.source, `v${item.version}`),
      item.type === "order.overdue" ? null : timesView(item),
      metadataView(item.metadata),
    ),
  );
}

/** The due time and the ETA that came with a change, and what they were before; null: none did. */
function newTimes(item, before) {
  const fresh = [["Due", "due_at"], ["ETA", "eta"]].filter(([, name]) => item[name] && item[name] !== before?.[name]);
  if (!fresh.length) return null;
  const told = ([text, name]) => h("div", {}, h("dt", {}, text), h("dd", { title: fullTime(item[name]) }, toMinute(item[name]), before?.[name] ? h("span", { class: "quiet" }, `, before ${toMinute(before[name])}`) : null));
  return h("dl", { class: "times new-times", "data-testid": "new-times" }, fresh.map(told));
}

/** Repeated scans in one row, with a button that shows them. */
function groupView({ key, count, newest, oldest, isOpen }, toggle) {
  const span = `${when(happened(oldest))} – ${when(happened(newest))}, v${oldest.version} to v${newest.version}`;
  return h(
    "li",
    { class: "step group", "data-status": newest.status, "data-testid": "step-group" },
    icon(statusIcon(newest.status), "status-icon"),
    h(
      "div",
      { class: "step-body" },
      h(
        "div",
        { class: "step-line" },
        h("strong", {}, `${statusName(newest.status)} × ${number(count)}`),
        h("button", { class: "button small-button", type: "button", "aria-expanded": String(isOpen), "data-group": key, "data-testid": "group-toggle", onclick: toggle }, isOpen ? "Hide each" : "Show each"),
      ),
      sourceView(newest.source, span),
    ),
  );
}

function sourceView(source, more) {
  return h("div", { class: "source" }, icon(source.type), h("span", {}, source.id ?? ""), h("span", { class: "quiet" }, `${source.type} · ${more}`));
}

/** The three times: when it happened, and how much later it was received and recorded. */
function timesView({ occurred_at, received_at, recorded_at }) {
  const received = Date.parse(received_at);
  const late = occurred_at ? (received - Date.parse(occurred_at)) / 1000 : null;
  const entries = [
    ["happened", occurred_at ? timeOfDay(occurred_at) : "not told", occurred_at && fullTime(occurred_at)],
    ["received", late === null ? timeOfDay(received_at) : signed(late), fullTime(received_at), late > 120],
    ["recorded", signed((Date.parse(recorded_at) - received) / 1000), fullTime(recorded_at)],
  ];
  return h(
    "dl",
    { class: "times" },
    entries.map(([name, value, title, bad]) => h("div", { "data-late": Boolean(bad) && "true" }, h("dt", {}, name), h("dd", { title }, value))),
  );
}

const signed = (seconds) => (seconds < 0 ? duration(seconds) : `+${duration(seconds)}`);

/** The time since the step before; null for the first. */
function legView(item, before) {
  if (!before) return null;
  const seconds = (happened(item) - happened(before)) / 1000;
  const title = `In ${statusName(before.status).toLowerCase()} for so long`;
  return h("span", { class: "leg", "data-testid": "leg", title }, `after ${duration(seconds)}`);
}

function refusalView(update) {
  const { problem } = update;
  const slug = String(problem.type ?? "").replace(/^.*\/problems\//, "");
  return h(
    "li",
    { class: "step refused", "data-testid": "refusal", "data-slug": slug },
    icon("refused", "refused-icon"),
    h(
      "div",
      { class: "step-body" },
      h("div", { class: "step-line" }, h("strong", {}, `${update.kind ? kindName(update.kind) : statusName(update.requested_status)} refused`), h("time", { datetime: update.recorded_at, title: fullTime(update.recorded_at) }, when(update.recorded_at))),
      h("p", {}, problem.detail ?? problem.title),
      sourceView(update.source, slug),
    ),
  );
}

/** True if metadata may be higher than its box, and so be scrolled. */
const isLong = (entries) => entries.length > 6 || JSON.stringify(entries).length > 300;

export function metadataView(metadata) {
  const entries = Object.entries(metadata ?? {});
  if (!entries.length) return h("span", { hidden: true });
  const long = isLong(entries);
  return h(
    "div",
    {},
    h(
      "ul",
      { class: "tags", "aria-label": "Metadata", "data-testid": "metadata", tabindex: long ? "0" : null },
      entries.map(([name, value]) => h("li", {}, h("span", { class: "quiet" }, name), " ", typeof value === "string" ? value : JSON.stringify(value))),
    ),
    long && h("p", { class: "quiet small" }, `${entries.length} in all: scroll to see them`),
  );
}
