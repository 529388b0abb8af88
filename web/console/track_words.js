/**
 * The words of the customer's page. Pure.
 *
 * @module track_words
 */

import { isExpectedLate, kindName, statusName, toMinute } from "./format.js";

const WORDS = {
  created: ["We have your order", "It is being made ready."],
  picked_up: ["Picked up", "The carrier has your parcel."],
  in_transit: ["On its way", "Your parcel is travelling to you."],
  delivered: ["Delivered", "Your parcel has arrived. Enjoy it!"],
  cancelled: ["Cancelled", "This order will not be delivered. If that surprises you, ask the shop."],
};

const STORY = { created: "Ordered", picked_up: "Picked up", in_transit: "On its way", delivered: "Delivered", cancelled: "Cancelled" };

const KINDS = {
  delivery_attempted: "We tried to deliver",
  delayed: "Delayed",
  eta_changed: "New estimate",
  proof_added: "Proof of delivery",
};

const ofTable = (table, name) => (Object.hasOwn(table, name) ? table[name] : undefined);

const sentence = (words, told) => (told ? `${words}: ${told}` : `${words}.`);

/**
 * Title and explanation of the state of an order. A failed attempt or a delay since the last step is a part of it.
 * @returns {[string, string]}
 */
export function headline({ status, active }, steps) {
  const [title, words] = ofTable(WORDS, status) ?? [statusName(status), ""];
  const newest = active ? newestOf(steps) : undefined;
  if (newest?.kind === "delivery_attempted") return ["We tried to deliver", sentence("It did not work this time", newest.message)];
  return [title, newest?.kind === "delayed" ? sentence("Your parcel is delayed", newest.message) : words];
}

/** The newest attempt or delay since the last step, or undefined. */
function newestOf(steps) {
  const step = steps.findLastIndex(({ kind, type }) => !kind && type !== "order.overdue");
  return steps.slice(step + 1).findLast(({ kind }) => kind === "delivery_attempted" || kind === "delayed");
}

/**
 * When the parcel arrives; empty: nobody has said.
 * @param {number} now  In ms.
 * @returns {{text: string, isLate: boolean}}
 */
export function promise(order, now) {
  const { active, due_at, eta, overdue } = order;
  if (!active || !(due_at || eta)) return { text: "", isLate: false };
  const isExpected = eta && Date.parse(eta) > now;
  const due = due_at && toMinute(due_at);
  if (overdue) return { text: `Late: it was due by ${due}.${isExpected ? ` It is now expected at ${toMinute(eta)}.` : ""}`, isLate: true };
  if (isExpected && isExpectedLate(order)) return { text: `Late: expected at ${toMinute(eta)} instead of ${due}.`, isLate: true };
  if (isExpected) return { text: `Expected at ${toMinute(eta)}.`, isLate: false };
  return { text: due ? `Expected by ${due}.` : `It was expected at ${toMinute(eta)}.`, isLate: false };
}

/**
 * Title and text of a step of the story.
 * @param {Object|undefined} before  The step before.
 * @returns {{title: string, told: string[]}}
 */
export function story(item, before) {
  const fresh = (name) => item[name] && item[name] !== before?.[name];
  const told = [item.message ?? item.reason];
  if (item.type === "order.overdue") return { title: "Later than promised", told: [`It was due by ${toMinute(item.due_at)}.`] };
  if (item.type === "order.customer_erased") return { title: "Name and contact erased", told: [] };
  if (fresh("eta")) told.push(`Expected at ${toMinute(item.eta)}.`);
  if (fresh("due_at")) told.push(`Due by ${toMinute(item.due_at)}.`);
  return { title: storyTitle(item, before), told: told.filter(Boolean) };
}

function storyTitle(item, before) {
  if (item.kind) return ofTable(KINDS, item.kind) ?? kindName(item.kind);
  const status = ofTable(STORY, item.status) ?? statusName(item.status);
  if (item.reason) return `Corrected: ${status.toLowerCase()}`;
  return before?.status === item.status ? "Passed another station" : status;
}
