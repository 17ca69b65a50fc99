// The answer as text: offsets, word and grapheme boundaries, marks for invisible characters, the kind of a change.
// Pure functions. Offsets count UTF-16 units, as the DOM does; only `points` and `units` know code points.

const GRAPHEMES = new Intl.Segmenter(undefined, { granularity: "grapheme" });
const WORDS = new Intl.Segmenter(undefined, { granularity: "word" });
const NO_WORD = /^[\s\p{P}\p{C}]*$/u;
const SPACED = /(?![\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}])[\p{L}\p{N}]/u;
const BLANK = /[^\S\r\n]/;
const INVISIBLE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]+/g;
const MAX_MARKS = 200;
const STAND_IN = "·";
const MARK_NAMES = {
  "\u061c": "ALM", "\u200b": "ZWSP", "\u200e": "LRM", "\u200f": "RLM", "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF",
  "\u202d": "LRO", "\u202e": "RLO", "\u2060": "WJ", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI",
  "\ufeff": "BOM", "\u00ad": "SHY", "\r": "CR",
};

class SourceText {
  constructor(text) {
    this.text = text;
    this.length = text.length;
    this.graphemes = GRAPHEMES.segment(text);
    this.words = WORDS.segment(text);
    this.pointAt = null;
    this.unitAt = null;
    if (/[\ud800-\udbff]/.test(text)) this.#countPoints();
  }

  #countPoints() {
    this.pointAt = new Uint32Array(this.length + 1);
    this.unitAt = [];
    for (let unit = 0; unit < this.length; ) {
      const size = this.text.codePointAt(unit) > 0xffff ? 2 : 1;
      this.pointAt.fill(this.unitAt.length, unit, unit + size);
      this.unitAt.push(unit);
      unit += size;
    }
    this.pointAt[this.length] = this.unitAt.length;
    this.unitAt.push(this.length);
  }

  points(unit) {
    return this.pointAt ? this.pointAt[unit] : unit;
  }

  units(point) {
    const last = this.unitAt ? this.unitAt.length - 1 : this.length;
    const inside = Math.min(Math.max(point, 0), last);
    return this.unitAt ? this.unitAt[inside] : inside;
  }

  slice(range) {
    return this.text.slice(range.start, range.end);
  }

  /** The range that a selection takes: whole graphemes without outer blanks, and whole words unless `exact`. */
  snap(start, end, exact) {
    if (start > end) [start, end] = [end, start];
    const low = this.graphemes.containing(start)?.index ?? this.length;
    if (start === end) return { start: low, end: low };
    const last = this.graphemes.containing(end - 1);
    const whole = { start: low, end: last.index + last.segment.length };
    const inner = { ...whole };
    while (inner.start < inner.end && /\s/.test(this.text[inner.start])) inner.start++;
    while (inner.end > inner.start && /\s/.test(this.text[inner.end - 1])) inner.end--;
    if (inner.start === inner.end) return whole;
    return exact ? inner : this.#snapToWords(inner);
  }

  #snapToWords({ start, end }) {
    const first = this.words.containing(start);
    const last = this.words.containing(end - 1);
    if (!NO_WORD.test(first.segment)) start = first.index;
    if (!NO_WORD.test(last.segment)) end = last.index + last.segment.length;
    return { start, end };
  }

  /** The word that holds or ends at `unit`, or null. */
  wordAt(unit) {
    for (const place of [unit, unit - 1]) {
      const segment = this.words.containing(place);
      if (segment && !NO_WORD.test(segment.segment)) {
        return { start: segment.index, end: segment.index + segment.segment.length };
      }
    }
    return null;
  }

  /** The first word that starts at or after `unit`, or null. */
  wordAfter(unit) {
    for (let segment; (segment = this.words.containing(unit)); unit = segment.index + segment.segment.length) {
      if (segment.index >= unit && !NO_WORD.test(segment.segment)) return this.wordAt(segment.index);
    }
    return null;
  }

  /** The last word that ends at or before `unit`, or null. */
  wordBefore(unit) {
    while (unit > 0) {
      const segment = this.words.containing(unit - 1);
      if (segment.index + segment.segment.length <= unit && !NO_WORD.test(segment.segment)) return this.wordAt(segment.index);
      unit = segment.index;
    }
    return null;
  }

  /**
   * What deleting `range` takes: words go with one neighbouring blank, so that no double blank stays.
   * `isFree(unit, seam)` says whether no other correction holds the blank at `unit` or stands between it and the range.
   */
  withBlank({ start, end }, isFree) {
    const before = this.text[start - 1];
    const after = this.text[end];
    const opens = before === undefined || /[\n\p{Ps}\p{Pi}]/u.test(before);
    const closes = after === undefined || BLANK.test(after) || /[\n.,;:!?\p{Pe}\p{Pf}]/u.test(after);
    if (before !== undefined && BLANK.test(before) && closes && isFree(start - 1, start)) return { start: start - 1, end };
    if (opens && after !== undefined && BLANK.test(after) && isFree(end, end)) return { start, end: end + 1 };
    return { start, end };
  }

  /**
   * The replacement without the outer blanks that would double those around `range`. A word inserted right before
   * another one, where scripts put blanks between words, gets its blank.
   */
  tidy(replacement, { start, end }) {
    const old = this.text.slice(start, end);
    const opens = start === 0 || /\s/.test(this.text[start - 1]);
    const closes = end === this.length || /\s/.test(this.text[end]);
    let text = replacement.replace(/\r\n?/g, "\n").toWellFormed();
    if (opens && !BLANK.test(old[0] ?? "")) text = text.replace(/^[^\S\n]+/, "");
    if (closes && !BLANK.test(old.at(-1) ?? "")) text = text.replace(/[^\S\n]+$/, "");
    const joins = !old && opens && SPACED.test(text.at(-1) ?? "") && SPACED.test(this.text[end] ?? "");
    return joins ? `${text} ` : text;
  }
}

/**
 * The pieces of `text`: `{text, mark}`, where `mark` names a run of invisible characters and is empty for the rest.
 * Thousands of them bring a browser's layout to its knees: after MAX_MARKS runs a stand-in of equal length is shown.
 */
function splitMarks(text) {
  const pieces = [];
  let position = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    if (pieces.length > 2 * MAX_MARKS) {
      const rest = text.slice(position).replace(INVISIBLE, (run) => STAND_IN.repeat(run.length));
      return [...pieces, { text: rest, mark: "" }];
    }
    if (match.index > position) pieces.push({ text: text.slice(position, match.index), mark: "" });
    pieces.push({ text: match[0], mark: nameMarks(match[0]) });
    position = match.index + match[0].length;
  }
  if (position < text.length) pieces.push({ text: text.slice(position), mark: "" });
  return pieces;
}

function nameMarks(run) {
  if (run.length > 3) return `${run.length} marks`;
  const number = (character) => "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return [...run].map((character) => MARK_NAMES[character] ?? number(character)).join(" ");
}

/** The likely kind of replacing `before` by `after`: the rules of `infer_kind` in rlhfv/corrections/edits.py. */
function inferKind(before, after) {
  const [old, fresh] = [before, after].map(
    (text) => new Set(text.toLowerCase().match(/[\p{L}\p{M}\p{Nd}]+(?:['’]\p{L}+)*/gu) ?? []),
  );
  const changed = [...old].filter((word) => !fresh.has(word)).concat([...fresh].filter((word) => !old.has(word)));
  const words = changed.length ? changed : [...old];
  const has = (kind) => words.some((word) => KIND_WORDS[kind].includes(word));
  if (!words.length) return "other";
  if (!(old.size && fresh.size) && has("clause") && words.length >= 4) return "object";
  if (has("number") || words.some((word) => /\p{Nd}/u.test(word))) return "number";
  if (has("attribute")) return "attribute";
  if (has("position")) return "position";
  if (words.some((word) => word.endsWith("ing") && word.length >= 5 && !KIND_WORDS.not_action.includes(word))) return "action";
  return "object";
}

/** “text” for a sentence: invisible characters named, the middle of a long one left out. */
function quote(text) {
  const visible = [...text.slice(0, 200).replace(INVISIBLE, (run) => `[${nameMarks(run)}]`).replace(/\n/g, "⏎")];
  return visible.length > 60 || text.length > 200 ? `“${visible.slice(0, 55).join("")}…”` : `“${visible.join("")}”`;
}

/** The sentence that names a correction. */
function describe(source, edit) {
  const old = source.slice(edit);
  if (!old) return `Inserted ${quote(edit.replacement)}, ${edit.kind}`;
  if (!edit.replacement) return `Deleted ${quote(old)}, ${edit.kind}`;
  return `Replaced ${quote(old)} with ${quote(edit.replacement)}, ${edit.kind}`;
}
