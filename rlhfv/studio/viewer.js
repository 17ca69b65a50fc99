// The zoomable picture. Place and scale of each picture are remembered for as long as the page is open.
const root = element.querySelector(".viewer");
const places = new Map();
let pictures = [], current = 0, place = { scale: 1, x: 0, y: 0 };
const fingers = new Map();

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const stage = make("div", { class: "viewer-stage", tabindex: "0", role: "group", "aria-label": "Picture: plus and minus zoom, arrows move, 0 fits" });
const picture = make("img", { class: "viewer-picture", draggable: "false", alt: "" });
const level = make("span", { class: "viewer-level", role: "status" });
const tools = make("div", { class: "viewer-tools", role: "toolbar", "aria-label": "Zoom" },
  tool("−", "Zoom out", () => zoom(1 / 1.4)), level, tool("+", "Zoom in", () => zoom(1.4)), tool("Fit", "Fit the picture", fit));
const others = make("div", { class: "viewer-others" });
const nothing = make("p", { class: "viewer-nothing" }, "No picture");
stage.append(picture);
root.append(stage, tools, others, nothing);

function tool(text, name, action) {
  const node = make("button", { type: "button", "aria-label": name, title: name }, text);
  node.addEventListener("click", action);
  return node;
}

function settle() {
  place.scale = Math.min(12, Math.max(1, place.scale));
  const width = stage.clientWidth, height = stage.clientHeight;
  if (width === 0) return;
  // A part of the picture always stays on the stage.
  place.x = Math.min(0, Math.max(width * (1 - place.scale), place.x));
  place.y = Math.min(0, Math.max(height * (1 - place.scale), place.y));
  picture.style.transform = `translate(${place.x}px, ${place.y}px) scale(${place.scale})`;
  stage.classList.toggle("zoomed", place.scale > 1);
  level.textContent = `${Math.round(place.scale * 100)} %`;
  if (pictures[current]) places.set(pictures[current], place);
}

function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const before = place.scale, after = Math.min(12, Math.max(1, before * factor));
  place = { scale: after, x: x - (x - place.x) * after / before, y: y - (y - place.y) * after / before };
  settle();
}

function fit() { place = { scale: 1, x: 0, y: 0 }; settle(); }

function turn(index) {
  current = index;
  place = { ...(places.get(pictures[current]) ?? { scale: 1, x: 0, y: 0 }) };
  picture.src = pictures[current];
  [...others.children].forEach((node, i) => node.setAttribute("aria-pressed", String(i === current)));
  settle();
}

function inside(event) {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

stage.addEventListener("wheel", (event) => {
  // At full size the wheel outwards belongs to the page, or a reader would be caught here.
  if (place.scale <= 1 && event.deltaY > 0) return;
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * 0.0018), ...inside(event));
}, { passive: false });

stage.addEventListener("pointerdown", (event) => {
  fingers.set(event.pointerId, inside(event));
  if (place.scale > 1 || fingers.size > 1) stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  const from = fingers.get(event.pointerId);
  if (!from) return;
  const to = inside(event);
  if (fingers.size === 2) {
    const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    const distance = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    if (distance(from) > 0) zoom(distance(to) / distance(from), (to[0] + other[0]) / 2, (to[1] + other[1]) / 2);
  } else if (place.scale > 1) {
    place = { ...place, x: place.x + to[0] - from[0], y: place.y + to[1] - from[1] };
    settle();
  }
  fingers.set(event.pointerId, to);
});
for (const name of ["pointerup", "pointercancel", "lostpointercapture"])
  stage.addEventListener(name, (event) => fingers.delete(event.pointerId));
stage.addEventListener("dblclick", (event) => (place.scale > 1 ? fit() : zoom(2.5, ...inside(event))));
stage.addEventListener("keydown", (event) => {
  const step = 60, moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "+" || event.key === "=") zoom(1.4);
  else if (event.key === "-") zoom(1 / 1.4);
  else if (event.key === "0") fit();
  else if (moves[event.key] && place.scale > 1) {
    place = { ...place, x: place.x + moves[event.key][0], y: place.y + moves[event.key][1] };
    settle();
  } else return;
  event.preventDefault();
});

function load() {
  const given = props.value ?? {};
  const next = (Array.isArray(given.pictures) ? given.pictures : []).filter((url) => /^images\/[\w.-]+$/.test(url));
  picture.alt = String(given.about ?? "");
  const empty = next.length === 0;
  stage.hidden = tools.hidden = empty;
  nothing.hidden = !empty;
  if (next.join() === pictures.join()) return;
  pictures = next;
  others.replaceChildren(...(next.length < 2 ? [] : next.map((url, i) => {
    const node = make("button", { type: "button", "aria-label": `Picture ${i + 1}` }, make("img", { src: url, alt: "" }));
    node.addEventListener("click", () => turn(i));
    return node;
  })));
  if (!empty) turn(next.length - 1);
}

load();
watch("value", load);
