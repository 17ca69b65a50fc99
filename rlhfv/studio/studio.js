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
    ready() { document.body.dataset.ready = "true"; },
  };

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
    const dialog = document.querySelector(".dialog");
    if (!dialog || dialog.offsetParent === null && getComputedStyle(dialog).position !== "fixed") return;
    if (event.key === "Escape") dialog.querySelector("#terms-cancel")?.click();
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
