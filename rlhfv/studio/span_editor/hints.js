// Suspects: words that the server doubts. They are marked and walked, and only a person's own words ever replace one.

const SUSPECTS_KEY = "rlhfv.suspects"; // "off" where this visitor does not want to see them
const REASONS = {
  parting: "Suspect: the baseline and the aligned voice part here.",
  unlikely: "Suspect: the model itself found it unlikely.",
  blind: "Suspect: as likely without the picture as with it.",
};
let suspecting = readSwitch();
let shownBefore = []; // where hints of this answer were shown before a reload

function readSwitch() {
  try {
    return localStorage.getItem(SUSPECTS_KEY) !== "off";
  } catch {
    return true;
  }
}

function switchSuspects() {
  suspecting = !suspecting;
  try {
    localStorage.setItem(SUSPECTS_KEY, suspecting ? "on" : "off");
  } catch {}
  drawHints();
  publish(null);
  say(suspecting ? "Suspect words are shown" : "Suspect words are hidden");
  askForHints();
}

/** Tells the server that an answer is open whose suspects the person wants to see; they arrive when they are known. */
function askForHints() {
  if (suspecting && answer.answer_id && !answer.readonly && !answer.blind && !hints.length) trigger("opened");
}

/** Hints that arrived behind their answer. What was corrected meanwhile stays. */
function takeHints(value) {
  if (value.answer_id === answer.answer_id && value.original === answer.original) {
    setHints(value.hints);
    drawHints();
    const count = openHints().length;
    const way = matchMedia("(pointer: coarse)").matches ? "tap one to correct it" : "F8 goes to the next";
    if (count && !status.textContent) say(`${count === 1 ? "1 suspect" : `${count} suspects`}: ${way}`);
  }
  publish(null); // Gradio holds the server's copy now
}

function setHints(given) {
  hints = inOrder(given.map(inUnits)).map((hint) => ({ ...hint, shown: hint.shown || shownBefore.includes(hint.start) }));
  hintStart = -1;
}

const shownHints = () => [...shownBefore, ...hints.filter((hint) => hint.shown).map((hint) => hint.start)];

/** The hints that are marked now: outside of every correction. */
function openHints() {
  if (!suspecting || answer.blind || !isEditing()) return [];
  return hints.filter((hint) => hint.end > hint.start && !edits.some((edit) => isTouched(edit, hint)));
}

function drawHints() {
  const open = openHints();
  hints = hints.map((hint) => (open.includes(hint) ? { ...hint, shown: true } : hint));
  if (!answer.readonly) view.paint(HINTED, open);
  tools.hint.hidden = !open.length;
  hintCount.textContent = String(open.length);
  tools.suspects.hidden = Boolean(answer.readonly || answer.blind);
  tools.suspects.setAttribute("aria-checked", String(suspecting));
  setIcon(tools.suspects, suspecting ? "suspects" : "unsuspecting");
}

function stepHint(step) {
  settle();
  if (mode !== "edit") showView("edit");
  const open = openHints();
  if (!open.length) return say(suspecting ? "No suspects left" : "Suspect words are hidden");
  const later = open.find((hint) => hint.start > hintStart) ?? open[0];
  const earlier = open.findLast((hint) => hint.start < hintStart) ?? open.at(-1);
  openHint(step > 0 ? later : earlier);
}

function openHint(hint) {
  const open = openHints();
  const place = open.findIndex((other) => other.start === hint.start) + 1;
  const kind = KINDS.some((known) => known.name === hint.kind) ? hint.kind : null;
  hintStart = hint.start;
  openAt(hint, { kind, note: REASONS[hint.source] ?? "Suspect.", quietly: isTouch() });
  say(`Suspect ${place} of ${open.length}: ${quote(source.slice(hint))}`);
}
