// The small dialog in which a person says what a span should have been.

class Popover {
  /** `actions`: apply(replacement, kind), erase(kind), cancel(), restore(), insertAfter(), adjust(edge, step), save(). */
  constructor(actions) {
    this.actions = actions;
    this.task = null;
    const own = Math.random().toString(36).slice(2);
    const [noteId, meaningId] = [`hint-note-${own}`, `kind-meaning-${own}`];
    this.input = make("textarea", {
      rows: "1", class: "replacement", dir: "auto", enterkeyhint: "done", autocapitalize: "off", spellcheck: "true",
      "aria-label": "Replacement", "aria-describedby": `${noteId} ${meaningId}`, input: () => this.#refresh(),
    });
    this.title = make("div", { class: "title" });
    this.note = make("p", { class: "note", id: noteId });
    this.meaning = make("p", { class: "meaning", id: meaningId });
    const choices = KINDS.map((kind, index) => ({
      name: kind.name, label: kind.name, kind: kind.name,
      title: `${kind.meaning} (Alt+${index + 1})`, shortcut: `Alt+${index + 1}`,
    }));
    this.kinds = makeRadioGroup("Kind of error", "kinds", choices, (name) => this.#choose(name));
    this.kinds.group.append(make("span", { class: "keys", "aria-hidden": "true" }, make("kbd", {}, `Alt 1–${KINDS.length}`)));
    // A press on a kind must not take the focus, nor the on-screen keyboard, from the input.
    this.kinds.group.addEventListener("pointerdown", (event) => event.preventDefault());
    this.kinds.group.addEventListener("mousedown", (event) => event.preventDefault());
    const button = (className, act, ...content) => make("button", { type: "button", class: className, click: act }, ...content);
    this.restore = button("quiet", () => actions.restore(), "Remove correction");
    this.after = button("quiet touch-only", () => actions.insertAfter(), "Insert after");
    this.erase = button("erase", () => actions.erase(this.kind), "Delete text");
    this.apply = button("primary", () => this.#apply(), "Apply", make("kbd", { "aria-hidden": "true" }, "↵"));
    const cancel = button("", () => actions.cancel(), "Cancel", make("kbd", { "aria-hidden": "true" }, "Esc"));
    const edge = (name, step, sign) =>
      make("button", {
        type: "button", class: "edge", click: () => actions.adjust(name, step),
        "aria-label": `${name === "start" ? "Start" : "End"} one word ${step < 0 ? "earlier" : "later"}`,
      }, sign);
    this.edges = make(
      "div",
      { class: "edges touch-only", role: "group", "aria-label": "Grow or shrink the selection" },
      make("span", {}, edge("start", -1, "‹ word"), edge("start", 1, "›")),
      make("span", {}, edge("end", -1, "‹"), edge("end", 1, "word ›")),
    );
    this.node = make(
      "div",
      { class: "popover", role: "dialog", tabindex: "-1", hidden: true, keydown: (event) => this.#onKey(event) },
      make("div", { class: "head" }, this.title, this.restore, this.after),
      this.note, this.edges, this.input, this.kinds.group, this.meaning,
      make("div", { class: "buttons" }, this.erase, make("span", { class: "gap" }), cancel, this.apply),
    );
  }

  /**
   * `task`: {old: original text, editing: whether a correction is there already, text, kind, keepKind, note: why
   * the span is suspect, around: [before, after] of an insertion, tidy: what becomes of a typed text}. `quietly` leaves the on-screen keyboard closed.
   */
  open(task, { selectAll = false, quietly = false } = {}) {
    this.task = task;
    this.kindChosen = task.keepKind;
    this.kind = task.kind;
    this.pristine = !task.text;
    this.input.value = task.text;
    this.input.placeholder = task.old ? "What it should say" : "Words to insert";
    this.node.setAttribute("aria-label", task.old ? `Correct ${quote(task.old)}` : "Insert words");
    this.note.textContent = task.note;
    this.note.hidden = !task.note;
    this.restore.hidden = !task.editing;
    this.after.hidden = task.editing || !task.old;
    this.edges.hidden = task.editing || !task.old;
    this.erase.hidden = !task.old;
    this.node.hidden = false;
    this.#refresh();
    if (quietly) this.node.focus({ preventScroll: true });
    else this.input.focus({ preventScroll: true });
    if (selectAll) this.input.select();
    else this.input.setSelectionRange(task.text.length, task.text.length);
  }

  close() {
    this.task = null;
    this.node.hidden = true;
  }

  get isOpen() {
    return this.task !== null;
  }

  /** Whether what stands in the input would change something. */
  get isReady() {
    return this.isOpen && this.input.value !== "" && this.input.value !== this.task.text;
  }

  #choose(name) {
    this.kind = name;
    this.kindChosen = true;
    this.#refresh();
  }

  #refresh() {
    const text = this.input.value;
    if (text) this.pristine = false;
    if (!this.kindChosen) this.kind = inferKind(this.task.old, text);
    this.kinds.show(this.kind);
    const { group } = this.kinds, chosen = group.querySelector("[aria-checked=true]");
    // On a small screen they stand in one row that scrolls.
    group.scrollLeft = chosen.offsetLeft + chosen.offsetWidth / 2 - group.clientWidth / 2;
    this.meaning.textContent = KINDS.find((kind) => kind.name === this.kind).meaning;
    this.apply.disabled = text === "";
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight + 2, 160)}px`;
    this.#showTitle(text);
  }

  #showTitle(text) {
    if (this.task.old) {
      this.title.replaceChildren("Replace ", make("strong", { dir: "auto" }, quote(this.task.old)));
      return;
    }
    const inserted = make("ins", {});
    appendText(inserted, this.task.tidy(text) || " ");
    this.title.replaceChildren("Insert: …");
    appendText(this.title, this.task.around[0]);
    this.title.append(inserted);
    appendText(this.title, this.task.around[1]);
  }

  #apply() {
    if (this.input.value) this.actions.apply(this.input.value, this.kind);
  }

  #onKey(event) {
    if (event.isComposing) return;
    const digit = event.altKey && !event.ctrlKey && /^Digit([1-9])$/.exec(event.code);
    const typing = event.target === this.input;
    const act = (action) => {
      event.preventDefault();
      event.stopPropagation();
      action();
    };
    const emptied = ["Delete", "Backspace"].includes(event.key) && typing && this.pristine && !event.repeat;
    const applies = event.key === "Enter" && !event.shiftKey && (typing || event.target.role === "radio");
    if (digit && KINDS[digit[1] - 1]) act(() => this.#choose(KINDS[digit[1] - 1].name));
    else if (event.key === "Escape") act(() => this.actions.cancel());
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) act(() => this.actions.save());
    else if (applies) act(() => this.#apply());
    else if (emptied && this.task.old) act(() => this.actions.erase(this.kind));
    else if (event.key === "Tab") this.#keepTabInside(event);
  }

  #keepTabInside(event) {
    const isStop = (node) => !node.disabled && node.tabIndex >= 0 && node.offsetParent;
    const stops = [...this.node.querySelectorAll("button, textarea")].filter(isStop);
    const edge = event.shiftKey ? stops[0] : stops.at(-1);
    if (document.activeElement !== edge && document.activeElement !== this.node) return;
    event.preventDefault();
    (event.shiftKey ? stops.at(-1) : stops[0]).focus();
  }

  /**
   * Beside `anchors` (client rectangles of the span), inside `frame`; above it where there is no room below. As a
   * `sheet` it lies at the foot of what can be seen, and the text goes on above it.
   */
  place(anchors, frame, sheet) {
    const seen = seenArea();
    const first = anchors[0] ?? frame.getBoundingClientRect();
    const last = anchors.at(-1) ?? first;
    const { style } = this.node;
    this.node.classList.toggle("sheet", sheet);
    this.node.classList.toggle("low", seen.bottom - seen.top < 560);
    // However little can be seen, a line of the text stays above.
    style.maxHeight = `${seen.bottom - seen.top - last.height - 24}px`;
    const height = this.node.offsetHeight;
    if (sheet) {
      [style.left, style.top] = ["0", `${seen.bottom - height}px`];
      return;
    }
    const box = frame.getBoundingClientRect();
    const goesUp = seen.bottom - last.bottom < height + 12 && first.top - seen.top > height + 12;
    const wanted = last.top > first.top ? 0 : first.left - box.left - 8;
    const left = Math.min(Math.max(wanted, 8), Math.max(8, box.width - this.node.offsetWidth - 8));
    style.left = `${left}px`;
    style.top = `${(goesUp ? first.top - height - 6 : last.bottom + 6) - box.top}px`;
  }

  /** How far the page has to scroll until the span is in sight, its last line first, and the popover where it moves along. */
  offBy(anchors) {
    if (!anchors.length) return 0;
    const seen = seenArea(), own = this.node.getBoundingClientRect(), isSheet = this.node.classList.contains("sheet");
    const top = isSheet ? anchors[0].top : Math.min(anchors[0].top, own.top);
    const bottom = isSheet ? anchors.at(-1).bottom : Math.max(anchors.at(-1).bottom, own.bottom);
    const below = bottom + 8 - (isSheet ? own.top : seen.bottom);
    const above = top - 8 - seen.top;
    return below > 0 ? below : Math.min(0, Math.max(above, below));
  }
}

/** What of the window can be seen: less than all of it where a soft keyboard is open. */
function seenArea() {
  const seen = window.visualViewport;
  if (!seen || seen.scale > 1.05) return { top: 0, bottom: innerHeight };
  return { top: seen.offsetTop, bottom: seen.offsetTop + seen.height };
}
