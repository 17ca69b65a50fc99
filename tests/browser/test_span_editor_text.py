"""Any text in the inline editor: offsets on the wire, hostile and huge answers, what assistive technology sees."""

import random
import time

import pytest

from rlhfv.corrections.edits import KIND_WORDS, infer_kind
from tests.browser.editor_page import row

pytestmark = pytest.mark.browser

HOSTILE = (
    "<img src=x onerror=window.ran=1> ${window.ran=2} {{window.ran=3}} `${window.ran=4}` \\u{zz} "
    "</script><script>window.ran=5</script> a\u202ebc\u2069 end"
)


def test_offsets_are_code_points(open_editor):
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
        editor.insert(new)
        editor.press("Enter")
        assert editor.corrected() == text.replace(old, new)
        assert editor.save() == [row(text, old, new, kind)], text
    # half of a grapheme cannot be taken, not even exactly
    editor.show(SpanEditor.document("a 👨‍👩‍👧 b", "family", []), "family")
    editor.text.focus()
    editor.press("Control+Home", "ArrowRight", "ArrowRight", "Shift+ArrowRight", "Delete")
    assert editor.save()[0]["text"] == " 👨‍👩‍👧"


def test_hostile_text_is_only_text(open_editor):
    editor = open_editor(HOSTILE, [row(HOSTILE, "zz", HOSTILE, "other")])
    assert editor.text.evaluate("host => [...host.querySelectorAll('img, script')].length") == 0
    assert editor.corrected() == HOSTILE.replace("zz", HOSTILE)
    assert editor.text.locator(".mark").first.get_attribute("data-mark") == "RLO"
    editor.drag("img", "src")
    editor.insert(HOSTILE)
    editor.press("Enter")
    editor.click("end", nth=2, edge="start")
    editor.press("Shift+End")
    editor.type("fin")
    rows = editor.save()  # takes what stands in the popover, too
    assert [edit["text"] for edit in rows] == ["img src", "zz", "end"]
    assert rows[0]["replacement"] == HOSTILE
    assert editor.page.evaluate("window.ran") is None


def test_an_answer_of_100_000_characters(open_editor):
    text = ("The dog sees a cat. " * 5000)[:99_980] + " and one last zebra."
    editor = open_editor(text, [row(text, "cat", "bird", "object", nth) for nth in range(0, 4000, 40)])
    started = time.monotonic()
    editor.text.focus()
    editor.press("Control+End", "ArrowLeft", "Control+Shift+ArrowLeft")
    editor.type("horse")
    editor.press("Enter")
    assert editor.status.inner_text() == "Replaced “zebra” with “horse”, object"
    assert time.monotonic() - started < 15  # 0.4 s on two busy cores
    assert editor.save()[-1] == row(text, "zebra", "horse", "object")


def test_an_answer_full_of_invisible_characters(open_editor):
    editor = open_editor("a\u202eb\u202c\u0001" * 19_000 + " dog")
    assert editor.text.locator(".mark").count() < 500
    editor.text.focus()
    editor.press("Control+End", "Control+Shift+ArrowLeft")
    editor.type("cat")
    editor.press("Enter")
    assert editor.save() == [{"start": 95_001, "end": 95_004, "text": "dog", "replacement": "cat", "kind": "object"}]


def test_accessible_tree(open_editor):
    editor = open_editor("A dog here.", [row("A dog here.", "dog", "cat", "object")])
    wait_for_tree(editor.root, ARIA)
    editor.drag("here")
    wait_for_tree(editor.popover, ARIA_POPOVER)


def wait_for_tree(part, wanted):
    """On a busy machine Gradio shows for a moment how long it has been at work."""
    until = time.monotonic() + 10
    while part.aria_snapshot() != wanted and time.monotonic() < until:
        time.sleep(0.1)
    assert part.aria_snapshot() == wanted


ARIA = """\
- toolbar "Answer":
  - radiogroup "View":
    - radio "Edit" [checked]
    - radio "Original"
    - radio "Corrected"
  - switch "Show suspect words" [checked]
  - button "Undo" [disabled]
  - button "Redo" [disabled]
  - button "Remove all corrections"
- textbox "Answer, select what is wrong":
  - button "Replaced “dog” with “cat”, object. Enter changes it, Delete removes it.":
    - deletion: dog
    - insertion: cat
- list "Corrections":
  - listitem:
    - text: object
    - deletion: dog
    - text: →
    - insertion: cat
    - 'button "Edit: Replaced “dog” with “cat”, object"': Edit
    - 'button "Remove: Replaced “dog” with “cat”, object"'
- text: Select words, then type · Del deletes · Enter at the caret inserts · Alt+drag takes single letters · \
Ctrl+Enter saves the pair
- status
- text: 1 correction
- button "Save pair\""""
ARIA_POPOVER = """\
- dialog "Correct “here”":
  - text: Replace
  - strong: “here”
  - textbox "Replacement":
    - /placeholder: What it should say
  - radiogroup "Kind of error":
    - radio "object" [checked]
    - radio "position"
    - radio "number"
    - radio "attribute"
    - radio "action"
    - radio "other"
  - paragraph: A thing, person or animal that is not there, or is something else.
  - button "Delete text"
  - button "Cancel"
  - button "Apply" [disabled]"""


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
    pick = lambda: " ".join(chance.choices([*words, *others * 8], k=chance.choice((0, 1, 2, 3, 4, 8))))  # noqa: E731
    cases = [[pick(), pick()] for _ in range(1500)]
    assert text_functions("([before, after]) => inferKind(before, after)", cases) == [
        infer_kind(*case) for case in cases
    ]


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
            assert text[start:end].strip() in text[slice(*exact)]
            assert words[0] < words[1]
            assert exact == words or words[0] <= exact[0] < exact[1] <= words[1]
            assert not text[exact[0] :].startswith(("\u0301", "\u200d", "🏽"))
