"""The inline editor in a real Chromium: every gesture, and what the server receives of it."""

import pytest

from tests.browser.editor_page import DOG, row

pytestmark = pytest.mark.browser


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
    editor.text.focus()
    rows = editor.save()
    assert rows == [row(DOG, "black dog", "brown cat", "attribute"), row(DOG, "two", "three", "number")]
    assert editor.wait(lambda: [draft.rows() for draft in editor.studio.drafts if draft.rows() == rows])


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
    left, top, right, bottom = editor.boxes("here")
    editor.page.mouse.dblclick((left + right) / 2, (top + bottom) / 2)
    assert editor.popover.locator("strong").inner_text() == "“here”"
    editor.press("Escape")
    editor.click("Two", edge="start")
    editor.page.keyboard.down("Shift")
    editor.click("dogs", edge="end")
    editor.page.keyboard.up("Shift")
    assert editor.popover.locator("strong").inner_text() == "“Two dogs”"
    editor.press("Escape")
    editor.drag("and", "bir")  # starts beside what is still selected
    assert editor.input.input_value() == "and a bird"
    editor.insert("near a bird")
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
    editor.insert(" now")
    editor.press("Enter")
    assert editor.corrected() == "A red sits here now."
    editor.text.focus()
    editor.press("Control+Home")
    editor.insert("Now")  # a word before a word gets its blank
    editor.press("Enter")
    assert editor.corrected() == "Now A red sits here now."
    editor.text.focus()
    editor.press("Control+z")
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


def test_a_save_while_another_is_on_its_way_is_not_lost(open_editor):
    editor = open_editor()
    editor.replace("dog", "cat")
    editor.replace("two", "three")
    editor.text.focus()
    count, editor.studio.delay = len(editor.studio.received), 0.5
    try:
        editor.press("Control+Enter", "Control+z", "Control+Enter")
        first, last = editor.wait(lambda: len(editor.studio.received) >= count + 2 and editor.studio.received[count:])
    finally:
        editor.studio.delay = 0.0
    assert [len(document.corrections) for document in (first, last)] == [2, 1]


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
    assert [(edit["text"], edit["replacement"]) for edit in rows] == [
        ("", " sleeping"),
        (" red", ""),
        ("two", "three"),
    ]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for width in (390, 360):
        page.set_viewport_size({"width": width, "height": 800})
        editor.tap("sofa")
        tops = editor.popover.locator(".buttons button").evaluate_all(
            "all => all.map(b => b.getBoundingClientRect().top)"
        )
        assert len(set(tops)) == 1, f"the buttons wrap at {width} px"
        box = editor.popover.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        tap("Cancel")


KEYBOARD = """(height) => {
  const seen = window.wholeViewport ??= window.visualViewport;
  Object.defineProperty(window, "visualViewport", { value: { scale: 1, offsetTop: 0, height }, configurable: true });
  seen.dispatchEvent(new Event("resize"));
}"""


@pytest.mark.parametrize("touch", [True, False], ids=["touch", "mouse"])
def test_the_popover_covers_no_selection_however_little_can_be_seen(open_editor, touch):
    """A soft keyboard hides the foot of the window without making the window smaller."""
    original = "\n".join(f"Line {number:02} shows a dog." for number in range(40))
    editor = open_editor(original, has_touch=touch, is_mobile=touch, viewport={"width": 390, "height": 844})
    for height, line in ((844, 2), (844, 39), (420, 20), (420, 39), (300, 30), (420, 0)):
        word = f"{line:02}"
        editor.page.evaluate(KEYBOARD, height)
        editor.boxes(word)
        editor.page.evaluate("(top) => scrollBy(0, top - 150)", editor.boxes(word)[1])
        editor.tap(word) if touch else editor.drag(word)
        editor.popover.wait_for()
        assert editor.popover.locator("strong").inner_text() == f"“{word}”"
        top, bottom = editor.page.evaluate(
            """() => {
              const [range] = CSS.highlights.get("span-editor-pending");
              const { top, bottom } = range.getBoundingClientRect();
              return [top, bottom];
            }"""
        )
        box = editor.popover.bounding_box()
        assert top >= 0 and bottom <= height, (height, line, "the words are in sight")
        assert box["y"] >= -1 and box["y"] + box["height"] <= height + 1, (height, line, "and so is the popover")
        assert bottom <= box["y"] or box["y"] + box["height"] <= top, (height, line)
        editor.press("Escape")


def test_readonly_empty_and_hidden(open_editor):
    from rlhfv.studio.span_editor import SpanEditor

    editor = open_editor("")
    assert "No answer to correct" in editor.root.locator(".empty").inner_text()
    editor.show(SpanEditor.document(DOG, "pair", [row(DOG, "two", "three", "number")], readonly=True), "pair")
    assert editor.root.get_by_role("button").count() == 0
    assert editor.root.get_by_role("radio").all_inner_texts() == ["Changes", "Original", "Corrected"]
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


def test_a_forged_document_is_refused_with_a_reason(open_editor):
    editor = open_editor()
    count = len(editor.studio.received)

    def forge(route):
        body = route.request.post_data.replace('"end":27', '"end":2700').replace(
            '"kind":"object"', '"kind":"<img src=x>"'
        )
        route.continue_(post_data=body)

    editor.page.route("**/queue/join*", forge)
    editor.replace("dog", "cat")
    toast = editor.page.get_by_text("The answer has 63 characters")
    toast.wait_for()
    assert len(editor.studio.received) == count


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
    assert editor.root.get_by_role("button", name="Next suspect").inner_text() == "1"
    assert editor.save() == [row(DOG, "two", "three", "position")]
