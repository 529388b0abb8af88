/**
 * Shows a refusal with all members of its problem document.
 *
 * @module problem
 */

import { Refusal } from "./api.js";
import { h, icon } from "./dom.js";
import { statusName } from "./format.js";

/** The view of an error of the API. */
export function problemView(error) {
  if (!(error instanceof Refusal)) return box(error.message, "Nothing was changed that you know of; it is safe to try again.");
  const { problem } = error;
  return box(problem.title ?? "Refused", problem.detail, details(problem), error.slug, problem.trace_id);
}

function box(title, detail, more = [], slug = "", trace = "") {
  const small = [slug, trace && `trace ${trace}`].filter(Boolean).join(" · ");
  return h(
    "div",
    { class: "problem", role: "alert", "data-testid": "problem", "data-slug": slug },
    icon("alert"),
    h("div", {}, h("strong", {}, title), detail && h("p", {}, detail), more, small && h("p", { class: "small" }, small)),
  );
}

/** The additional members of a problem. */
function details(problem) {
  const facts = [];
  const fact = (name, value) => value !== undefined && value !== null && facts.push([name, String(value)]);
  if (problem.current_status) fact("It stands at", statusName(problem.current_status));
  if (problem.requested_status) fact("You asked for", statusName(problem.requested_status));
  if (Array.isArray(problem.allowed_next)) {
    fact("It may become", problem.allowed_next.map(statusName).join(", ") || "nothing: it is closed");
  }
  fact("Its version", problem.version);
  fact("You expected version", problem.expected_version);
  const errors = Array.isArray(problem.errors) ? problem.errors : [];
  return [
    facts.length ? h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])) : null,
    errors.length ? h("ul", {}, errors.map(({ pointer, message }) => h("li", {}, h("code", {}, pointer), ` ${message}`))) : null,
  ];
}
