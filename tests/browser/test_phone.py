"""A phone: from a photo to a shared picture by touch alone, with the soft keyboard open where a person types."""

import io
import re
from dataclasses import replace

import pytest
from PIL import Image

from tests.browser.editor_page import Editor
from tests.services.fakes import ScriptedModel

pytestmark = pytest.mark.browser
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WITH_KEYBOARD = {"width": 390, "height": 420}
QUESTION = "How many dogs sit on the long red sofa beside the window?"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 2000

SMALL_TARGETS = """() => {
  const small = [], pressed = "button, input, textarea, select, summary, a[href], [role=radio], [role=tab]";
  for (const node of document.querySelectorAll(pressed)) {
    if (node.disabled || node.closest("[aria-hidden=true], .visually-hidden, .sr-only")) continue;
    if (!node.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    // A label is as good to press as its box.
    const { width, height } = (node.matches("input") && node.closest("label") || node).getBoundingClientRect();
    if (width && (width < 43.5 || height < 43.5))
      small.push(`${node.ariaLabel || node.textContent || node.id}: ${Math.round(width)} × ${Math.round(height)}`);
  }
  return small;
}"""
COVERED = """(node) => {
  const box = node.getBoundingClientRect(), x = box.left + box.width / 2, y = box.top + Math.min(box.height / 2, 20);
  const top = document.elementFromPoint(x, y);
  return !(top && (node.contains(top) || top.contains(node)));
}"""


# Where the page scrolls to when a question is asked.
UNDER_THE_SWITCH = """() => {
  const question = document.querySelectorAll("#left-column .turn .question")[1].getBoundingClientRect();
  return Math.abs(question.top - document.querySelector("#sides").getBoundingClientRect().bottom - 12) <= 2;
}"""


class TwoMinds(ScriptedModel):
    """Two voices: the right one says much more at first, then they differ in a word in the middle of a long answer."""

    def answer_both(self, rows, sampling, image_path, stop):
        told = yield from super().answer_both(rows, sampling, image_path, stop)
        wide, soft = ["The picture is quiet and wide."], ["The light is soft."]
        if rows[0].prompt.history:
            texts = [" ".join([*wide * 12, f"There are {number} dogs.", *soft * 12]) for number in ("two", "six")]
        else:
            texts = [" ".join(soft), " ".join(wide * 12)]
        return tuple(replace(one, text=text) for one, text in zip(told, texts, strict=True))


@pytest.fixture
def phone(studio, open_page, monkeypatch):
    monkeypatch.setattr(studio.services.host, "_model", TwoMinds())
    page = open_page(studio.address, **PHONE)
    page.locator("body[data-ready]").wait_for()
    return page


def photo() -> dict:
    """3000 × 2000 pixels that a camera held on its side has to be turned for; dark on the left before that."""
    image = Image.linear_gradient("L").rotate(90).resize((3000, 2000)).convert("RGB")
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif)
    return {"name": "IMG_0001.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}


def is_in_sight(page, locator) -> bool:
    box, height = locator.bounding_box(), page.viewport_size["height"]
    return (
        bool(box) and box["y"] >= -1 and box["y"] + min(box["height"], 60) <= height and not locator.evaluate(COVERED)
    )


def word_at(page, word: str) -> list[list[float]]:
    """Its first and last corner where it is drawn; nothing is scrolled, as a thumb scrolls nothing by tapping."""
    return page.locator("#editor .text").evaluate(
        """(host, word) => {
          const walker = document.createTreeWalker(host, NodeFilter.SHOW_TEXT), range = document.createRange();
          while (walker.nextNode() && !walker.currentNode.data.includes(word));
          const at = walker.currentNode.data.indexOf(word);
          range.setStart(walker.currentNode, at);
          range.setEnd(walker.currentNode, at + word.length);
          const { left, top, right, bottom } = range.getBoundingClientRect();
          return [[left, top], [right, bottom]];
        }""",
        word,
    )


def tap(page, word: str) -> None:
    (left, top), (right, bottom) = word_at(page, word)
    assert top >= 0 and bottom <= page.viewport_size["height"]
    page.touchscreen.tap((left + right) / 2, (top + bottom) / 2)


def test_from_a_photo_to_a_shared_picture_by_touch_alone(phone, studio):
    page = phone
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a picture").tap()
    chooser.value.set_files({"name": "IMG_0001.HEIC", "mimeType": "", "buffer": HEIC})
    page.get_by_role("alert").get_by_text("HEIC photo").wait_for()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Take a photo").tap()
    assert chooser.value.element.get_attribute("capture") == "environment", "the rear camera"
    chooser.value.set_files(photo())
    shown = page.locator("#chat-picture img[src*='images/']")
    shown.wait_for()
    page.get_by_text("Made smaller for the upload: 2000 × 3000 became 1365 × 2048.").wait_for()
    name = shown.get_attribute("src").rpartition("/")[2]
    with Image.open(studio.services.chat.image_path(studio.actor, name)) as kept:
        assert kept.size == (1365, 2048), "shrunk and upright"
        assert kept.getpixel((700, 50))[0] < 60 < 200 < kept.getpixel((700, 2000))[0], "turned the right way"
    assert page.evaluate(SMALL_TARGETS) == []

    page.locator("#suggestions button").first.tap()
    page.locator("#left-column .actions").wait_for()
    # The soft keyboard takes the lower half.
    page.set_viewport_size(WITH_KEYBOARD)
    box = page.locator("#question textarea")
    assert is_in_sight(page, box), "wherever the page is scrolled"
    box.tap()
    page.keyboard.insert_text(QUESTION)
    page.locator("#question .submit-button").tap()
    left, right = (page.locator(f"#{side}-column .turn").nth(1) for side in ("left", "right"))
    left.locator(".actions").wait_for()
    page.wait_for_function(UNDER_THE_SWITCH)
    assert is_in_sight(page, left.locator(".question")) and is_in_sight(page, box)
    assert left.locator("mark").inner_text() == "two" and right.is_hidden()
    left.locator("mark").evaluate("mark => mark.scrollIntoView({ block: 'center' })")
    place, scrolled = left.locator("mark").bounding_box()["y"], page.evaluate("scrollY")
    assert is_in_sight(page, left.locator("mark"))
    page.get_by_role("radio", name="Right").tap()
    assert left.is_hidden() and right.locator("mark").inner_text() == "six"
    assert right.locator("mark").bounding_box()["y"] == pytest.approx(place, abs=2)
    assert page.evaluate("scrollY") > scrolled + 100, "past the longer first answer"
    for part in (right.locator("mark"), box, page.get_by_role("radio", name="Left")):
        assert is_in_sight(page, part)
    assert page.evaluate(SMALL_TARGETS) == []

    page.set_viewport_size(PHONE["viewport"])
    page.get_by_role("button", name="Correct the right answer").last.tap()
    editor = Editor(page, None)
    editor.text.wait_for()
    page.set_viewport_size(WITH_KEYBOARD)
    editor.tap("six")
    assert editor.popover.locator("strong").inner_text() == "“six”"
    tap(page, "dogs")
    assert editor.popover.locator("strong").inner_text() == "“six dogs”", "a second tap extends"
    tap(page, "There")
    assert editor.popover.locator("strong").inner_text() == "“There are six dogs”"
    tap(page, "six")
    assert editor.popover.locator("strong").inner_text() == "“six”", "a tap on what is selected takes it alone"
    editor.input.tap()
    page.keyboard.insert_text("three")
    top, bottom = (edge for _, edge in word_at(page, "six"))
    sheet = editor.popover.bounding_box()
    assert top >= 0 and bottom <= sheet["y"] and sheet["y"] + sheet["height"] <= 421, "the words stay in sight"
    assert page.evaluate(SMALL_TARGETS) == []
    editor.popover.get_by_role("button", name="Apply").tap()
    page.set_viewport_size(PHONE["viewport"])
    editor.root.get_by_role("button", name="Save pair").tap()
    page.set_viewport_size(WITH_KEYBOARD)
    page.locator("#annotator").get_by_role("textbox").tap()
    page.keyboard.insert_text("Bob")
    page.locator("#consent").get_by_role("checkbox").tap()
    assert page.evaluate(SMALL_TARGETS) == []
    page.locator("#terms-agree").tap()
    page.set_viewport_size(PHONE["viewport"])
    page.get_by_text(re.compile("Saved: 1 correction")).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the page scrolls sideways"

    page.get_by_role("tab", name="Chat").tap()
    page.evaluate(
        """() => {
          navigator.canShare = (data) => data.files.length === 1;
          navigator.share = async ({ files: [file] }) => {
            const bitmap = await createImageBitmap(file);
            window.handed = [file.name, file.type, bitmap.width, bitmap.height];
          };
        }"""
    )
    page.locator("#share-comparison").tap()
    page.get_by_role("button", name="Share …").wait_for()
    assert page.evaluate(SMALL_TARGETS) == []
    page.get_by_role("button", name="Share …").tap()
    page.wait_for_function("window.handed")
    name, kind, width, height = page.evaluate("window.handed")
    assert (name, kind, width) == ("comparison.png", "image/png", 1080)
    assert height > width, "one answer below the other"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the page scrolls sideways"
