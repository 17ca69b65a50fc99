"""Every tab with something in it, light, dark and 390 pixels wide, to look at before a release.

`python benchmarks/take_screenshots.py --tabs FOLDER`
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.tasks import NewTask
from rlhfv.errors import InvalidData
from rlhfv.models.demo.world import DemoWorld
from rlhfv.services import build_services
from rlhfv.services.people import People
from rlhfv.services.queue import Item
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings
from rlhfv.studio.wiring import NAMES
from tests.apps import free_port, start_app, wait_until_ready
from tests.browser.conftest import QUIET, find_chromium
from tests.services.made_benchmark import BENCHMARK, make_amber, make_answers, write_amber_answers

PASSWORD = "four words are long"
PEOPLE = (("Olga", "owner"), ("Ray", "reviewer"), ("Ann", "annotator"), ("Bo", "annotator"))
SCENES = 24
LOOKS = {"light": ("light", 1440), "dark": ("dark", 1440), "phone": ("light", 390), "phone_dark": ("dark", 390)}
PARTS = {"evaluate": ("Benchmarks", "Leaderboard")}
"""Parts of a tab that have a tab of their own, besides the one that it opens with."""
ITEMS = 40
LONGEST = 2600
"""Pixels of a page that are taken; lists go on below."""


def take(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        data_dir, people = Path(temporary) / "data", People(Path(temporary) / "users.json")
        for name, role in PEOPLE:
            people.add(name, role, PASSWORD)
        settings = Settings(data_dir, single_user=False, team=True, auth=people.path)
        fill(settings, people)
        take_answers_in(settings, people, Path(temporary))
        port = free_port()
        flags = {"RLHFV_FLAGS": f"--auth {people.path}", "HF_HUB_OFFLINE": "1"}
        process = start_app(data_dir, port, environment={**os.environ, **flags})
        try:
            wait_until_ready(port, process)
            chromium = playwright.chromium.launch(
                executable_path=find_chromium(playwright.chromium.executable_path), args=list(QUIET)
            )
            address = f"http://127.0.0.1:{port}/"
            page = sign_in(chromium, address, viewport={"width": 1440, "height": 900})
            phone = sign_in(chromium, address, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
            look(page, phone, address, ["chat"], folder, "welcome")
            work(page, address)
            look(page, phone, address, NAMES, folder)
        finally:
            process.terminate()
            process.wait(30)


def fill(settings: Settings, people: People) -> None:
    """A queue of scenes with answers, corrections of two annotators, and a reviewer who has begun."""
    services, world, owner = build_services(settings), DemoWorld(), people.actor("Olga")
    services.queue.change_settings(
        owner, second_share=0.5, gold_share=0.0, guideline="Mend what the picture contradicts, and nothing else."
    )
    prompts = []
    for seed in range(SCENES):
        image = services.chat.draw_scene(owner, "validation", seed)
        prompts.append(Prompt(world.questions[seed % len(world.questions)], (image.name,)))
    services.queue.add(owner, [NewTask(prompt, batch="Drawn scenes") for prompt in prompts])
    list(services.answering.write(owner))
    for name in ("Ann", "Bo"):
        who, last = people.actor(name), None
        services.corrections.set_terms(who, Terms(consent=True, annotator=name))
        for _ in range(SCENES // 2):
            item = services.queue.next_item(who, last)
            if not isinstance(item, Item):
                break
            last, source = item.answer_id, services.store.image_source(item.images[-1])
            edits = world.annotate(source, item.question, item.original)
            if edits:
                services.corrections.save(who, item.answer_id, item.original, edits, active_seconds=31.0)
            else:
                services.corrections.faithful(who, item.answer_id)
    reviewer = people.actor("Ray")
    for pair in services.corrections.find(owner, limit=50).pairs[::2]:
        with suppress(InvalidData):  # two corrections of one answer are compared first
            services.reviewing.accept(reviewer, pair.id)


def take_answers_in(settings: Settings, people: People, files: Path) -> None:
    """A made benchmark with two sets of answers to compare."""
    services, owner = build_services(settings), people.actor("Olga")
    make_amber(services.benchmarking.root, ITEMS)
    for name, answers in zip(("before", "after"), make_answers(ITEMS, 12, 3, 2), strict=True):
        services.reporting.take_in(owner, BENCHMARK, write_amber_answers(files / f"{name}.json", answers))


def sign_in(chromium, address: str, **options) -> Page:
    page = chromium.new_context(**options).new_page()
    page.set_default_timeout(600_000)
    page.goto(address)
    page.get_by_label("username").fill("Olga")
    page.get_by_label("password").fill(PASSWORD)
    page.get_by_role("button", name="Login").click()
    page.locator("#tabs").wait_for()
    return page


def go(page: Page, address: str, tab: str, theme: str = "light") -> None:
    page.goto(f"{address}?tab={tab}&__theme={theme}")
    page.locator("body[data-ready]").wait_for()


def work(page: Page, address: str) -> None:
    """A question, a run and an evaluation of it."""
    go(page, address, "chat")
    page.locator("#new-scene").click()
    page.locator("#chat-picture img[src*='images/']").wait_for()
    for question in ("Describe this image in detail.", "How many things are there?"):
        before = page.get_by_role("button", name="Correct the right answer").count()
        page.locator("#question textarea").fill(question)
        page.locator("#question textarea").press("Enter")
        page.get_by_role("button", name="Correct the right answer").nth(before).wait_for()
    page.locator("#share-comparison").click()
    page.locator("#share canvas").wait_for()

    go(page, address, "train")
    page.locator("#oracle-count input").fill("100")
    page.locator("#add-oracle").click()
    page.get_by_text("oracle pairs added").wait_for()
    page.locator("#start-run").click()
    page.locator("#run-heading").get_by_role("button", name="Chat with it").wait_for()
    page.locator("#reask").click()
    page.locator("#reasked li").first.wait_for()
    go(page, address, "evaluate")
    scenes = page.locator("#evaluate-scenes input[type=number]")
    scenes.fill("40")
    scenes.press("Tab")
    page.locator("#start-evaluation").click()
    page.locator("#evaluation-figures").get_by_text("Baseline").first.wait_for()


def look(page: Page, phone: Page, address: str, tabs, folder: Path, name: str = "") -> None:
    """One picture of each tab in each look, named by both, and of each of its parts."""
    for tab in tabs:
        for looks, (theme, width) in LOOKS.items():
            shown = phone if width == 390 else page
            go(shown, address, tab, theme)
            picture(shown, folder, name or tab, looks, width)
            for part in PARTS.get(tab, ()):
                open_part(shown, part)
                picture(shown, folder, part.lower(), looks, width)


def open_part(page: Page, part: str) -> None:
    page.get_by_role("tab", name=part, exact=True).click()
    if part == "Benchmarks":
        page.locator("#compare-sets").click()
        page.locator("#compare-figures table").first.wait_for()


def picture(page: Page, folder: Path, name: str, looks: str, width: int) -> None:
    """As long as the page is."""
    height = page.viewport_size["height"]
    page.wait_for_timeout(1200)
    whole = min(LONGEST, page.evaluate("document.documentElement.scrollHeight"))
    page.set_viewport_size({"width": width, "height": max(height, whole)})
    page.wait_for_timeout(500)
    page.screenshot(path=folder / f"{name}_{looks}.png")
    wide = page.evaluate("document.documentElement.scrollWidth")
    print(f"{name} {looks}: {wide} × {whole}" + ("  SCROLLS SIDEWAYS" if wide > width else ""))
    page.set_viewport_size({"width": width, "height": height})
