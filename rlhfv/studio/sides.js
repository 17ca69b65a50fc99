// One column at a time: a switch between the answers that stays where the reader is, and room for a soft keyboard.
const root = element.querySelector(".sides");
const SIDES = ["left", "right"];
const NARROW = matchMedia("(max-width: 760px)");
const page = document.documentElement;
let side = "left", turns = null;

const switches = SIDES.map((name) => {
  const node = document.createElement("button");
  node.type = "button";
  node.setAttribute("role", "radio");
  node.append(document.createElement("span"));
  node.addEventListener("click", () => turnTo(name));
  return node;
});
root.setAttribute("role", "radiogroup");
root.setAttribute("aria-label", "Which answer is shown");
root.append(...switches);
root.addEventListener("keydown", (event) => {
  if (!/^Arrow/.test(event.key)) return;
  event.preventDefault();
  turnTo(side === "left" ? "right" : "left");
  switches[SIDES.indexOf(side)].focus();
});

const turnsOf = (name) => [...document.querySelectorAll(`#${name}-column .turn`)];

/** Where the reader is: the turn below the switch, and how far it has gone under. */
function place() {
  const line = root.getBoundingClientRect().bottom;
  const boxes = turnsOf(side).map((turn) => turn.getBoundingClientRect());
  const index = boxes.findIndex((box) => box.bottom > line);
  return index < 0 ? null : { index, top: boxes[index].top };
}

function show() {
  root.closest(".workbench").dataset.side = side;
  switches.forEach((node, number) => {
    node.setAttribute("aria-checked", String(SIDES[number] === side));
    node.tabIndex = SIDES[number] === side ? 0 : -1;
    const title = String(props.value?.[SIDES[number]] ?? "");
    node.firstChild.textContent = title;
    node.setAttribute("aria-label", `${number ? "Right" : "Left"}: ${title}`);
  });
}

/** The same turn stays at the same height of the screen, so that the words that differ change under the eye. */
function turnTo(name) {
  const before = place();
  side = name;
  show();
  const turn = before && turnsOf(side)[before.index];
  if (!turn) return;
  const box = turn.getBoundingClientRect(), line = root.getBoundingClientRect().bottom;
  // A shorter answer would otherwise be out of sight altogether.
  const top = Math.max(before.top, line + 60 - box.height);
  scrollBy({ top: box.top - top, behavior: "instant" });
}

/** A new question comes to the top, right under the switch; then nothing moves while the answers grow. */
function follow() {
  const now = turnsOf(side), more = turns !== null && now.length > turns;
  turns = now.length;
  if (!more || !NARROW.matches || !document.body.dataset.ready) return;
  requestAnimationFrame(() => aim(3));
}

/** Again a little later, because what stood above may still be going away, unless somebody scrolls. */
function aim(times) {
  const last = turnsOf(side).at(-1);
  if (!last?.offsetParent) return;
  scrollBy({ top: last.getBoundingClientRect().top - root.closest("#sides").offsetHeight - 12, behavior: "instant" });
  const at = scrollY;
  if (times) setTimeout(() => scrollY === at && aim(times - 1), 200);
}

// A soft keyboard covers the foot of the page without telling the page's layout.
function makeRoom(event) {
  if (!root.isConnected) return window.visualViewport?.removeEventListener(event.type, makeRoom);
  const seen = window.visualViewport;
  const covered = seen && seen.scale < 1.05 ? page.clientHeight - seen.height - seen.offsetTop : 0;
  page.style.setProperty("--keyboard", `${covered > 60 ? Math.round(covered) : 0}px`);
}
window.visualViewport?.addEventListener("resize", makeRoom);
window.visualViewport?.addEventListener("scroll", makeRoom);

const watched = new MutationObserver(() => (root.isConnected ? follow() : watched.disconnect()));
const observe = () => {
  const columns = SIDES.map((name) => document.getElementById(`${name}-column`));
  if (columns.includes(null)) return setTimeout(observe, 200);
  for (const column of columns) watched.observe(column, { childList: true, subtree: true });
  follow();
};
observe();
makeRoom();
show();
watch("value", show);
