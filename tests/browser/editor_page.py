"""The inline editor from both sides: what the server gives and receives, and a person's gestures at words."""

import time

DOG = "The image shows a black dog on a red sofa next to two children."


class Studio:
    """The server's side: answers by id, and every document that the editor sent. `hints` holds those that come behind
    their answer, by its id, each list with the event that lets it go; `asked` the ids for which hints were wanted.
    """

    def __init__(self):
        self.documents, self.received, self.drafts, self.delay = {}, [], [], 0.0
        self.hints, self.asked = {}, []

    def build(self):
        import gradio as gr

        from rlhfv.studio.span_editor import SpanEditor

        def bring_hints(document):
            self.asked.append(document.answer_id)
            if document.answer_id not in self.hints:
                return gr.skip()
            hints, go = self.hints[document.answer_id]
            assert go.wait(60)
            stored = self.documents[document.answer_id]
            return stored.model_copy(update={"hints": hints, "only_hints": True})

        def find(request: gr.Request):
            return self.documents.get(request.query_params.get("answer"))

        with gr.Blocks(title="editor") as demo:
            editor = SpanEditor(elem_id="editor")
            name = gr.Textbox(elem_id="name")
            quiet = {"show_progress": "hidden", "api_visibility": "private"}
            demo.load(find, None, editor, **quiet)
            name.submit(lambda name: self.documents.get(name), name, editor, **quiet)
            gr.Button("Hide").click(lambda: SpanEditor(visible=False), None, editor, **quiet)
            gr.Button("Show").click(lambda: SpanEditor(visible=True), None, editor, **quiet)
            # As in the studio: a save while another is on its way is the newest word, not one too many.
            editor.submit(self.receive, editor, None, trigger_mode="always_last", **quiet)
            editor.input(self.drafts.append, editor, None, **quiet)
            editor.opened(bring_hints, editor, editor, **quiet)
        return demo

    def receive(self, document):
        time.sleep(self.delay)
        self.received.append(document)


class Editor:
    """The person's side: gestures at words, found by where the browser drew them."""

    def __init__(self, page, studio):
        self.page, self.studio = page, studio
        self.root = page.locator("#editor")
        self.text = self.root.locator(".text")
        self.popover = self.root.get_by_role("dialog")
        self.input = self.popover.get_by_role("textbox")
        self.status = self.root.get_by_role("status")

    def boxes(self, word: str, nth: int = 0) -> list[float]:
        """left, top, right, bottom of a piece of text in the text area."""
        return self.text.evaluate(
            """(host, [word, nth]) => {
                const walker = document.createTreeWalker(host, NodeFilter.SHOW_TEXT);
                for (let node; (node = walker.nextNode());)
                    for (let at = -1; (at = node.data.indexOf(word, at + 1)) >= 0;)
                        if (nth-- === 0) {
                            const range = document.createRange();
                            range.setStart(node, at);
                            range.setEnd(node, at + word.length);
                            range.startContainer.parentElement.scrollIntoView({ block: "nearest" });
                            const box = range.getBoundingClientRect();
                            return [box.left, box.top, box.right, box.bottom];
                        }
                throw new Error("not shown: " + word);
            }""",
            [word, nth],
        )

    def drag(self, first: str, last: str | None = None, inset: float = 3):
        left, top, _, bottom = self.boxes(first)
        _, top2, right, bottom2 = self.boxes(last or first)
        mouse = self.page.mouse
        mouse.move(left + inset, (top + bottom) / 2)
        mouse.down()
        mouse.move(right - inset, (top2 + bottom2) / 2, steps=3)
        mouse.up()

    def click(self, word: str, nth: int = 0, edge: str = "middle"):
        left, top, right, bottom = self.boxes(word, nth)
        x = {"start": left + 0.5, "middle": (left + right) / 2, "end": right - 0.5}[edge]
        self.page.mouse.click(x, (top + bottom) / 2)

    def tap(self, word: str, nth: int = 0):
        left, top, right, bottom = self.boxes(word, nth)
        self.page.touchscreen.tap((left + right) / 2, (top + bottom) / 2)

    def press(self, *keys: str):
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str):
        self.page.keyboard.type(text)

    def insert(self, text: str):
        """All at once, as an input method or a screen keyboard would."""
        self.page.keyboard.insert_text(text)

    def replace(self, word: str, replacement: str):
        self.drag(word)
        self.insert(replacement)
        self.press("Enter")

    def corrected(self) -> str:
        """The answer as the page shows it in the view Corrected, then back to the first view."""
        self.root.get_by_role("radio", name="Corrected").click()
        text = self.text.evaluate("host => host.textContent")
        self.root.get_by_role("radio").first.click()
        return text

    def save(self):
        """Presses Ctrl+Enter and returns the rows the server received."""
        count = len(self.studio.received)
        self.press("Control+Enter")
        return self.wait(lambda: self.studio.received[count:])[-1].rows()

    def wait(self, happened):
        for _ in range(1200):
            if result := happened():
                return result
            self.page.wait_for_timeout(25)
        raise AssertionError("nothing arrived in 30 s")

    def show(self, document, name: str):
        """Loads another answer into the page that is open."""
        self.studio.documents[name] = document
        self.page.locator("#name textarea, #name input").fill(name)
        self.page.locator("#name textarea, #name input").press("Enter")
        shown, position = "", 0
        for edit in document.corrections:
            shown += document.original[position : edit.end] + edit.replacement
            position = edit.end
        shown += document.original[position:]
        self.page.wait_for_function("text => document.querySelector('#editor .text').textContent === text", arg=shown)


def row(original: str, old: str, new: str, kind: str, nth: int = 0) -> dict:
    start = -1
    for _ in range(nth + 1):
        start = original.index(old, start + 1)
    return {"start": start, "end": start + len(old), "text": old, "replacement": new, "kind": kind}
