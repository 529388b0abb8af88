/**
 * The words for webhooks and their attempts.
 *
 * @module webhook_words
 */

import { duration, number, statusName, toMinute, when } from "./format.js";

export const UNKNOWN = "–";

/** The types of events, as the filter of a webhook names them. */
export const EVENT_TYPES = {
  "order.created": "Created",
  "order.status_changed": "Status changed",
  "order.checkpoint_added": "Checkpoint added",
  "order.corrected": "Corrected",
  "order.overdue": "Overdue",
  "order.customer_erased": "Customer erased",
};

export const STATE_ICONS = { active: "check", failing: "alert", disabled: "refused" };

const REASONS = {
  "failed-too-long": "Deliveries failed for three days. Mend the receiver, send a test, then enable it.",
  gone: "The receiver answered 410, so it wants no more. Enable it if that was a mistake.",
  revoked: "The token that it gets events under was revoked. Enable it to use yours instead.",
  "log-replaced": "The database was restored from a backup. Replay from a time first, then enable it.",
};

/** What the state means, and what to do about it. */
export function stateWords({ state, reason, delayed_orders, next_attempt_at }) {
  if (state === "disabled") return REASONS[reason] ?? "Nothing is sent until it is enabled.";
  if (state === "active") return "Nothing waits for another attempt.";
  const waiting = delayed_orders ? `Of ${number(delayed_orders)} order${delayed_orders === 1 ? "" : "s"}, an event is tried again. ` : "";
  return `${waiting}${next_attempt_at ? `The receiver is asked again at ${when(next_attempt_at)}.` : ""}`.trim() || "An event is tried again.";
}

const ERRORS = {
  timeout: "no answer within 15 s",
  connection: "no connection",
  name: "its name was not found",
  address: "its address may not be used",
  certificate: "its certificate is not valid",
  tls: "no TLS connection",
  protocol: "its answer is not HTTP",
};

/** The outcome of an attempt: `Delivered, 204`, or why not. */
export function outcomeWords({ outcome, status, error }) {
  const why = status ?? ERRORS[error] ?? error;
  return `${outcome === "delivered" ? "Delivered" : "Failed"}${why === null ? "" : `, ${why}`}`;
}

/** The newest attempt in one line. */
export const lastWords = (attempt) => (attempt ? `${outcomeWords(attempt)}, ${when(attempt.at)}` : UNKNOWN);

export const tookWords = ({ duration_ms }) => duration(duration_ms / 1000);

/** The number of events still to be delivered; `+`: they are too many to be counted. */
export const pendingWords = ({ pending, pending_exact }) => `${number(pending)}${pending_exact ? "" : "+"}`;

/** The filter in words. */
export function filterWords({ merchant_id, order_id, status, type }) {
  const parts = [
    merchant_id?.join(", "),
    order_id && `orders ${order_id.join(", ")}`,
    status?.map(statusName).join(", "),
    type?.map((name) => EVENT_TYPES[name] ?? name).join(", "),
  ].filter(Boolean);
  return parts.join(" · ") || "Every event";
}

export const until = (time) => toMinute(time);
