() => {
  // Small things that belong to the whole page: the address of a tab, seconds of real work, one key, the dialog.
  const IDLE = 30_000;
  let worked = 0, touched = Date.now();
  const visible = (id) => document.getElementById(id)?.offsetParent != null;

  window.studio = {
    visit(tab, answer) {
      // While the page loads, Gradio selects its first tab; that is nobody's visit.
      if (!document.body.dataset.ready) return;
      const url = new URL(location.href);
      url.searchParams.set("tab", tab);
      if (answer) url.searchParams.set("answer", answer);
      else url.searchParams.delete("answer");
      history.replaceState(history.state, "", url);
    },
    beginAnswer(answer) {
      worked = 0;
      if (visible("editor")) this.visit("correct", answer);
    },
    activeSeconds: () => worked,
    ready() {
      document.body.dataset.ready = "true";
      bringBack();
    },
    arrived: () => bringBack(),
    /** Goes to a page that comes back to this tab: what is half done goes to the server, what is typed stays here. */
    leaveFor(path) {
      document.dispatchEvent(new Event("studio:leave"));
      keepTyped();
      // A Space does not scroll within its frame; the page that comes may have to.
      if (window.parent !== window) window.parent.postMessage({ type: "SET_SCROLLING", enabled: true }, "*");
      leaving = true;
      setTimeout(() => {
        // The address may lag behind the tabs.
        const url = new URL(location.href);
        const open = /^tab-(\w+)-button$/.exec(document.querySelector("[role=tab][aria-selected=true]")?.id)?.[1];
        if (open) url.searchParams.set("tab", open);
        if (open !== "correct") url.searchParams.delete("answer");
        const back = encodeURIComponent(url.pathname + url.search);
        location.assign(`${path}?_target_url=${back}`);
      }, 500);
    },
  };

  const TYPED = ["question", "publish-repo", "adapter-repo", "run-title", "away-repo", "train-where"];
  const TYPED_KEY = "rlhfv.typed";
  let looking = 0, leaving = false;
  const fieldOf = (id) => [...document.querySelectorAll(`#${id} textarea, #${id} input`)];

  // What was kept before and not brought back yet, because its tab was not opened, is kept on.
  function readTyped() {
    try { return JSON.parse(sessionStorage.getItem(TYPED_KEY)) ?? {}; } catch { return {}; }
  }

  function keepTyped() {
    const typed = readTyped();
    for (const id of TYPED) {
      const field = fieldOf(id).find((field) => field.type !== "radio" || field.checked);
      if (field?.value) typed[id] = field.value;
    }
    try { sessionStorage.setItem(TYPED_KEY, JSON.stringify(typed)); } catch {}
  }

  // Somebody may come back by the history, to the page as it was left.
  addEventListener("pageshow", () => { leaving = false; });

  // A field counts as filled when it still is at the next look: Gradio may draw it anew. Fields of a tab that was not
  // opened yet are not there; their turn comes when it is.
  function bringBack(looks = 15) {
    if (leaving) return;
    const typed = readTyped();
    for (const [id, text] of Object.entries(typed)) {
      const fields = fieldOf(id);
      if (!fields.length) continue;
      const chosen = fields.find((field) => field.type === "radio" && field.value === text);
      if (chosen ? chosen.checked : fields[0].value === text) delete typed[id];
      else if (chosen) chosen.click();
      else {
        Object.getOwnPropertyDescriptor(Object.getPrototypeOf(fields[0]), "value").set.call(fields[0], text);
        fields[0].dispatchEvent(new Event("input", { bubbles: true }));
      }
    }
    const left = Object.keys(typed).length;
    try {
      if (left) sessionStorage.setItem(TYPED_KEY, JSON.stringify(typed));
      else sessionStorage.removeItem(TYPED_KEY);
    } catch {}
    clearTimeout(looking);
    if (left && looks) looking = setTimeout(() => bringBack(looks - 1), 300);
  }

  for (const name of ["keydown", "pointerdown", "wheel", "pointermove"])
    document.addEventListener(name, () => { touched = Date.now(); }, { passive: true });
  setInterval(() => {
    if (!document.hidden && visible("editor") && Date.now() - touched < IDLE) worked += 1;
  }, 1000);

  document.addEventListener("keydown", (event) => {
    if (event.altKey && !event.ctrlKey && !event.metaKey && event.code === "KeyN" && visible("next-answer")) {
      event.preventDefault();
      document.getElementById("next-answer").click();
    }
    const dialog = [...document.querySelectorAll(".dialog")].find((node) => node.getClientRects().length);
    if (!dialog) return;
    if (event.key === "Escape") dialog.querySelector("[id$='terms-cancel']")?.click();
    if (event.key !== "Tab") return;
    const stops = [...dialog.querySelectorAll("input, button, textarea, select")].filter((node) => !node.disabled && node.offsetParent);
    const last = stops.at(-1), edge = event.shiftKey ? stops[0] : last;
    if (document.activeElement === edge || !dialog.contains(document.activeElement)) {
      event.preventDefault();
      (event.shiftKey ? last : stops[0])?.focus();
    }
  });

  // A picture on the clipboard goes to the chat, wherever on its tab it is pasted; text goes where the caret is.
  document.addEventListener("paste", (event) => {
    const picture = [...(event.clipboardData?.files ?? [])].find((file) => file.type.startsWith("image/"));
    const typing = event.target.matches?.("input, textarea, [contenteditable=true]") && event.clipboardData.getData("text/plain");
    const input = document.querySelector("#chat-picture input[type=file]");
    if (!picture || typing || !input || !visible("chat-picture")) return;
    event.preventDefault();
    const files = new DataTransfer();
    files.items.add(picture);
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });

  // Gradio's columns take no role; the dialog needs one.
  new MutationObserver(() => {
    for (const dialog of document.querySelectorAll(".dialog:not([role])")) {
      dialog.setAttribute("role", "dialog");
      dialog.setAttribute("aria-modal", "true");
      dialog.setAttribute("aria-label", "Name, licence and consent");
    }
  }).observe(document.body, { childList: true, subtree: true });
}
