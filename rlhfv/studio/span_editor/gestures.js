// Gestures: what mouse, finger, keyboard and input method do in the text. The last part of the editor's script.

let anchor = null; // where the caret was put by a press that has not ended
let extending = false; // a finger came down in the text while the popover was open with nothing said in it yet

/** What the present selection would take, or null. */
function selectedRange() {
  const selection = view.selection();
  if (!selection) return null;
  let { start, end, collapsed } = selection;
  // A press on the very middle of a letter makes Chromium drag a bare caret; the person still means what lies between.
  if (collapsed && anchor !== null && anchor !== start) {
    [start, end] = [Math.min(anchor, start), Math.max(anchor, end)];
    collapsed = false;
  }
  return { ...swallow(source.snap(start, end, exact)), collapsed };
}

const isTouch = () => root.classList.contains("touch");
const isEditing = () => !answer.readonly && mode === "edit" && Boolean(answer.original);

// ---- pointer

root.addEventListener("pointerdown", (event) => {
  if (popover.node.contains(event.target) || event.target === float) return;
  root.classList.toggle("touch", event.pointerType === "touch");
  extending = canExtend(event);
  if (!saveButton.contains(event.target) && !extending) settle();
  if (event.button !== 0 || !host.contains(event.target) || !isEditing()) return;
  pressed = true;
  anchor = null;
  exact = event.altKey;
  float.hidden = true;
  // A press inside a selection would start dragging its text instead of a new selection.
  if (event.pointerType === "mouse" && !event.shiftKey) document.getSelection().removeAllRanges();
});

/** A second tap takes more words, as long as nothing was said about the first one. */
function canExtend(event) {
  if (!isTouch() || !popover.isOpen || popover.task.editing || popover.isReady || span.start === span.end) return false;
  return host.contains(event.target) && !event.target.closest(".chip");
}

function onSelectionChange() {
  if (!root.isConnected) return document.removeEventListener("selectionchange", onSelectionChange);
  if (popover.isOpen && extending) {
    // Held instead of tapped: handles are there.
    const held = view.selection();
    if (held && !held.collapsed && (held.start < span.start || held.end > span.end)) close();
  }
  if (popover.isOpen || composing || !isEditing()) return;
  if (pressed && !isTouch()) anchor ??= view.selection()?.start ?? null;
  const range = selectedRange();
  view.paint(PENDING, range && !range.collapsed ? [range] : []);
  if (!range) float.hidden = true;
  else if (isTouch() && !range.collapsed) offerButton(range);
}
document.addEventListener("selectionchange", onSelectionChange);

// What is being typed into the popover counts before the page goes away.
function onLeave() {
  if (!root.isConnected) return document.removeEventListener("studio:leave", onLeave);
  settle();
}
document.addEventListener("studio:leave", onLeave);

// The click comes after the selection has settled, and also when a drag ended outside the text.
function onClick(event) {
  if (!root.isConnected) return document.removeEventListener("click", onClick);
  if (!pressed) return;
  pressed = false;
  const chip = event.target.closest?.(".chip");
  if (chip && host.contains(chip)) return openEdit(Number(chip.dataset.index));
  const range = selectedRange();
  anchor = null;
  const place = view.offsetAt(event.clientX, event.clientY);
  if (extending && popover.isOpen) return extendTo(place, event);
  if (range && !range.collapsed) return isTouch() ? offerButton(range) : openAt(range);
  const hint = place === null ? null : openHints().find((hint) => hint.start <= place && place <= hint.end);
  if (hint && view.covers(hint, event.clientX, event.clientY)) return openHint(hint);
  if (isTouch() && place !== null) tap(place, event);
}
document.addEventListener("click", onClick);
root.addEventListener("pointercancel", () => (pressed = false));

/** A tap on a word opens it, with the on-screen keyboard still closed; beside a word it offers to insert there. */
function tap(place, event) {
  const word = source.wordAt(place);
  if (word && view.covers(word, event.clientX, event.clientY)) return openAt(word, { quietly: true });
  offerButton({ start: place, end: place, collapsed: true });
}

/** The tapped word joins the selection with all between; one that is in it already is selected alone. */
function extendTo(place, event) {
  const word = place === null ? null : source.wordAt(place);
  if (!word || !view.covers(word, event.clientX, event.clientY)) return close();
  const isIn = span.start <= word.start && word.end <= span.end;
  const next = isIn ? word : { start: Math.min(span.start, word.start), end: Math.max(span.end, word.end) };
  openAt(next, { quietly: true, kind: popover.kindChosen ? popover.kind : null });
  say(`Selected ${quote(source.slice(span))}`);
}

/** The button that stands by a selection made with handles, or by the caret, where there is no key to press. */
function offerButton(range) {
  const box = range && rectangles(range).at(-1);
  float.hidden = !box;
  if (!box) return;
  float.textContent = range.start === range.end ? "Insert here" : "Correct";
  float.onclick = () => openAt(range, { quietly: range.start !== range.end });
  const frame = root.getBoundingClientRect();
  float.style.top = `${box.bottom - frame.top + 10}px`;
  float.style.left = `${Math.max(8, Math.min(box.right - frame.left - 40, frame.width - float.offsetWidth - 8))}px`;
}
// A press on the button must not clear the selection it is about.
float.addEventListener("pointerdown", (event) => event.preventDefault());
float.addEventListener("mousedown", (event) => event.preventDefault());
host.addEventListener("dragstart", (event) => event.preventDefault());

// ---- keyboard

root.addEventListener("keydown", (event) => {
  const elsewhere = popover.node.contains(event.target) && event.key !== "F8";
  if (event.isComposing || elsewhere || answer.readonly || !answer.original) return;
  if (host.contains(event.target)) {
    root.classList.remove("touch");
    exact = true;
  }
  const command = event.ctrlKey || event.metaKey;
  const letter = event.key.toLowerCase();
  if (command && event.key === "Enter") run(event, save);
  else if (command && letter === "z") run(event, event.shiftKey ? redo : undo);
  else if (command && letter === "y") run(event, redo);
  else if (event.key === "F8") run(event, () => stepHint(event.shiftKey ? -1 : 1));
  else if (event.target.classList?.contains("chip")) onChipKey(event, Number(event.target.dataset.index));
});

function run(event, action) {
  event.preventDefault();
  action();
  if (action === undo || action === redo) host.focus({ preventScroll: true });
}

function onChipKey(event, index) {
  const edit = edits[index];
  const digit = event.altKey && /^Digit([1-9])$/.exec(event.code);
  if (digit && KINDS[digit[1] - 1]) {
    const kind = KINDS[digit[1] - 1].name;
    run(event, () => commit(edits.map((other) => (other === edit ? { ...edit, kind } : other)), `Kind: ${kind}`));
    view.chips[index].node.focus();
  } else if (event.key === "Enter" || event.key === " ") run(event, () => openEdit(index));
  else if (event.key === "Delete" || event.key === "Backspace") run(event, () => remove(index));
  else if (event.key === "ArrowRight") run(event, () => view.select({ start: edit.end, end: edit.end }));
  else if (event.key === "ArrowLeft") run(event, () => view.selectBefore(index));
}

host.addEventListener("beforeinput", (event) => {
  if (event.inputType === "insertCompositionText") return; // cannot be cancelled; see compositionend
  event.preventDefault();
  if (!isEditing()) return;
  if (event.inputType === "historyUndo") return undo();
  if (event.inputType === "historyRedo") return redo();
  const range = event.inputType === "insertFromDrop" ? droppedAt(event) : selectedRange();
  if (!range) return;
  if (event.inputType.startsWith("delete")) return deleteAt(range, event.inputType.endsWith("Forward"));
  if (event.inputType.startsWith("format")) return;
  const text = event.data ?? event.dataTransfer?.getData("text/plain") ?? "";
  openAt(range, { typed: text || null });
});

function droppedAt(event) {
  const [target] = event.getTargetRanges();
  const place = target && view.offsets(target.startContainer, target.startOffset)?.[0];
  return place === undefined ? null : source.snap(place, place, true);
}

/** Deletes a selection at once; at a bare caret the first press only shows what the second one takes. */
function deleteAt(range, forward) {
  if (!range.collapsed) return eraseRange(range, inferKind(source.slice(range), ""));
  const caret = range.start;
  const inside = source.wordAt(caret);
  const around = inside && inside.start < caret && caret < inside.end ? inside : null;
  const word = around ?? (forward ? source.wordAfter(caret) : source.wordBefore(caret)) ?? nextGrapheme(caret, forward);
  if (!word) return;
  const between = forward ? { start: caret, end: word.end } : { start: word.start, end: caret };
  const touches = (chip) => chip.start <= between.end && chip.end >= between.start;
  const chips = view.chips.filter((chip) => touches(chip) && isBeside(chip, caret, forward));
  const chip = forward ? chips[0] : chips.at(-1);
  if (chip) {
    chip.node.focus();
    return say("A correction: press Delete again to remove it");
  }
  view.select(word);
  say(`Selected ${quote(source.slice(word))}: press Delete again to delete it`);
}

function isBeside(chip, caret, forward) {
  if (forward ? chip.start < caret : chip.end > caret) return false;
  const gap = forward ? source.text.slice(caret, chip.start) : source.text.slice(chip.end, caret);
  return NO_WORD.test(gap);
}

function nextGrapheme(caret, forward) {
  const place = forward ? caret : caret - 1;
  return place >= 0 && place < source.length ? source.snap(place, place + 1, true) : null;
}

for (const name of ["copy", "cut"]) {
  host.addEventListener(name, (event) => {
    const range = selectedRange();
    if (!isEditing() || !range || range.collapsed) return;
    event.preventDefault();
    event.clipboardData.setData("text/plain", currentText(range));
    if (name === "cut") eraseRange(range, inferKind(source.slice(range), ""));
  });
}

// An input method writes into the page whatever we say: note where, then draw the text anew and take only what it wrote.
host.addEventListener("compositionstart", () => {
  composing = selectedRange();
});
host.addEventListener("compositionend", (event) => {
  const range = composing;
  composing = null;
  draw();
  if (!range) return;
  if (event.data) openAt(range, { typed: event.data });
  else view.select(range);
});

// ---- life

host.addEventListener("scroll", () => (popover.isOpen ? placePopover(false) : (float.hidden = true)));
new ResizeObserver(() => popover.isOpen && placePopover(false)).observe(root);
// A soft keyboard comes and goes under the popover.
function onKeyboard(event) {
  if (!root.isConnected) return window.visualViewport?.removeEventListener(event.type, onKeyboard);
  if (popover.isOpen) placePopover(event.type === "resize");
}
for (const change of ["resize", "scroll"]) window.visualViewport?.addEventListener(change, onKeyboard);
watch("value", () => {
  if (JSON.stringify(props.value) === known) return;
  if (props.value?.only_hints && answer.original) takeHints(props.value);
  else load(props.value);
});
load(props.value);
