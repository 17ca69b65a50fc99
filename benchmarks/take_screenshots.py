"""The pictures of the README: `make screenshots`. Starts the app on an empty folder and walks through it in Chromium.

benchmarks/pictures/chat.png, correct.png, train.png   light, 1440 × 900
benchmarks/pictures/correct_dark.png, correct_phone.png

With --tabs FOLDER every tab of a team's studio instead, light, dark and 390 pixels wide: see tab_pictures.py.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rlhfv.corrections.edits import Edit  # noqa: E402
from rlhfv.models.demo.world import DemoWorld  # noqa: E402
from rlhfv.services import build_services, local_actor  # noqa: E402
from rlhfv.settings import Settings  # noqa: E402
from tests.apps import free_port, start_app, wait_until_ready  # noqa: E402
from tests.browser.conftest import QUIET, find_chromium  # noqa: E402
from tests.browser.test_loop import correct_by_keyboard  # noqa: E402

PICTURES = ROOT / "benchmarks" / "pictures"
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


def find_telling_scene() -> tuple[Path, str, tuple[Edit, ...]]:
    """A drawn scene on which the baseline invents something and gets something else wrong, and the shipped adapter
    nothing: a file, what the baseline says of it, and what the oracle corrects there.
    """
    with tempfile.TemporaryDirectory() as folder:
        services, world, actor = build_services(Settings(data_dir=Path(folder))), DemoWorld(), local_actor()
        voices = services.host.voices(actor)
        from rlhfv.corrections.conversation import Prompt, Sampling

        with services.host.using(actor, *(voice.id for voice in voices)) as model:
            for first in range(0, 400, 40):
                drawn = [world.draw("validation", seed) for seed in range(first, first + 40)]
                prompts = [
                    Prompt(world.questions[0], (services.chat.add_image(actor, data).name,)) for data, _ in drawn
                ]
                said = [
                    model.answer_many(prompts, voice.id or None, Sampling(), services.chat.shelf.path)
                    for voice in voices[:2]
                ]
                for (data, source), baseline, aligned in zip(drawn, *said, strict=True):
                    before, after = world.measure([(source, baseline), (source, aligned)])
                    edits = world.annotate(source, world.questions[0], baseline)
                    telling = _stand_apart(edits)
                    if telling and before.invented and not after.invented and after.recalled == after.there >= 4:
                        path = Path(tempfile.mkdtemp()) / "scene.png"
                        path.write_bytes(data)
                        return path, baseline, edits
    raise SystemExit("No scene of 400 shows the difference: is the shipped adapter in place?")


def _stand_apart(edits: tuple[Edit, ...]) -> bool:
    """Whether something goes, and something behind it is replaced."""
    gone, replaced = ([edit.start for edit in edits if bool(edit.replacement) == kind] for kind in (False, True))
    return bool(gone and replaced) and gone[0] < replaced[0]


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    scene, said, edits = find_telling_scene()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        port = free_port()
        process = start_app(Path(folder) / "data", port)
        try:
            wait_until_ready(port, process)
            chromium = playwright.chromium.launch(
                executable_path=find_chromium(playwright.chromium.executable_path), args=list(QUIET)
            )
            context = chromium.new_context(viewport=DESKTOP)
            walk(context.new_page(), f"http://127.0.0.1:{port}/", scene, said, edits)
        finally:
            process.terminate()
            process.wait(30)


def walk(page, address: str, scene: Path, said: str, edits: tuple[Edit, ...]) -> None:
    page.goto(f"{address}?__theme=light")
    page.locator("body[data-ready]").wait_for(timeout=120_000)
    page.locator("#guide [data-act=close]").click()
    page.locator("#chat-picture input[type=file]").first.set_input_files(scene)
    page.locator("#chat-picture img[src*='images/']").wait_for()  # the server's own: it has the picture
    page.locator("#question textarea").fill("Describe this image in detail.")
    page.locator("#question textarea").press("Enter")
    correct = page.get_by_role("button", name="Correct the left answer")
    correct.wait_for(timeout=120_000)
    page.mouse.move(0, 0)
    page.wait_for_timeout(800)
    page.screenshot(path=PICTURES / "chat.png")

    correct.click()
    text = page.locator("#editor [contenteditable=true]")
    text.wait_for()
    replaced = next(edit for edit in edits if edit.replacement)
    correct_by_keyboard(page, said, replaced)
    page.locator("#editor ins").first.wait_for()
    # What was replaced stands behind, so that the other place is where it was.
    invented = next(edit for edit in edits if not edit.replacement)
    text.focus()
    page.keyboard.press("Control+Home")
    for _ in range(invented.start):
        page.keyboard.press("ArrowRight")
    for _ in range(invented.end - invented.start):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_timeout(800)
    page.screenshot(path=PICTURES / "correct.png")
    page.keyboard.press("Escape")
    for name, theme, size in (("correct_dark", "dark", DESKTOP), ("correct_phone", "dark", PHONE)):
        page.set_viewport_size(size)
        page.goto(f"{address}?tab=correct&__theme={theme}")
        page.locator("#editor ins").first.wait_for()
        page.wait_for_timeout(800)
        if size is PHONE:
            page.locator("#editor").evaluate("editor => editor.scrollIntoView({ block: 'end' })")
        page.screenshot(path=PICTURES / f"{name}.png")

    page.set_viewport_size(DESKTOP)
    page.goto(f"{address}?tab=train&__theme=light")
    page.locator("body[data-ready]").wait_for()
    page.locator("#oracle-count input").fill("200")
    page.locator("#add-oracle").click()
    page.get_by_text("oracle pairs added").wait_for(timeout=300_000)
    page.locator("#start-run").click()
    page.locator("#run-heading").get_by_role("button", name="Chat with it").wait_for(timeout=600_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=PICTURES / "train.png")


if __name__ == "__main__":
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tabs", type=Path, metavar="FOLDER", help="every tab in every look, into this folder")
    folder = parser.parse_args().tabs
    if folder:
        from benchmarks.tab_pictures import take

        take(folder)
    else:
        main()
