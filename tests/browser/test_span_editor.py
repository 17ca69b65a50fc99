"""The inline editor in a real Chromium: every gesture, and what the server receives of it."""

import itertools
import random
import time

import pytest

from rlhfv.corrections.edits import KIND_WORDS, infer_kind

pytestmark = pytest.mark.browser

DOG = "The image shows a black dog on a red sofa next to two children."
HOSTILE = (
    "<img src=x onerror=window.ran=1> ${window.ran=2} {{window.ran=3}} `${window.ran=4}` \\u{zz} "
    "</script><script>window.ran=5</script> a\u202ebc\u2069 end"
)


class Studio:
    """The server's side: answers by id, and every document that the editor sent."""

    def __init__(self):
        self.documents, self.received, self.drafts = {}, [], []

    def build(self):
        import gradio as gr

        from rlhfv.studio.span_editor import SpanEditor

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
            editor.submit(self.received.append, editor, None, **quiet)
            editor.input(self.drafts.append, editor, None, **quiet)
        return demo


@pytest.fixture(scope="module")
def studio(serve):
    studio = Studio()
    studio.url = serve(studio.build())
    return studio


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

    def replace(self, word: str, replacement: str):
        self.drag(word)
        self.type(replacement)
        self.press("Enter")

    def corrected(self) -> str:
        """The answer as the page shows it in the view Corrected, then back to Edit."""
        self.root.get_by_role("radio", name="Corrected").click()
        text = self.text.evaluate("host => host.textContent")
        self.root.get_by_role("radio", name="Edit").click()
        return text

    def save(self):
        """Presses Ctrl+Enter and returns the rows the server received."""
        count = len(self.studio.received)
        self.press("Control+Enter")
        return self.wait(lambda: self.studio.received[count:])[-1].rows()

    def wait(self, happened):
        for _ in range(200):
            if result := happened():
                return result
            self.page.wait_for_timeout(25)
        raise AssertionError("nothing arrived in 5 s")

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


@pytest.fixture
def open_editor(studio, open_page):
    from rlhfv.studio.span_editor import SpanEditor

    numbers = itertools.count()

    def open_editor(original=DOG, corrections=(), readonly=False, hints=(), answer_id=None, **options) -> Editor:
        name = answer_id or f"{time.monotonic_ns()}-{next(numbers)}"
        document = SpanEditor.document(original, name, corrections, readonly)
        studio.documents[name] = document.model_copy(update={"hints": list(hints)})
        page = open_page(f"{studio.url}?answer={name}", **options)
        page.wait_for_selector("#editor .text:not([hidden])" if original else "#editor .empty")
        return Editor(page, studio)

    return open_editor


def row(original: str, old: str, new: str, kind: str, nth: int = 0) -> dict:
    start = -1
    for _ in range(nth + 1):
        start = original.index(old, start + 1)
    return {"start": start, "end": start + len(old), "text": old, "replacement": new, "kind": kind}


def test_mouse_replaces_whole_words_and_saves(open_editor):
    editor = open_editor()
    editor.drag("ack", "do")  # inside both words
    assert editor.popover.get_by_text("“black dog”").is_visible()
    editor.type("brown cat")
    editor.press("Enter")
    editor.replace("two", "three")
    assert editor.popover.is_hidden()
    assert editor.status.inner_text() == "Replaced “two” with “three”, number"
    assert editor.corrected() == "The image shows a brown cat on a red sofa next to three children."
    drafts = editor.wait(lambda: editor.studio.drafts[-1:])
    editor.text.focus()
    rows = editor.save()
    assert rows == [row(DOG, "black dog", "brown cat", "attribute"), row(DOG, "two", "three", "number")]
    assert editor.wait(lambda: editor.studio.drafts[-1].rows() == rows) and drafts


def test_the_selection_shows_what_it_will_take(open_editor):
    editor = open_editor(corrections=[row(DOG, "red sofa", "bench", "object")])
    painted = "[...CSS.highlights.get('span-editor-pending') ?? []].map(range => range.toString()).join('|')"
    left, top, _, bottom = editor.boxes("black")
    _, _, right, _ = editor.boxes("dog")
    editor.page.mouse.move(left + 12, (top + bottom) / 2)
    editor.page.mouse.down()
    editor.page.mouse.move(right - 12, (top + bottom) / 2, steps=3)
    assert editor.page.evaluate(painted) == "black dog"
    _, _, right, _ = editor.boxes("red")
    editor.page.mouse.move(right - 3, (top + bottom) / 2, steps=3)
    # a correction is taken whole
    assert editor.page.evaluate(painted) == "black dog on a red sofabench"
    editor.page.mouse.up()
    assert editor.input.input_value() == "black dog on a bench"
    editor.press("Escape")
    assert editor.popover.is_hidden()
    assert editor.page.evaluate("document.getSelection().toString()") == "black dog on a red sofabench"


def test_alt_drag_takes_single_letters_and_touched_corrections_are_swallowed(open_editor):
    editor = open_editor("Two dogs and a cat here.", [row("Two dogs and a cat here.", "cat", "bird", "object")])
    editor.page.keyboard.down("Alt")
    editor.drag("s and", "s and", inset=0.5)
    editor.page.keyboard.up("Alt")
    assert editor.popover.get_by_text("“s and”").is_visible()
    editor.press("Escape")
    editor.drag("and", "bir")
    assert editor.input.input_value() == "and a bird"
    editor.type("near a bird")
    editor.press("Enter")
    assert editor.save() == [row("Two dogs and a cat here.", "and a cat", "near a bird", "position")]


def test_keyboard_alone(open_editor):
    editor = open_editor("A blue dog sits here.")
    editor.text.focus()
    editor.press("Control+Home", "ArrowRight", "ArrowRight")
    editor.press("Control+Shift+ArrowRight")  # "blue " or "blue", by platform
    editor.press("Shift+End", "Control+Home", "ArrowRight", "ArrowRight", *["Shift+ArrowRight"] * 4)
    editor.type("r")  # opens with the first letter in place
    assert editor.input.input_value() == "r"
    editor.type("ed")
    editor.press("Enter")
    assert editor.status.inner_text() == "Replaced “blue” with “red”, attribute"
    # the caret stands behind the correction: Delete shows the next word, then takes it with a blank
    editor.press("Delete")
    assert "“dog”" in editor.status.inner_text()
    editor.press("Delete")
    assert editor.corrected() == "A red sits here."
    editor.text.focus()
    editor.press("Control+End", "ArrowLeft", "Enter")  # inserts at a bare caret
    editor.type(" now")
    editor.press("Enter")
    assert editor.corrected() == "A red sits here now."
    editor.root.get_by_role("button", name="Replaced “blue”").first.focus()
    editor.press("Alt+Digit6")
    editor.press("Delete")
    assert editor.corrected() == "A blue sits here now."
    editor.text.focus()
    editor.press("Control+z", "Control+z")
    assert [edit["kind"] for edit in editor.save()] == ["attribute", "object", "object"]
    editor.press("Control+Shift+z")
    assert [edit["kind"] for edit in editor.save()] == ["other", "object", "object"]


def test_deleting_leaves_no_double_blank(open_editor):
    text = "Blue sky, a (red) dog, two cats and one bird."
    editor = open_editor(text)
    for word in ("Blue", "dog", "two", "bird"):
        editor.drag(word)
        editor.press("Delete")
    assert editor.corrected() == "sky, a (red), cats and one."
    editor.drag("red")
    editor.popover.get_by_role("button", name="Delete text").click()
    assert editor.corrected() == "sky, a (), cats and one."


def test_edit_remove_undo_redo_clear(open_editor):
    editor = open_editor()
    editor.replace("dog", "cat")
    editor.root.get_by_role("button", name="Edit: Replaced “dog”").click()
    assert editor.input.input_value() == "cat"
    editor.type("horse")
    editor.press("Enter")
    assert "black horse" in editor.corrected()
    editor.root.locator(".chip").click()
    editor.popover.get_by_role("button", name="Remove correction").click()
    assert editor.corrected() == DOG
    undo, redo = (editor.root.get_by_role("button", name=name) for name in ("Undo", "Redo"))
    undo.click()
    assert "black horse" in editor.corrected()
    undo.click()
    undo.click()
    assert undo.is_disabled() and editor.corrected() == DOG
    redo.click()
    assert "black cat" in editor.corrected()
    editor.root.get_by_role("button", name="Remove all corrections").click()
    assert editor.corrected() == DOG
    undo.click()
    # typing the original back is no correction
    editor.root.locator(".chip").click()
    editor.type("dog")
    editor.press("Enter")
    assert editor.corrected() == DOG and editor.root.locator(".list li").count() == 0
    editor.root.get_by_role("button", name="Save pair").press("Enter")
    assert "at least one" in editor.status.inner_text()


def test_kind_is_inferred_until_it_is_chosen(open_editor):
    editor = open_editor()
    chosen = editor.popover.locator("[aria-checked=true]")
    editor.drag("sofa")
    assert chosen.inner_text() == "object"
    editor.type("three")
    assert chosen.inner_text() == "number"
    editor.press("Alt+Digit2")
    editor.type(" sofas")
    assert chosen.inner_text() == "position"
    assert editor.popover.locator(".meaning").inner_text() == "Where something is, alone or beside other things."
    editor.press("Enter")
    editor.root.locator(".chip").click()
    assert chosen.inner_text() == "position"
    editor.type("couch")  # a kind that a person chose stays when the correction is edited
    assert chosen.inner_text() == "position"
    editor.press("Tab", "Tab", "Tab", "Tab", "Tab")  # stays inside the dialog
    assert editor.page.evaluate("document.activeElement.closest('.popover') !== null")


def test_draft_and_undo_survive_a_reload(open_editor, open_page):
    editor = open_editor()
    editor.replace("dog", "cat")
    editor.replace("two", "three")
    editor.wait(lambda: len(editor.studio.drafts) and len(editor.studio.drafts[-1].corrections) == 2)
    draft = editor.studio.drafts[-1]
    editor.studio.documents[draft.answer_id] = draft  # what the store does
    open_page.reload(editor.page)
    editor.root.locator(".chip").nth(1).wait_for()
    editor.text.focus()
    editor.press("Control+z", "Control+z")
    assert editor.corrected() == DOG
    editor.text.focus()
    editor.press("Control+y")
    assert editor.save() == [row(DOG, "dog", "cat", "object")]


def test_input_method_and_paste(open_editor):
    editor = open_editor("看板に犬がいます")
    session = editor.page.context.new_cdp_session(editor.page)
    editor.text.focus()
    editor.press("Control+Home", *["ArrowRight"] * 3, "Shift+ArrowRight")  # 犬
    session.send("Input.imeSetComposition", {"text": "ね", "selectionStart": 1, "selectionEnd": 1})
    session.send("Input.imeSetComposition", {"text": "ねこ", "selectionStart": 2, "selectionEnd": 2})
    session.send("Input.insertText", {"text": "猫"})
    editor.popover.wait_for()
    assert editor.input.input_value() == "猫"
    assert editor.text.evaluate("host => host.textContent") == "看板に犬がいます"
    editor.press("Enter")
    editor.text.focus()
    editor.press("Control+End")
    editor.page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.setData("text/plain", "。\\r\\nまた明日");
            data.setData("text/html", "<b onclick=1>x</b>");
            document.querySelector("#editor .text").dispatchEvent(new InputEvent("beforeinput",
                { inputType: "insertFromPaste", dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
    )
    assert editor.input.input_value() == "。\nまた明日"
    editor.press("Enter")
    assert editor.corrected() == "看板に猫がいます。\nまた明日"
    assert editor.save() == [
        {"start": 3, "end": 4, "text": "犬", "replacement": "猫", "kind": "object"},
        {"start": 8, "end": 8, "text": "", "replacement": "。\nまた明日", "kind": "object"},
    ]


def test_copy_takes_the_corrected_text(open_editor):
    editor = open_editor("A dog here.", [row("A dog here.", "dog", "cat", "object")])
    editor.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    editor.text.focus()
    editor.press("Control+a", "Control+c")
    assert editor.page.evaluate("navigator.clipboard.readText()") == "A cat here."
    editor.press("Control+x")
    assert editor.corrected() == ""
    assert editor.save()[0] == {"start": 0, "end": 11, "text": "A dog here.", "replacement": "", "kind": "object"}


def test_offsets_are_code_points(open_editor, studio):
    from rlhfv.studio.span_editor import SpanEditor

    cases = [
        ("Here 👨‍👩‍👧 and 🇩🇪 with a dog.", "dog", "cat", "object"),
        ("𝔘𝔫𝔦 and two cafe\u0301s", "two", "three", "number"),
        ("数独が二つあります。犬もいます。", "数独", "看板", "object"),
        ("🙂" * 60 + " a red dog", "red", "grün 🟢", "attribute"),
    ]
    editor = open_editor("first")
    for number, (text, old, new, kind) in enumerate(cases):
        editor.show(SpanEditor.document(text, f"unicode-{number}", []), f"unicode-{number}")
        editor.drag(old, inset=2)
        assert editor.popover.locator("strong").inner_text() == f"“{old}”"
        editor.type(new)
        editor.press("Enter")
        assert editor.corrected() == text.replace(old, new)
        assert editor.save() == [row(text, old, new, kind)], text
    # half of a grapheme cannot be taken, not even exactly
    editor.show(SpanEditor.document("a 👨‍👩‍👧 b", "family", []), "family")
    editor.text.focus()
    editor.press("Control+Home", "ArrowRight", "ArrowRight", "Shift+ArrowRight", "Delete")
    assert editor.save()[0]["text"] == " 👨‍👩‍👧"


def test_touch_only_at_390_pixels(open_editor):
    editor = open_editor(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800})
    page = editor.page
    tap = lambda name: editor.popover.get_by_role("button", name=name, exact=True).tap()  # noqa: E731
    editor.tap("two")
    assert editor.popover.locator("strong").inner_text() == "“two”"
    # the keyboard of the device stays closed until the input is tapped
    assert page.evaluate("document.activeElement.tagName") == "DIV"
    tap("End one word later")
    tap("Start one word earlier")
    assert editor.popover.locator("strong").inner_text() == "“to two children”"
    tap("Start one word later")
    tap("End one word earlier")
    editor.input.tap()
    editor.input.fill("three")
    tap("Apply")
    editor.tap("dog")
    tap("Insert after")
    editor.input.fill(" sleeping")
    tap("Apply")
    editor.tap("red")
    tap("Delete text")
    # a selection made with the handles
    editor.text.evaluate(
        """host => {
            const node = document.createTreeWalker(host, NodeFilter.SHOW_TEXT).nextNode();
            document.getSelection().setBaseAndExtent(node, 5, node, 12);
        }"""
    )
    editor.root.get_by_role("button", name="Correct", exact=True).tap()
    assert editor.popover.locator("strong").inner_text() == "“image shows”"
    tap("Cancel")
    count = len(editor.studio.received)
    editor.root.get_by_role("button", name="Save pair").tap()
    rows = editor.wait(lambda: editor.studio.received[count:])[-1].rows()
    assert [(edit["text"], edit["replacement"]) for edit in rows] == [("", " sleeping"), (" red", ""), ("two", "three")]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for width in (390, 360):
        page.set_viewport_size({"width": width, "height": 800})
        editor.tap("sofa")
        tops = editor.popover.locator(".buttons button").evaluate_all("all => all.map(b => b.getBoundingClientRect().top)")
        assert len(set(tops)) == 1, f"the buttons wrap at {width} px"
        box = editor.popover.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        tap("Cancel")


def test_readonly_empty_and_hidden(open_editor, studio):
    from rlhfv.studio.span_editor import SpanEditor

    editor = open_editor("")
    assert "No answer to correct" in editor.root.locator(".empty").inner_text()
    editor.show(SpanEditor.document(DOG, "pair", [row(DOG, "two", "three", "number")], readonly=True), "pair")
    assert editor.root.get_by_role("button").count() == 0
    editor.drag("black", "dog")
    editor.type("x")
    editor.press("Enter", "Delete", "Control+Enter")
    assert editor.popover.is_hidden() and editor.corrected() == DOG.replace("two", "three")
    assert editor.root.get_by_role("radio", name="Original").is_visible()
    editor.show(SpanEditor.document(DOG, "again", []), "again")
    editor.replace("dog", "cat")
    # a property set from Python must not lose the rest of a component that is mounted anew
    editor.page.get_by_role("button", name="Hide").click()
    editor.root.wait_for(state="detached")
    editor.page.get_by_role("button", name="Show").click()
    editor.root.locator(".chip").wait_for()
    editor.replace("two", "three")
    assert [edit["replacement"] for edit in editor.save()] == ["cat", "three"]


def test_hostile_text_is_only_text(open_editor):
    editor = open_editor(HOSTILE, [row(HOSTILE, "zz", HOSTILE, "other")])
    assert editor.text.evaluate("host => [...host.querySelectorAll('img, script')].length") == 0
    assert editor.corrected() == HOSTILE.replace("zz", HOSTILE)
    assert editor.text.locator(".mark").first.get_attribute("data-mark") == "RLO"
    editor.drag("img", "src")
    editor.type(HOSTILE)
    editor.press("Enter")
    editor.click("end", nth=2, edge="start")
    editor.press("Shift+End")
    editor.type("fin")
    rows = editor.save()  # takes what stands in the popover, too
    assert [edit["text"] for edit in rows] == ["img src", "zz", "end"]
    assert rows[0]["replacement"] == HOSTILE
    assert editor.page.evaluate("window.ran") is None


def test_a_forged_document_is_refused_with_a_reason(open_editor):
    editor = open_editor()
    count = len(editor.studio.received)

    def forge(route):
        body = route.request.post_data.replace('"end":27', '"end":2700').replace('"kind":"object"', '"kind":"<img src=x>"')
        route.continue_(post_data=body)

    editor.page.route("**/queue/join*", forge)
    editor.replace("dog", "cat")
    toast = editor.page.get_by_text("The answer has 63 characters")
    toast.wait_for()
    assert len(editor.studio.received) == count


def test_an_answer_of_100_000_characters(open_editor):
    text = ("The dog sees a cat. " * 5000)[:99_980] + " and one last zebra."
    editor = open_editor(text, [row(text, "cat", "bird", "object", nth) for nth in range(0, 4000, 40)])
    started = time.monotonic()
    editor.text.focus()
    editor.press("Control+End", "ArrowLeft", "Control+Shift+ArrowLeft")
    editor.type("horse")
    editor.press("Enter")
    assert editor.status.inner_text() == "Replaced “zebra” with “horse”, object"
    assert time.monotonic() - started < 4
    assert editor.save()[-1] == row(text, "zebra", "horse", "object")


def test_an_answer_full_of_invisible_characters(open_editor):
    editor = open_editor("a\u202eb\u202c\u0001" * 19_000 + " dog")
    assert editor.text.locator(".mark").count() < 500
    editor.text.focus()
    editor.press("Control+End", "Control+Shift+ArrowLeft")
    editor.type("cat")
    editor.press("Enter")
    assert editor.save() == [{"start": 95_001, "end": 95_004, "text": "dog", "replacement": "cat", "kind": "object"}]


def test_hints_are_offered(open_editor):
    from rlhfv.studio.span_editor import Hint

    hints = [Hint(start=18, end=27, score=0.9, kind="object"), Hint(start=50, end=53, score=0.5, kind="position")]
    editor = open_editor(hints=hints)
    editor.text.focus()
    editor.press("F8")
    assert editor.popover.locator("strong").inner_text() == "“black dog”"
    editor.press("Escape", "F8")
    assert editor.popover.locator("strong").inner_text() == "“two”"
    editor.type("three")
    editor.press("Enter")
    assert editor.root.get_by_role("button", name="Next doubtful span").inner_text() == "1"
    assert editor.save() == [row(DOG, "two", "three", "position")]


def test_accessible_tree(open_editor):
    editor = open_editor("A dog here.", [row("A dog here.", "dog", "cat", "object")])
    assert editor.root.aria_snapshot() == ARIA
    editor.drag("here")
    assert editor.popover.aria_snapshot() == ARIA_POPOVER


ARIA = ""
ARIA_POPOVER = ""


@pytest.fixture(scope="module")
def text_functions(browser):
    """The pure functions of the script in an empty page."""
    from rlhfv.studio.span_editor.editor import read_asset, read_script

    head = "\n".join(read_script().split("\n")[:2])
    page = browser.new_page()

    def call(body: str, cases: list):
        return page.evaluate(f"cases => {{ {head}\n{read_asset('text.js')}\nreturn cases.map({body}); }}", cases)

    yield call
    page.close()


def test_kinds_are_inferred_as_in_python(text_functions):
    words = [word for group in KIND_WORDS.values() for word in group]
    others = ["dog", "Cat", "3", "٣", "don't", "sleeping", "king", "CAFÉ", "犬", "", "…", "the", "RED", "İstanbul"]
    chance = random.Random(7)
    pick = lambda: " ".join(chance.choices([*words, *others * 8], k=chance.randint(0, 4)))  # noqa: E731
    cases = [[pick(), pick()] for _ in range(1500)]
    assert text_functions("([before, after]) => inferKind(before, after)", cases) == [infer_kind(*case) for case in cases]


def test_offsets_agree_with_python_for_any_text(text_functions):
    chance = random.Random(8)
    pieces = ["a", " ", "b c", "é", "e\u0301", "👨‍👩‍👧", "🇩🇪", "𝔘", "犬", "\n", "\u202e", "ก็", "👍🏽", ".", "“"]
    cases = []
    for _ in range(800):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 12)))
        start, end = sorted(chance.choices(range(len(text) + 1), k=2))
        cases.append([text, start, end])
    body = """([text, start, end]) => {
        const source = new SourceText(text);
        const range = { start: source.units(start), end: source.units(end) };
        const exact = source.snap(range.start, range.end, true);
        const words = source.snap(range.start, range.end, false);
        const back = [range, exact, words].map((r) => [source.points(r.start), source.points(r.end)]);
        return [source.slice(range), ...back, splitMarks(text).map((piece) => piece.text).join("")];
    }"""
    for (text, start, end), (taken, plain, exact, words, joined) in zip(
        cases, text_functions(body, cases), strict=True
    ):
        assert taken == text[start:end] and plain == [start, end] and joined == text
        if start < end:
            assert exact[0] <= start and exact[1] >= end
            assert words[0] < words[1]
            assert not text[exact[0] :].startswith(("\u0301", "\u200d", "🏽"))
