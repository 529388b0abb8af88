/**
 * The filter of the board: the filters of `GET /v1/orders`, with the same names, in the address. Pure.
 *
 * As on the stream, a filter without `active` and `status` means open orders; `active=any` asks for all.
 *
 * @module filters
 */

import { isFound, searchedWords } from "./search_words.js";

export const SORTS = ["-created_at", "created_at", "-updated_at", "updated_at", "due_at", "-due_at"];
export const TIMES = ["created_from", "created_to", "updated_from", "updated_to", "closed_from", "closed_to", "due_from", "due_to"];

const LISTS = ["status", "merchant_id"];

/** Columns that a view may hide; status and order are always shown. */
export const COLUMNS = ["merchant", "customer", "source", "created", "due", "age"];
const NO_COLUMNS = "none";

const FLAGS = new Map([["true", true], ["false", false]]);

/**
 * @typedef {Object} Filter
 * @property {string[]} status
 * @property {string[]} merchant_id
 * @property {string} customer_ref
 * @property {string} source_id  Who reported the newest change.
 * @property {boolean|null} active  Null: both.
 * @property {boolean|null} overdue  Null: both.
 * @property {Object<string, string>} times  RFC 3339, by the names of `TIMES`.
 * @property {string} sort
 * @property {string[]|null} columns  Those of `COLUMNS` that are shown; null: all.
 * @property {string} q  Beginnings of words of order id, merchant, customer reference, name and reporter.
 */

/**
 * @param {URLSearchParams} parameters
 * @param {string[]} statuses  All of the workflow.
 * @returns {Filter} The filter of an address, without the parts that `faultsOf` reports.
 */
export function readFilter(parameters, statuses) {
  const [asked, merchant_id] = LISTS.map((name) => [...new Set(parameters.getAll(name).filter(Boolean))]);
  const status = asked.filter((name) => statuses.includes(name));
  const times = {};
  for (const name of TIMES) {
    const time = Date.parse(parameters.get(name) ?? "");
    if (!Number.isNaN(time)) times[name] = new Date(time).toISOString();
  }
  const sort = parameters.get("sort");
  return {
    ...{ status, merchant_id, times },
    active: readActive(parameters.get("active"), { status, times }),
    overdue: FLAGS.get(parameters.get("overdue")) ?? null,
    customer_ref: parameters.get("customer_ref") ?? "",
    source_id: parameters.get("source_id") ?? "",
    columns: readColumns(parameters.get("columns")),
    sort: SORTS.includes(sort) ? sort : SORTS[0],
    q: parameters.get("q") ?? "",
  };
}

/** The invalid parts of an address as text; the same parameters as for `readFilter`. */
export function faultsOf(parameters, statuses) {
  const allowed = { status: statuses, active: ["true", "false", "any"], overdue: [...FLAGS.keys()], sort: SORTS };
  const found = [];
  for (const [name, values] of Object.entries(allowed)) {
    for (const value of parameters.getAll(name)) {
      if (value && !values.includes(value)) found.push(`${name} “${value}” is none of ${values.join(", ")}`);
    }
  }
  for (const name of (parameters.get("columns") ?? "").split(",")) {
    if (name && name !== NO_COLUMNS && !COLUMNS.includes(name)) found.push(`columns “${name}” is none of ${COLUMNS.join(", ")}`);
  }
  for (const name of TIMES) {
    const value = parameters.get(name);
    if (value && Number.isNaN(Date.parse(value))) found.push(`${name} “${value}” is not a time like 2026-03-01T08:00:00Z`);
  }
  return found;
}

function readActive(text, filter) {
  if (text === "true" || text === "false") return text === "true";
  return text === "any" ? null : usualActive(filter);
}

/** The filter without times of closing, which no open order has. */
export function withoutClosing(filter) {
  const times = Object.entries(filter.times).filter(([name]) => !name.startsWith("closed_"));
  return { ...filter, times: Object.fromEntries(times) };
}

/** `active` of a filter that does not name it: statuses, and times of closing, say by themselves what may match. */
export const usualActive = ({ status, times }) => (status.length || times.closed_from || times.closed_to ? null : true);

function readColumns(text) {
  if (!text) return null;
  const asked = text.split(",");
  const shown = COLUMNS.filter((name) => asked.includes(name));
  return shown.length === COLUMNS.length || (!shown.length && text !== NO_COLUMNS) ? null : shown;
}

/** The address of a filter, without defaults. */
export function writeFilter(filter) {
  const parameters = new URLSearchParams();
  for (const name of LISTS) for (const value of filter[name]) parameters.append(name, value);
  if (filter.active !== usualActive(filter)) parameters.set("active", filter.active === null ? "any" : String(filter.active));
  if (filter.overdue !== null) parameters.set("overdue", String(filter.overdue));
  if (filter.customer_ref) parameters.set("customer_ref", filter.customer_ref);
  if (filter.source_id) parameters.set("source_id", filter.source_id);
  for (const name of TIMES) if (filter.times[name]) parameters.set(name, filter.times[name]);
  if (filter.columns) parameters.set("columns", filter.columns.join(",") || NO_COLUMNS);
  if (filter.sort !== SORTS[0]) parameters.set("sort", filter.sort);
  if (filter.q) parameters.set("q", filter.q);
  return parameters;
}

/**
 * The same filter as parameters of `GET /v1/orders`. The reporter of the newest change is matched by its beginning: the
 * answer has to be filtered with `matchesScope`.
 */
export function apiParameters(filter) {
  const parameters = new URLSearchParams();
  for (const name of LISTS) for (const value of filter[name]) parameters.append(name, value);
  if (filter.active !== null && !findsAll(filter)) parameters.set("active", String(filter.active));
  if (filter.overdue !== null) parameters.set("overdue", String(filter.overdue));
  if (filter.customer_ref) parameters.set("customer_ref", filter.customer_ref);
  for (const name of TIMES) if (filter.times[name]) parameters.set(name, filter.times[name]);
  parameters.set("sort", filter.sort);
  const words = [filter.q, filter.source_id].filter(Boolean).join(" ");
  if (words) parameters.set("q", words);
  return parameters;
}

/**
 * True if an order matches, whatever its status, and open or closed. `isListed`: the API has listed it for this filter,
 * which knows when it closed.
 */
export function matchesScope(filter, order, { isListed = false } = {}) {
  if (filter.merchant_id.length && !filter.merchant_id.includes(order.merchant_id)) return false;
  if (filter.customer_ref && order.customer?.contact_ref.normalize() !== filter.customer_ref.normalize()) return false;
  if (filter.source_id && order.source.id !== filter.source_id) return false;
  for (const name of TIMES) {
    const bound = filter.times[name];
    if (bound === undefined) continue;
    const field = `${name.split("_")[0]}_at`;
    if (field === "closed_at" && isListed && !order.active && !order.closed_at) continue;
    const time = Date.parse(order[field]);
    if (Number.isNaN(time)) return false; // it has no due time, or is open, or nobody knows when it closed
    if (name.endsWith("from") ? time < Date.parse(bound) : time >= Date.parse(bound)) return false;
  }
  if (isByDueTime(filter) && !order.due_at) return false;
  return !filter.q || isFound(order, wordsOfSearch(filter.q));
}

/** True if it is sorted by due time: orders without one are left out, as the API does. */
export const isByDueTime = ({ sort }) => sort.endsWith("due_at");

let newestSearch = { text: "", words: [] };

function wordsOfSearch(text) {
  if (newestSearch.text !== text) newestSearch = { text, words: searchedWords(text) };
  return newestSearch.words;
}

/** True if the status matches, open or closed, and overdue or not. A search finds closed orders, too. */
export function matchesState(filter, order) {
  if (filter.status.length && !filter.status.includes(order.status)) return false;
  if (filter.overdue !== null && filter.overdue !== Boolean(order.overdue)) return false;
  return filter.active === null || filter.active === order.active || findsAll(filter);
}

/** True for a search of open and closed orders. By default the board shows open ones. */
const findsAll = (filter) => Boolean(filter.q) && !filter.status.length && filter.active === true;

/** True if closed orders may match. They are never overdue. */
export const includesClosed = (filter) => filter.overdue !== true && (filter.active !== true || Boolean(filter.q));

/** Compares orders as `sort` lists them; equal times by order id, as the API does. */
export function comparison(sort) {
  const field = sort.replace("-", "");
  const sign = sort.startsWith("-") ? -1 : 1;
  return (a, b) => {
    if (a[field] !== b[field]) return a[field] < b[field] ? -sign : sign;
    return a.order_id < b.order_id ? -sign : a.order_id > b.order_id ? sign : 0;
  };
}
