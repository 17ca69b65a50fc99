// Builds a view from its value: a list of nodes, each a text or [tag, attributes, ...children]. Text only ever becomes
// text nodes. Known tags and attributes only, so that even a forged value cannot become script.
const TAGS = new Set(
  ("a article b br button caption code dd del details div dl dt em figcaption figure h1 h2 h3 h4 header hr i img ins kbd label " +
    "li mark ol p pre section small span strong sub summary sup table tbody td th thead time tr u ul").split(" "));
const DRAWN = new Set("svg g line rect circle path text title polyline".split(" "));
const PLAIN = new Set(
  ("class title role type tabindex alt src open scope colspan dir datetime width height viewBox x y x1 x2 y1 y2 cx cy r d " +
    "points transform rx text-anchor disabled loading hidden for target rel").split(" "));
const SVG = "http://www.w3.org/2000/svg";
const root = element.querySelector(".view");
let shown = [];

function allowed(name, value) {
  if (name === "src") return /^images\/[\w.-]+$/.test(value);
  if (name === "href") return /^https?:\/\/[^\s]+$/.test(value);
  if (name === "style") return /^((width|left):[\d.]+%;?)+$/.test(value);
  return PLAIN.has(name) || name.startsWith("aria-") || name.startsWith("data-");
}

function same(a, b) {
  if (a === b) return true;
  if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length || a[0] !== b[0]) return false;
  const left = Object.entries(a[1]), right = b[1];
  if (left.length !== Object.keys(right).length || left.some(([key, value]) => right[key] !== value)) return false;
  for (let i = 2; i < a.length; i++) if (!same(a[i], b[i])) return false;
  return true;
}

function dress(node, before, after) {
  for (const name of Object.keys(before)) if (!(name in after)) node.removeAttribute(name);
  for (const [name, value] of Object.entries(after))
    if (allowed(name, value) && before[name] !== value) node.setAttribute(name, value);
}

function build(item) {
  if (typeof item === "string") return document.createTextNode(item);
  const [tag, attributes, ...children] = item;
  const drawn = DRAWN.has(tag);
  if (!drawn && !TAGS.has(tag)) return document.createTextNode("");
  const node = drawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
  dress(node, {}, attributes);
  node.append(...children.map(build));
  return node;
}

// Changes only what differs, so that focus, an open detail, a text selection and the scroll position stay.
function patch(parent, before, after) {
  const nodes = [...parent.childNodes];
  after.forEach((item, i) => {
    const old = before[i], node = nodes[i];
    if (node === undefined) parent.append(build(item));
    else if (same(old, item)) return;
    else if (typeof old === "string" && typeof item === "string") node.data = item;
    else if (Array.isArray(old) && Array.isArray(item) && old[0] === item[0] && old[1]["data-key"] === item[1]["data-key"]) {
      dress(node, old[1], item[1]);
      patch(node, old.slice(2), item.slice(2));
    } else node.replaceWith(build(item));
  });
  nodes.slice(after.length).forEach((node) => node.remove());
}

function show() {
  const next = Array.isArray(props.value) ? props.value : [];
  const held = [...root.querySelectorAll("[data-stick]")].map((box) =>
    [box, box.scrollHeight - box.scrollTop - box.clientHeight < 48]);
  patch(root, shown, next);
  shown = next;
  const known = new Map(held);
  for (const box of root.querySelectorAll("[data-stick]")) if (known.get(box) ?? true) box.scrollTop = box.scrollHeight;
}

async function copy(button) {
  const text = button.closest("[data-copied-from]")?.querySelector("[data-copy]")?.textContent ?? "";
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // No clipboard without https: select the text, so that the visitor's own copy key takes it.
    getSelection().selectAllChildren(button.closest("[data-copied-from]").querySelector("[data-copy]"));
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = label; }, 1500);
}

root.addEventListener("click", (event) => {
  const target = event.target.closest("[data-act]");
  if (!target || !root.contains(target) || target.disabled) return;
  if (target.dataset.act === "copy") return void copy(target);
  trigger(target.dataset.event === "edit" ? "edit" : "select", { act: target.dataset.act, ref: target.dataset.ref ?? "" });
});
show();
watch("value", show);
