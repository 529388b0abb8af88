/**
 * The words by which an order is found, and those of a search: without case and accents, as in the API. Pure.
 *
 * @module search_words
 */

const MAX_WORDS = 32;
const MAX_WORD_CHARACTERS = 64;
const MAX_SEARCHED_WORDS = 8;
const MAX_REFERENCE_WORDS = 8;

const known = new WeakMap(); // order → its words: they are compared at every keystroke

/** True if each word of the search is the beginning of a word of the order. */
export function isFound(order, words) {
  const own = wordsOf(order);
  return words.every((word) => own.some((each) => each.startsWith(word)));
}

/** The word beginnings of a search, the longest first. */
export function searchedWords(text) {
  const words = [...new Set(split(fold(text)).map(cut))];
  return words.sort((a, b) => [...b].length - [...a].length).slice(0, MAX_SEARCHED_WORDS);
}

/** The words by which an order is found. */
export function wordsOf(order) {
  let words = known.get(order);
  if (!words) {
    words = [...new Set(allWords(order).map(cut))].slice(0, MAX_WORDS);
    known.set(order, words);
  }
  return words;
}

function allWords({ order_id, merchant_id, reference, customer, source }) {
  const words = [fold(order_id), fold(merchant_id)];
  if (customer === undefined) return words; // for tokens that are not shown the customer, there are no names to search
  words.push(...referenceWords(reference));
  for (const text of [...(customer ? [customer.contact_ref] : []), source.id]) {
    const own = split(fold(text));
    words.push(...own.slice(0, 3));
    if (own.length > 1) words.push(own.join(""));
  }
  const name = customer ? split(fold(customer.name)) : []; // null: erased
  return [...words, ...name, ...name.flatMap(parts)];
}

/** The reference itself, and each of its parts. */
function referenceWords(reference) {
  const words = split(fold(reference ?? ""));
  if (words.length > 1) words.push(words.join(""));
  return [...new Set([...words, ...words.flatMap(parts)])].slice(0, MAX_REFERENCE_WORDS);
}

const parts = (word) => word.split(/[^\p{L}\p{N}@+]+/u).filter(Boolean);

const BASE_LETTERS = { ß: "ss", æ: "ae", œ: "oe", ø: "o", ł: "l", đ: "d", ð: "d", þ: "th", ı: "i" };
const fold = (text) =>
  text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[ßæœøłđðþı]/gu, (letter) => BASE_LETTERS[letter]);
const split = (text) => text.split(/\s+/u).filter(Boolean);
const cut = (word) => (word.length <= MAX_WORD_CHARACTERS ? word : [...word].slice(0, MAX_WORD_CHARACTERS).join(""));
