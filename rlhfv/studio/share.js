// The panel that shares a comparison. The picture of it is drawn here, because the browser has a letter for every
// script that a model may write in; it is drawn in light colours whatever the page wears.
const root = element.querySelector(".share");
const LINE = 1.5;
const FONT = "system-ui, 'Noto Sans', 'Noto Sans CJK SC', 'Noto Color Emoji', sans-serif";
const INK = { "": "#0f172a", mark: "#0f172a", del: "#b91c1c", ins: "#047857" };
const BEHIND = { mark: "#fde68a", del: "#fee2e2", ins: "#d1fae5" };
const words = new Intl.Segmenter(undefined, { granularity: "word" });
const letters = new Intl.Segmenter(undefined, { granularity: "grapheme" });
let drawn = null, drawing = 0;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== false) node.setAttribute(name, value === true ? "" : value);
  node.append(...children);
  return node;
}

function button(text, kind, action) {
  const node = make("button", { type: "button", class: `act ${kind}` }, text);
  node.addEventListener("click", action);
  return node;
}

// [text, kind] parts as lines of measured pieces that fit into `width`.
function lay(ctx, parts, size, width) {
  const lines = [[]];
  let room = width;
  const put = (text, kind) => {
    ctx.font = `${kind === "ins" ? 600 : 400} ${size}px ${FONT}`;
    const wide = ctx.measureText(text).width;
    // A comma stays with its word, even where it stands out a little.
    if (wide > room && lines.at(-1).length && (room <= 0 || !/^\p{P}+$/u.test(text))) { lines.push([]); room = width; }
    if (wide > width) {
      for (const { segment } of letters.segment(text)) if (segment !== text) put(segment, kind);
      if ([...letters.segment(text)].length > 1) return;
    }
    if (!text.trim() && !lines.at(-1).length && lines.length > 1) return;  // no space at the start of a line
    // One piece for neighbours of a kind: the browser orders letters that run both ways within what it is given.
    const before = lines.at(-1).at(-1);
    if (before?.kind === kind) {
      before.text += text;
      room += before.wide;
      before.wide = ctx.measureText(before.text).width;
      room -= before.wide;
    } else {
      lines.at(-1).push({ text, kind, wide });
      room -= wide;
    }
  };
  parts.forEach(([text, kind], i) => {
    text.split("\n").forEach((line, number) => {
      if (number) { lines.push([]); room = width; }
      for (const { segment } of words.segment(line)) put(segment, kind);
    });
    if (kind === "del" && parts[i + 1]?.[1] === "ins") put(" ", "");
  });
  return { lines, size, height: lines.length * size * LINE };
}

function write(ctx, block, x, y, width) {
  const text = block.lines.flat().map((piece) => piece.text).join("");
  const first = text.match(/\p{L}/u)?.[0] ?? "";
  const rightToLeft = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/u.test(first);
  ctx.textBaseline = "alphabetic";
  ctx.direction = rightToLeft ? "rtl" : "ltr";
  ctx.textAlign = "left";
  for (const line of block.lines) {
    let at = rightToLeft ? x + width : x;
    for (const { text, kind, wide } of line) {
      const left = rightToLeft ? at - wide : at;
      if (BEHIND[kind]) { ctx.fillStyle = BEHIND[kind]; ctx.fillRect(left, y + block.size * .12, wide, block.size * 1.3); }
      ctx.font = `${kind === "ins" ? 600 : 400} ${block.size}px ${FONT}`;
      ctx.fillStyle = INK[kind];
      ctx.fillText(text, left, y + block.size * 1.1);
      if (kind === "del") ctx.fillRect(left, y + block.size * .78, wide, Math.max(1.5, block.size / 14));
      at += rightToLeft ? -wide : wide;
    }
    y += block.size * LINE;
  }
}

async function load(address) {
  if (!address) return null;
  const picture = new Image();
  picture.src = address;
  try { await picture.decode(); } catch { return null; }
  return picture;
}

async function draw(data) {
  const picture = await load(data.picture);
  const canvas = make("canvas", { class: "share-canvas", role: "img", "aria-label": "Picture of the comparison" });
  const ctx = canvas.getContext("2d");
  // A phone draws a picture for phones: one answer below the other, or nobody could read it there.
  const narrow = matchMedia("(max-width: 760px)").matches;
  const [WIDTH, EDGE, GAP] = narrow ? [720, 28, 24] : [1200, 44, 32];
  const [most, high] = narrow ? [WIDTH - 2 * EDGE, 560] : [520, 420];
  const scale = picture ? Math.min(most / picture.naturalWidth, high / picture.naturalHeight) : 0;
  const seen = picture ? [picture.naturalWidth * scale, picture.naturalHeight * scale] : [0, 0];
  const beside = picture && !narrow ? EDGE + seen[0] + GAP : EDGE;
  const asked = picture && narrow ? EDGE + seen[1] + GAP : EDGE;
  const column = narrow ? WIDTH - 2 * EDGE : (WIDTH - 2 * EDGE - GAP) / 2;
  const question = lay(ctx, [[data.question, ""]], 30, WIDTH - beside - EDGE);
  const voices = data.said.map((one) => lay(ctx, [[one.voice, ""]], 20, column));
  const answers = data.said.map((one) => lay(ctx, one.parts, 22, column - 40));
  const name = data.correction && lay(ctx, [[`Corrected by a person: ${data.correction.voice}`, ""]], 20, WIDTH - 2 * EDGE);
  const mended = data.correction && lay(ctx, data.correction.parts, 22, WIDTH - 2 * EDGE - 40);
  const top = Math.max(EDGE + seen[1], asked + question.height) + GAP;
  const named = Math.max(...voices.map((block) => block.height)) + 10;
  const said = answers.map((block) => block.height + 36), both = Math.max(...said);
  // Left, top and height of each answer's box with its voice above.
  const spots = narrow
    ? [[EDGE, top, said[0]], [EDGE, top + named + said[0] + GAP, said[1]]]
    : [[EDGE, top, both], [EDGE + column + GAP, top, both]];
  const below = spots[1][1] + named + spots[1][2] + GAP;
  const end = mended ? below + name.height + 10 + mended.height + 36 + GAP : below;
  // A phone's browser gives no file of a canvas beyond about 16 million pixels, or 16 thousand in height.
  const sharp = Math.min(1.5, Math.sqrt(16e6 / (WIDTH * (end + 46))), 16e3 / (end + 46));
  canvas.width = WIDTH * sharp;
  canvas.height = (end + 46) * sharp;
  ctx.scale(sharp, sharp);
  ctx.fillStyle = "#f8fafc";
  ctx.fillRect(0, 0, WIDTH, end + 46);
  if (picture) ctx.drawImage(picture, EDGE, EDGE, ...seen);
  write(ctx, question, beside, asked, WIDTH - beside - EDGE);
  spots.forEach(([x, y, tall], i) => {
    write(ctx, voices[i], x, y, column);
    box(ctx, x, y + named, column, tall);
    write(ctx, answers[i], x + 20, y + named + 18, column - 40);
  });
  if (mended) {
    write(ctx, name, EDGE, below, WIDTH - 2 * EDGE);
    box(ctx, EDGE, below + name.height + 10, WIDTH - 2 * EDGE, mended.height + 36);
    write(ctx, mended, EDGE + 20, below + name.height + 28, WIDTH - 2 * EDGE - 40);
  }
  write(ctx, lay(ctx, [["RLHF-V correction studio: words that differ are marked", ""]], 16, WIDTH), EDGE, end, WIDTH);
  return canvas;
}

function box(ctx, x, y, width, height) {
  ctx.fillStyle = "#ffffff";
  ctx.strokeStyle = "#cbd5e1";
  ctx.beginPath();
  ctx.roundRect(x, y, width, height, 12);
  ctx.fill();
  ctx.stroke();
}

const file = (canvas) => new Promise((done) => canvas.toBlob((blob) =>
  done(new File([blob], "comparison.png", { type: "image/png" })), "image/png"));

async function save() {
  const address = URL.createObjectURL(await file(drawn));
  make("a", { href: address, download: "comparison.png" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

async function hand(given) {
  try { await navigator.share({ files: [given], title: "Two models, one picture" }); } catch { /* the visitor thought better of it */ }
}

function links(data) {
  const rows = data.links.map(([id, question, made]) => {
    const address = new URL(`shared/${id}`, location.href.split("?")[0]).href;
    return make("li", id === data.public ? { class: "new" } : {},
      make("a", { href: address, target: "_blank", rel: "noopener" }, address),
      make("span", { class: "share-note", dir: "auto" }, `${question.slice(0, 80)} · ${made}`),
      button("Withdraw", "quiet", () => trigger("select", { act: "withdraw", ref: id })));
  });
  return rows.length ? [make("p", { class: "share-note" }, "Your public links:"), make("ul", {}, ...rows)] : [];
}

async function show() {
  const data = props.value, turn = ++drawing;
  root.hidden = !data;
  if (!data) return root.replaceChildren();
  const close = button("Close", "quiet", () => trigger("select", { act: "close", ref: "" }));
  const problem = data.problem ? [make("p", { class: "share-problem", role: "alert" }, data.problem)] : [];
  if (!data.question) return root.replaceChildren(...problem, ...links(data), close);
  const canvas = await draw(data), given = await file(canvas);
  if (turn !== drawing) return;
  drawn = canvas;
  const box = make("input", { type: "checkbox", id: "share-agree" });
  const publish = button("Make a public link", "", () => trigger("select", { act: "publish", ref: box.checked ? data.mark : "" }));
  publish.disabled = true;
  box.addEventListener("change", () => { publish.disabled = !box.checked; });
  const seen = `the question, both answers${data.correction ? " and your correction" : ""}`;
  const asking = [make("label", { class: "share-agree" }, box,
    ` I may show this picture. Everybody with the link sees it, ${seen}, until I withdraw it.`), publish];
  const native = navigator.canShare?.({ files: [given] }) ? [button("Share …", "primary", () => hand(given))] : [];
  root.replaceChildren(
    make("div", { class: "share-tools" }, ...native, button("Save picture", native.length ? "" : "primary", save), close),
    ...problem, canvas, ...(data.may_publish ? asking : []), ...links(data));
}

show();
watch("value", show);
