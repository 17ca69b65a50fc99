// A phone's photos: taken with the rear camera or chosen, made smaller before they are sent, and HEIC read where the
// browser can. The picture box of the chat uploads them. A file that comes without this script is taken as well.
const root = element.querySelector(".photo");
const LONGEST = 2048, QUALITY = 0.9;
// Models look at less than a phone's camera takes; whoever sits at a desk chose the file with its size.
const isPhone = () => matchMedia("(pointer: coarse)").matches;
const HEIC = new Set(["heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs"]);
const OF_CHAT = "#chat-picture input[type=file], .workbench.chat .side input[type=file]";
let passing = false;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const camera = make("input", { type: "file", accept: "image/*", capture: "environment", hidden: "", "aria-label": "Photo from the camera" });
const take = make("button", { type: "button", class: "photo-take" }, "Take a photo");
const choose = make("button", { type: "button", class: "photo-choose" }, "Choose a picture");
const told = make("p", { class: "photo-told", role: "status" });
root.append(take, choose, camera, told);
take.addEventListener("click", () => camera.click());
choose.addEventListener("click", () => document.querySelector("#chat-picture input[type=file]")?.click());
camera.addEventListener("change", async () => {
  const [file] = camera.files;
  camera.value = "";
  const input = document.querySelector("#chat-picture input[type=file]");
  if (file && input) hand(input, [await prepare(file)]);
});

/** The box "ftyp" of ISO/IEC 23008-12 names what a HEIC file is in its first bytes, whatever its name says. */
async function isHeic(file) {
  const bytes = new Uint8Array(await file.slice(0, 256).arrayBuffer());
  const letters = (at) => String.fromCharCode(...bytes.slice(at, at + 4));
  if (letters(4) !== "ftyp") return false;
  const end = Math.min(new DataView(bytes.buffer).getUint32(0), bytes.length), brands = [letters(8)];
  for (let at = 16; at + 4 <= end; at += 4) brands.push(letters(at));
  return brands.some((brand) => HEIC.has(brand));
}

/** The picture as the browser shows it, upright; null where it cannot read the file. */
async function open(file) {
  const address = URL.createObjectURL(file), picture = new Image();
  picture.src = address;
  try {
    await picture.decode();
    return picture;
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** What is sent in place of `file`: itself, where there is nothing to gain. */
async function prepare(file) {
  const heic = await isHeic(file);
  if (!heic && !isPhone()) return file;
  told.textContent = "Preparing the photo …";
  const picture = await open(file);
  told.textContent = "";
  // The first bytes are enough for the server to say what is wrong with it.
  if (!picture) return heic ? new File([file.slice(0, 4096)], file.name, { type: "image/heic" }) : file;
  const { naturalWidth: width, naturalHeight: height } = picture;
  const scale = isPhone() ? Math.min(1, LONGEST / Math.max(width, height)) : 1;
  if (scale === 1 && !heic) return file;
  const canvas = make("canvas");
  [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  const ctx = canvas.getContext("2d");
  ctx.imageSmoothingQuality = "high";
  ctx.drawImage(picture, 0, 0, canvas.width, canvas.height);
  // What may be transparent stays so.
  const type = ["image/png", "image/webp", "image/gif"].includes(file.type) ? "image/png" : "image/jpeg";
  const blob = await new Promise((done) => canvas.toBlob(done, type, QUALITY));
  if (!blob || (!heic && blob.size >= file.size)) return file;
  const size = (width, height) => `${width} × ${height}`;
  if (scale < 1) told.textContent = `Made smaller for the upload: ${size(width, height)} became ${size(canvas.width, canvas.height)}.`;
  return new File([blob], type === "image/png" ? "picture.png" : "picture.jpg", { type });
}

function hand(input, files) {
  const given = new DataTransfer();
  files.forEach((file) => given.items.add(file));
  input.files = given.files;
  passing = true;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  passing = false;
}

// Before the picture box hears of it.
async function onChange(event) {
  if (!root.isConnected) return document.removeEventListener("change", onChange, true);
  const input = event.target;
  if (passing || !input.matches?.(OF_CHAT) || input === camera || !input.files.length) return;
  event.stopImmediatePropagation();
  const files = [];
  for (const file of [...input.files]) files.push(await prepare(file));
  hand(input, files);
}
document.addEventListener("change", onChange, true);
