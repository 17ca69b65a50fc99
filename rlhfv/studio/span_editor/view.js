// The answer on the page: building nodes, drawing the three views, and the way between page positions and offsets.
// Text reaches the page only as text nodes and attributes, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  undo: "M9 14 4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
  redo: "m15 14 5-5-5-5M20 9H10a6 6 0 0 0 0 12h3",
  clear: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v6M14 11v6",
  hint: "M3 9c2-4 4-4 6 0s4 4 6 0 4-4 6 0M12 14v6M9 17l3 3 3-3",
  remove: "M6 6l12 12M18 6 6 18",
  suspects: "M2 11s4-6 10-6 10 6 10 6-4 6-10 6S2 11 2 11M12 8.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5",
  unsuspecting: "M2 11s4-6 10-6 10 6 10 6-4 6-10 6S2 11 2 11M4 21 20 3",
};

/** An element with attributes (functions become listeners, false and null are left out) and children. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

function makeIcon(name) {
  const icon = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  icon.setAttribute("viewBox", "0 0 24 24");
  icon.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  icon.append(path);
  return icon;
}

function setIcon(button, name) {
  button.querySelector("path").setAttribute("d", ICONS[name]);
}

/** Appends `text` with its invisible characters behind visible marks; returns the text nodes in order. */
function appendText(parent, text) {
  return splitMarks(text).map((piece) => {
    const node = document.createTextNode(piece.text);
    const mark = { class: "mark", "data-mark": piece.mark, title: `Invisible: ${piece.mark}` };
    parent.append(piece.mark ? make("span", mark, node) : node);
    return node;
  });
}

/** A radio group of buttons with one tab stop; arrow keys move and choose. `choices`: {name, label, title, kind}. */
function makeRadioGroup(label, className, choices, onChoose) {
  const buttons = choices.map((choice) =>
    make(
      "button",
      {
        type: "button", role: "radio", class: "choice", title: choice.title ?? null, "data-kind": choice.kind ?? null,
        "aria-keyshortcuts": choice.shortcut ?? null, click: () => onChoose(choice.name),
      },
      choice.label,
    ),
  );
  const group = make("div", { role: "radiogroup", "aria-label": label, class: className }, ...buttons);
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const current = buttons.indexOf(event.target);
    if (!step || current < 0) return;
    event.preventDefault();
    const next = (current + step + buttons.length) % buttons.length;
    onChoose(choices[next].name);
    buttons[next].focus();
  });
  const show = (name) =>
    choices.forEach((choice, index) => {
      buttons[index].setAttribute("aria-checked", String(choice.name === name));
      buttons[index].tabIndex = choice.name === name ? 0 : -1;
    });
  return { group, show };
}

/** The text area: draws an answer with its corrections and translates between page positions and offsets. */
class AnswerView {
  constructor(host) {
    this.host = host;
    this.leaves = []; // {node, start, end} of the text nodes that show the original
    this.chips = []; // {node, start, end} of the corrections
  }

  /** `mode` is edit, original or corrected. In edit mode `chipAttributes(edit, index)` makes corrections operable. */
  draw(source, edits, mode, chipAttributes) {
    this.leaves = [];
    this.chips = [];
    const page = document.createDocumentFragment();
    let position = 0;
    for (const [index, edit] of edits.entries()) {
      this.#drawPlain(page, source, position, edit.start);
      if (mode === "edit") {
        const chip = page.appendChild(this.#makeChip(source, edit, chipAttributes(edit, index)));
        this.chips.push({ node: chip, start: edit.start, end: edit.end });
      } else page.append(...this.#makeSide(source, edit, mode));
      position = edit.end;
    }
    this.#drawPlain(page, source, position, source.length);
    // A last line end shows its empty line only when something follows it.
    if (source.text.endsWith("\n")) page.append(make("br"));
    this.host.replaceChildren(page);
  }

  #drawPlain(page, source, start, end) {
    for (const node of appendText(page, source.text.slice(start, end))) {
      this.leaves.push({ node, start, end: start + node.length });
      start += node.length;
    }
  }

  #makeChip(source, edit, attributes) {
    const chip = make("span", { class: "chip", "data-kind": edit.kind, contenteditable: "false", ...attributes });
    if (edit.end > edit.start) appendText(chip.appendChild(make("del", { dir: "auto" })), source.slice(edit));
    if (edit.replacement) appendText(chip.appendChild(make("ins", { dir: "auto" })), edit.replacement);
    return chip;
  }

  #makeSide(source, edit, mode) {
    const text = mode === "original" ? source.slice(edit) : edit.replacement;
    if (!text) return [];
    const tag = mode === "original" ? "del" : "ins";
    const side = make(tag, { class: "side", "data-kind": edit.kind, title: describe(source, edit) });
    appendText(side, text);
    return [side];
  }

  /** The offsets that a page position stands for: `[low, high]`, which differ only inside a correction; null outside. */
  offsets(node, offset) {
    if (!this.host.contains(node)) return null;
    if (node === this.host) {
      const next = node.childNodes[offset];
      if (!next) return this.#endOffsets();
      return next.nodeName === "BR" ? this.#endOffsets() : this.#startOf(next);
    }
    const chip = this.chips.find((chip) => chip.node.contains(node));
    if (chip) return [chip.start, chip.end];
    const leaf = this.leaves.find((leaf) => leaf.node === node);
    if (leaf) return [leaf.start + offset, leaf.start + offset];
    return this.#startOf(node.childNodes[offset] ?? node.nextSibling);
  }

  #endOffsets() {
    const end = Math.max(this.leaves.at(-1)?.end ?? 0, this.chips.at(-1)?.end ?? 0);
    return [end, end];
  }

  #startOf(node) {
    if (!node) return this.#endOffsets();
    const part = [...this.leaves, ...this.chips].find((part) => node.contains(part.node) || part.node.contains(node));
    return part ? [part.start, part.start] : this.#endOffsets();
  }

  /** The native selection as `{start, end, backward}` offsets, or null when it is not in the text. */
  selection() {
    const selection = document.getSelection();
    if (!selection.rangeCount || !selection.anchorNode) return null;
    const anchor = this.offsets(selection.anchorNode, selection.anchorOffset);
    const focus = this.offsets(selection.focusNode, selection.focusOffset);
    if (!anchor || !focus) return null;
    return { start: Math.min(anchor[0], focus[0]), end: Math.max(anchor[1], focus[1]), collapsed: selection.isCollapsed };
  }

  /** The native range of `{start, end}`; corrections inside are covered whole. */
  range({ start, end }) {
    const range = document.createRange();
    const caret = start === end;
    const holds = (leaf) => start >= leaf.start && (caret ? start <= leaf.end : start < leaf.end);
    const first = this.leaves.findLast(holds);
    if (first) range.setStart(first.node, start - first.start);
    else {
      const chip = this.chips.find((chip) => chip.start >= start);
      if (chip) range.setStartBefore(chip.node);
      else range.setStart(this.host, this.host.childNodes.length);
    }
    if (caret) {
      range.collapse(true);
      return range;
    }
    const last = this.leaves.findLast((leaf) => end > leaf.start && end <= leaf.end);
    if (last) range.setEnd(last.node, end - last.start);
    else {
      const chip = this.chips.findLast((chip) => chip.end <= end);
      if (chip) range.setEndAfter(chip.node);
    }
    return range;
  }

  select(span) {
    this.host.focus({ preventScroll: true });
    const range = this.range(span);
    document.getSelection().setBaseAndExtent(range.startContainer, range.startOffset, range.endContainer, range.endOffset);
  }

  /** Puts the caret before a correction, also where an insertion has no width of its own in the original. */
  selectBefore(index) {
    this.host.focus({ preventScroll: true });
    const range = document.createRange();
    range.setStartBefore(this.chips[index].node);
    document.getSelection().setBaseAndExtent(range.startContainer, range.startOffset, range.startContainer, range.startOffset);
  }

  /** The offset under a point of the viewport, or null. */
  offsetAt(x, y) {
    const place = document.caretPositionFromPoint?.(x, y);
    const range = place ? null : document.caretRangeFromPoint?.(x, y);
    const node = place?.offsetNode ?? range?.startContainer;
    return node ? (this.offsets(node, place?.offset ?? range.startOffset)?.[0] ?? null) : null;
  }

  /** Whether a point lies on the range, give or take the width of a fingertip's error. */
  covers(span, x, y) {
    return [...this.range(span).getClientRects()].some(
      (box) => x >= box.left - 6 && x <= box.right + 6 && y >= box.top - 8 && y <= box.bottom + 8,
    );
  }

  /** Marks ranges without touching the text. A browser without the Highlight API shows the native selection only. */
  paint(name, spans) {
    if (!globalThis.CSS?.highlights) return;
    if (spans.length) CSS.highlights.set(name, new Highlight(...spans.map((span) => this.range(span))));
    else CSS.highlights.delete(name);
  }
}
