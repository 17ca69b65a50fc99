// The editor: its state (corrections, undo stack, view), what each gesture does to it, and what the server hears of it.
// `element`, `trigger`, `props` and `watch` come from Gradio, KINDS and KIND_WORDS from Python.

const MAX_UNDO = 100;
const PENDING = "span-editor-pending";
const HINTED = "span-editor-hint";
const VIEW_NAMES = { edit: "Edit", original: "Original", corrected: "Corrected" };

const root = element.querySelector(".span-editor");
let answer = {}; // the value as it was loaded
let source = new SourceText("");
let edits = []; // {start, end, replacement, kind} in UTF-16 units, in order, never changed in place
let past = [];
let future = [];
let hints = [];
let mode = "edit";
let span = null; // what the open popover is about
let exact = true; // whether a selection is taken as it is; a pointer's is widened to words
let pressed = false; // a press began in the text and its click has not come yet
let composing = null; // the selection at the start of an input method's composition
let hintStart = -1;
let focusNext = false; // the next answer takes the focus, because this one was saved from inside the editor
let known = ""; // the value that the server has last been told, as JSON

// ---- the page

// inputmode none: a tap puts the caret without opening the on-screen keyboard.
const host = make("div", {
  class: "text", dir: "auto", role: "textbox", "aria-multiline": "true", spellcheck: "false", inputmode: "none", tabindex: "0",
});
const view = new AnswerView(host);
const views = makeRadioGroup("View", "views", Object.entries(VIEW_NAMES).map(([name, label]) => ({ name, label })), showView);
const tool = (icon, label, keys, act) => {
  const title = keys ? `${label} (${keys})` : label;
  const names = { "aria-label": label, "aria-keyshortcuts": keys, title };
  return make("button", { type: "button", class: `tool ${icon}`, click: act, ...names }, makeIcon(icon));
};
const tools = {
  suspects: tool("suspects", "Show suspect words", null, switchSuspects),
  hint: tool("hint", "Next suspect", "F8", () => stepHint(1)),
  undo: tool("undo", "Undo", "Control+Z", undo),
  redo: tool("redo", "Redo", "Control+Y", redo),
  clear: tool("clear", "Remove all corrections", null, clear),
};
tools.suspects.setAttribute("role", "switch");
const hintCount = tools.hint.appendChild(make("b"));
const list = make("ul", { class: "list", "aria-label": "Corrections" });
const status = make("div", { class: "status", role: "status", "aria-live": "polite" });
const count = make("span", { class: "count" });
const saveButton = make(
  "button",
  { type: "button", class: "primary", title: "Save (Control+Enter)", "aria-keyshortcuts": "Control+Enter", click: save },
  "Save pair",
);
const key = (name) => make("kbd", {}, name);
const help = make(
  "div",
  { class: "help" },
  make(
    "span",
    { class: "keys" },
    key("Select"), " words, then type · ", key("Del"), " deletes · ", key("Enter"), " at the caret inserts · ",
    key("Alt"), "+drag takes single letters · ", key("Ctrl"), "+", key("Enter"), " saves the pair",
  ),
  make("span", { class: "touch-only" }, "Tap a wrong word, then another one to take all between. Then type what it should say."),
);
const float = make("button", { type: "button", class: "primary float", hidden: true });
const popover = new Popover({ apply, erase, cancel, restore, adjust, insertAfter, save });
const empty = make("p", { class: "empty" });
const toolbar = make(
  "div",
  { class: "bar", role: "toolbar", "aria-label": "Answer" },
  views.group, make("span", { class: "gap" }), ...Object.values(tools),
);
const foot = make("div", { class: "foot" }, help, make("div", { class: "close" }, status, count, saveButton));
root.replaceChildren(empty, toolbar, host, list, foot, float, popover.node);

function draw() {
  const nothing = !answer.original;
  const editable = !answer.readonly && mode === "edit";
  empty.hidden = !nothing;
  for (const part of [toolbar, host]) part.hidden = nothing;
  empty.textContent = answer.readonly
    ? "No pair chosen. Pick one from the list to see its answer and corrections."
    : "No answer to correct. Ask a question in the Chat tab and choose “Correct this” under an answer.";
  root.classList.toggle("readonly", Boolean(answer.readonly));
  host.contentEditable = String(editable && !nothing);
  host.setAttribute("aria-label", answer.readonly ? "Answer with its corrections" : "Answer, select what is wrong");
  host.setAttribute("aria-readonly", String(!editable));
  view.draw(source, edits, mode, describeChip);
  views.group.firstChild.textContent = answer.readonly ? "Changes" : VIEW_NAMES.edit;
  views.show(mode);
  tools.undo.disabled = !past.length;
  tools.redo.disabled = !future.length;
  tools.clear.disabled = !edits.length;
  for (const button of [tools.undo, tools.redo, tools.clear]) button.hidden = Boolean(answer.readonly);
  drawHints();
  drawList();
  foot.hidden = nothing || Boolean(answer.readonly);
  count.textContent = edits.length === 1 ? "1 correction" : `${edits.length} corrections`;
  saveButton.setAttribute("aria-disabled", String(!edits.length));
}

function describeChip(edit, index) {
  const title = `${edit.kind}: ${KINDS.find((kind) => kind.name === edit.kind)?.meaning ?? ""}`;
  if (answer.readonly) return { title };
  const label = `${describe(source, edit)}. Enter changes it, Delete removes it.`;
  return { title, tabindex: "0", role: "button", "data-index": String(index), "aria-label": label };
}

function drawList() {
  const row = (edit, index) => {
    const item = make("li", { "data-kind": edit.kind }, make("span", { class: "kind" }, edit.kind));
    const change = item.appendChild(make("span", { class: "change" }));
    if (edit.end > edit.start) appendText(change.appendChild(make("del", { dir: "auto" })), source.slice(edit));
    change.append(edit.end === edit.start ? "inserted " : edit.replacement ? " → " : " deleted");
    if (edit.replacement) appendText(change.appendChild(make("ins", { dir: "auto" })), edit.replacement);
    if (!answer.readonly) {
      const button = (verb, content, act) =>
        make("button", { type: "button", class: "quiet", "aria-label": `${verb}: ${describe(source, edit)}`, click: act }, content);
      item.append(
        button("Edit", "Edit", () => openEdit(index)),
        button("Remove", makeIcon("remove"), () => remove(index)),
      );
    }
    return item;
  };
  list.replaceChildren(...edits.map(row));
  list.hidden = !edits.length;
}

function say(sentence) {
  status.textContent = sentence;
}

function showView(name) {
  settle();
  mode = name;
  draw();
  say(name === "edit" ? "" : `${VIEW_NAMES[name]} text, shown only`);
}

// ---- corrections and their history

const inOrder = (list) => [...list].sort((a, b) => a.start - b.start || a.end - b.end);

/** `range` widened until it cuts no correction. */
function swallow(range) {
  let { start, end } = range;
  for (const edit of edits) if (edit.start < end && edit.end > start) start = Math.min(start, edit.start);
  for (const edit of edits) if (edit.start < end && edit.end > start) end = Math.max(end, edit.end);
  return { start, end };
}

function isTouched(edit, range) {
  if (range.start === range.end) return edit.start === range.start && edit.end === range.end;
  return edit.start < range.end && edit.end > range.start;
}

/** What the range says after correction. */
function currentText(range) {
  let text = "";
  let position = range.start;
  for (const edit of edits.filter((edit) => isTouched(edit, range))) {
    text += source.text.slice(position, edit.start) + edit.replacement;
    position = edit.end;
  }
  return text + source.text.slice(position, range.end);
}

function commit(next, sentence, event = "input") {
  past = [...past, edits].slice(-MAX_UNDO);
  future = [];
  show(next, sentence, event);
}

function show(next, sentence, event) {
  edits = inOrder(next);
  draw();
  keepHistory();
  publish(event);
  say(sentence);
}

function undo() {
  if (!past.length) return say("Nothing to undo");
  settle(false);
  future = [...future, edits];
  const back = past.at(-1);
  past = past.slice(0, -1);
  show(back, "Undone", "input");
}

function redo() {
  if (!future.length) return say("Nothing to redo");
  settle(false);
  past = [...past, edits];
  const forth = future.at(-1);
  future = future.slice(0, -1);
  show(forth, "Redone", "input");
}

function clear() {
  settle(false);
  if (edits.length) commit([], "All corrections removed. Undo brings them back.");
}

function remove(index) {
  settle(false);
  const edit = edits[index];
  commit(edits.filter((other) => other !== edit), `Removed the correction: ${describe(source, edit)}`);
  view.select({ start: edit.end, end: edit.end });
}

/** Removes the words of `range`, with a neighbouring blank. */
function eraseRange(range, kind, event) {
  const rest = edits.filter((edit) => !isTouched(edit, range));
  const holds = (edit, unit, seam) => (edit.start === edit.end ? edit.start === seam : edit.start <= unit && unit < edit.end);
  const isFree = (unit, seam) => !rest.some((edit) => holds(edit, unit, seam));
  const wide = source.withBlank(range, isFree);
  const edit = { ...wide, replacement: "", kind };
  const removed = range.start === range.end;
  if (removed && rest.length === edits.length) return;
  commit(removed ? rest : [...rest, edit], removed ? "Insertion removed" : describe(source, edit), event);
  view.select({ start: wide.end, end: wide.end });
}

const historyKey = () => `rlhfv.undo.${answer.answer_id}`;

// The server keeps the corrections; the way back to earlier ones belongs to this browser tab. Storage may be refused.
function keepHistory() {
  if (!answer.answer_id) return;
  try {
    const states = [...past, edits, ...future.toReversed()];
    sessionStorage.setItem(historyKey(), JSON.stringify({ length: source.length, states, shown: shownHints() }));
  } catch {}
}

function findHistory() {
  past = [];
  future = [];
  shownBefore = [];
  if (!answer.answer_id || answer.readonly) return;
  try {
    const kept = JSON.parse(sessionStorage.getItem(historyKey()));
    if (kept?.length !== source.length) return;
    shownBefore = kept.shown ?? [];
    const now = kept.states.findLastIndex((state) => JSON.stringify(state) === JSON.stringify(edits));
    if (now < 0) return;
    past = kept.states.slice(0, now);
    future = kept.states.slice(now + 1).reverse();
  } catch {}
}

const inUnits = ({ start, end, ...rest }) => ({ start: source.units(start), end: source.units(end), ...rest });

function load(value) {
  const previous = answer.answer_id;
  answer = { original: "", answer_id: "", corrections: [], hints: [], readonly: false, blind: false, ...value, only_hints: false };
  source = new SourceText(answer.original);
  edits = inOrder(answer.corrections.map(inUnits));
  mode = "edit";
  close();
  findHistory();
  setHints(answer.hints);
  draw();
  say("");
  if (hints.length) publish(null);
  askForHints();
  if (focusNext && answer.original && answer.answer_id !== previous) view.select({ start: 0, end: 0 });
  focusNext = false;
}

function publish(event) {
  const inPoints = ({ start, end, ...rest }) => ({ start: source.points(start), end: source.points(end), ...rest });
  const value = { ...answer, corrections: edits.map(inPoints), hints: hints.map(inPoints) };
  known = JSON.stringify(value);
  props.value = value;
  if (event) trigger(event);
}

function save() {
  settle(true, null);
  if (answer.readonly || !answer.original) return;
  if (!edits.length) return say("Correct at least one span first");
  focusNext = root.contains(document.activeElement);
  say(`Sent ${count.textContent}`);
  trigger("submit");
}

// ---- the popover

/** Opens the popover on `range`; `typed` is what a key or the clipboard has already said. */
function openAt(range, { typed = null, quietly = false, kind = null, note = "" } = {}) {
  span = swallow(range);
  const touched = edits.filter((edit) => isTouched(edit, span));
  const old = source.slice(span);
  const editing = touched.length === 1 && touched[0].start === span.start && touched[0].end === span.end;
  const text = touched.length ? currentText(span) : "";
  const guess = inferKind(old, text);
  const given = kind ?? (editing ? touched[0].kind : guess);
  const around = [source.text.slice(Math.max(0, span.start - 14), span.start), source.text.slice(span.end, span.end + 24)];
  const task = {
    old, editing, around, note, kind: given, keepKind: given !== guess,
    text: typed === null ? text : (old ? "" : text) + typed,
    tidy: (text) => source.tidy(text, range),
  };
  float.hidden = true;
  view.paint(PENDING, span.start === span.end ? [] : [span]);
  popover.open(task, { selectAll: typed === null && text !== "", quietly });
  placePopover(true);
}

function openEdit(index) {
  settle(false);
  if (mode !== "edit") showView("edit");
  openAt(edits[index], { quietly: root.classList.contains("touch") });
}

function rectangles(range) {
  const boxes = [...view.range(range).getClientRects()].filter((box) => box.height);
  const chip = view.chips.find((chip) => chip.start === range.start && chip.end === range.end);
  return boxes.length || !chip ? boxes : [...chip.node.getClientRects()];
}

function placePopover(scroll) {
  const boxes = rectangles(span);
  const frame = host.getBoundingClientRect();
  if (scroll && boxes.length && (boxes[0].top < frame.top || boxes[0].bottom > frame.bottom))
    host.scrollTop += boxes[0].top - frame.top - 40;
  popover.place(rectangles(span), root, root.classList.contains("touch") && (innerWidth <= 760 || innerHeight < 560));
  if (!scroll) return;
  const seeIt = () => scrollBy({ top: popover.offBy(rectangles(span)), behavior: "instant" });
  seeIt();
  // At the end of the page there may be nothing left to scroll by.
  const missing = popover.offBy(rectangles(span));
  if (missing <= 1) return;
  root.style.marginBottom = `${missing + 8}px`;
  seeIt();
}

function close() {
  span = null;
  root.style.marginBottom = "";
  popover.close();
  float.hidden = true;
  view.paint(PENDING, []);
}

/** Ends an open popover before something else happens: a changed text is taken, unless `keep` is false. */
function settle(keep = true, event = "input") {
  if (!popover.isOpen) return;
  if (keep && popover.isReady) apply(popover.input.value, popover.kind, event);
  else close();
}

function apply(typed, kind, event = "input") {
  const range = span;
  const text = source.tidy(typed, range);
  const old = source.slice(range);
  const touched = edits.filter((edit) => isTouched(edit, range));
  const rest = edits.filter((edit) => !touched.includes(edit));
  const edit = { ...range, replacement: text, kind };
  const same = touched.length === 1 && JSON.stringify(touched[0]) === JSON.stringify(edit);
  close();
  if (text === "" && old) return eraseRange(range, kind, event);
  if (text === old && touched.length) commit(rest, `Back to the original: ${quote(old)}`, event);
  else if (text === old) say(old ? `It says ${quote(old)} already` : "Nothing inserted");
  else if (!same) commit([...rest, edit], describe(source, edit), event);
  view.select({ start: range.end, end: range.end });
}

function erase(kind) {
  const range = span;
  close();
  eraseRange(range, kind);
}

function restore() {
  const index = edits.findIndex((edit) => isTouched(edit, span));
  remove(index);
}

function cancel() {
  const range = span;
  close();
  if (root.classList.contains("touch")) view.select({ start: range.end, end: range.end });
  else view.select(range);
}

/** Moves an edge of the selection by a word, from the popover. */
function adjust(edge, step) {
  const { start, end } = span;
  const word = edge === "start"
    ? (step < 0 ? source.wordBefore(start) : source.wordAfter(start + 1))
    : (step > 0 ? source.wordAfter(end) : source.wordBefore(end - 1));
  const next = { ...span, [edge]: word?.[edge] ?? span[edge] };
  if (!word || next.start >= next.end) return;
  const kept = popover.pristine ? null : popover.input.value;
  const quietly = document.activeElement !== popover.input;
  openAt(next, { typed: kept, quietly, kind: popover.kindChosen ? popover.kind : null });
  say(`Selected ${quote(source.slice(span))}`);
}

function insertAfter() {
  const { end } = span;
  const next = source.text[end];
  close();
  openAt({ start: end, end }, { typed: next === undefined || /[\s\p{P}]/u.test(next) ? " " : "" });
}
