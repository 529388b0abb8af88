/**
 * The format of times, ages and numbers: English, as the page, whatever languages the browser
 * asks for; 24 hours, in the time zone of the browser.
 *
 * @module format
 */

const language = "en-GB";
const hour24 = { hour: "2-digit", hourCycle: "h23" };
const clock = new Intl.DateTimeFormat(language, { ...hour24, minute: "2-digit", second: "2-digit" });
const shortClock = new Intl.DateTimeFormat(language, { ...hour24, minute: "2-digit" });
const dayAndClock = new Intl.DateTimeFormat(language, {
  ...{ month: "short", day: "numeric" },
  ...{ ...hour24, minute: "2-digit" },
});
const whole = new Intl.DateTimeFormat(language, {
  ...{ year: "numeric", month: "short", day: "numeric" },
  ...{ ...hour24, minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, timeZoneName: "short" },
});
const weekday = new Intl.DateTimeFormat(language, { weekday: "short", day: "numeric" });
const numbers = new Intl.NumberFormat(language);
const compacts = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });
const decimals = new Intl.NumberFormat(language, { maximumFractionDigits: 1, minimumFractionDigits: 1 });

const UNITS = [
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];
const unitFormats = new Map(
  [...UNITS.map(([unit]) => unit), "millisecond"].map((unit) => [
    unit,
    new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "narrow", maximumFractionDigits: 1 }),
  ]),
);

export const number = (value) => numbers.format(value);
export const compactNumber = (value) => compacts.format(value);
export const decimal = (value) => decimals.format(value);
export const timeOfDay = (time) => clock.format(new Date(time));
export const hourAndMinute = (time) => shortClock.format(new Date(time));
export const dayName = (time) => weekday.format(new Date(time));
export const fullTime = (time) => whole.format(new Date(time));

/** The time, with its day if that is not today. */
export function when(time) {
  const date = new Date(time);
  return date.toDateString() === new Date().toDateString() ? clock.format(date) : dayAndClock.format(date);
}

/** A time that somebody has named, to the minute, with its day if that is not today. */
export function toMinute(time) {
  const date = new Date(time);
  return date.toDateString() === new Date().toDateString() ? shortClock.format(date) : dayAndClock.format(date);
}

/** True if an order is expected after its due time, by more than the minutes that are shown. */
export const isExpectedLate = ({ due_at, eta }) => Boolean(due_at && eta) && eta.slice(0, 16) > due_at.slice(0, 16);

/** A duration in at most two units: `12s`, `3m 20s`, `2h 5m`, `4d 2h`; below a second in milliseconds. */
export function duration(seconds) {
  const size = Math.abs(seconds);
  const sign = seconds < 0 ? "−" : "";
  if (size < 1) return sign + unitFormats.get("millisecond").format(Math.round(size * 1000));
  if (size < 10) return sign + unitFormats.get("second").format(Math.round(size * 10) / 10);
  return sign + inUnits(Math.round(size), 2);
}

/** A running duration, in whole seconds. */
export function age(seconds) {
  return inUnits(Math.max(0, Math.floor(seconds)), seconds < 600 || seconds >= 3600 ? 2 : 1);
}

function inUnits(seconds, most) {
  const first = UNITS.findIndex(([, size]) => seconds >= size);
  if (first < 0) return unitFormats.get("second").format(0);
  const parts = [];
  let left = seconds;
  for (const [unit, size] of UNITS.slice(first, first + most)) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count || !parts.length) parts.push(unitFormats.get(unit).format(count));
  }
  return parts.join(" ");
}

const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });

/** `4 minutes ago`, in words. */
export function ago(seconds) {
  if (seconds < 5) return relative.format(0, "second");
  const [unit, size] = UNITS.find(([, limit]) => seconds >= limit) ?? UNITS.at(-1);
  return relative.format(-Math.floor(seconds / size), unit);
}

/** The name of a status: `Picked up` for `picked_up`. */
export function statusName(status) {
  const text = status.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The name of a kind of checkpoint. */
export const kindName = (kind) => (kind === "eta_changed" ? "ETA changed" : statusName(kind));

const KIND_ICONS = { note: "note", delivery_attempted: "attempt", delayed: "late", eta_changed: "late", proof_added: "check" };

/** The symbol of a kind of checkpoint; kinds of other workflows share one. */
export const kindIcon = (kind) => (Object.hasOwn(KIND_ICONS, kind) ? KIND_ICONS[kind] : "note");

/** The name of an order: its merchant's own number, or else its id. */
export const orderName = ({ reference, order_id }) => reference ?? order_id;

const DRAWN = new Set(["created", "picked_up", "in_transit", "delivered", "cancelled"]);

/** The symbol of a status; statuses of other workflows share one. */
export const statusIcon = (status) => (DRAWN.has(status) ? status : "other");

/** The statuses in the order of the default workflow; others follow, by name. */
export function byProgress(statuses) {
  const order = [...DRAWN];
  const rank = (status) => (DRAWN.has(status) ? order.indexOf(status) : order.length);
  return [...statuses].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}
