"""The curves of training runs as the browser draws them, over run folders made by hand."""

import os

import pytest

from rlhfv.studio.curves import PLOTS
from tests.browser.invented_runs import add_steps, make_finished, make_run

pytestmark = pytest.mark.browser

# One path for each line of a plot: its colour, and how many points it joins.
DRAWN = """() => [0, 1, 2, 3].map((number) =>
  [...document.querySelectorAll(`#plot-${number} svg .mark-line path`)]
    .map((path) => [path.getAttribute("stroke"), (path.getAttribute("d") ?? "").split("L").length])
    .filter(([colour, points]) => points > 1 && /^#[0-9a-f]{6}$/.test(colour))
    .map(([colour]) => colour))"""


def wait_for_lines(page, *counts: int) -> list[list[str]]:
    """The colours of the lines of each plot, once there are so many in each."""
    page.wait_for_function(
        f"(counts) => String(({DRAWN})().map((lines) => lines.length)) === String(counts)", arg=counts
    )
    colours = page.evaluate(DRAWN)
    assert all(len(set(each)) == len(each) for each in colours), "two lines of a plot have one colour"
    return colours


def open_train(open_page, address):
    page = open_page(f"{address}?tab=train", viewport={"width": 1440, "height": 1000})
    page.locator("body[data-ready]").wait_for()
    return page


def test_a_run_that_begins_while_one_looks(studio, open_page):
    page = open_train(open_page, studio.address)
    page.get_by_text("No training run yet.").wait_for()
    folder = make_run(studio.services.settings.data_dir, "live")
    claim = folder.claim()
    try:
        folder.append_event("state", state="running")
        page.get_by_role("tab", name="Pairs").click()
        page.get_by_role("tab", name="Train").click()
        page.locator("#run-heading").get_by_text("live").first.wait_for()
        assert page.locator("#plot-0").count() == 0, "no axis of zeros before the first point"
        wait_for_lines(page, 0, 0, 0, 0)
        add_steps(folder, 1, 9, 40)
        wait_for_lines(page, 1, 1, 2, 1)
        add_steps(folder, 10, 30, 40)
        first = wait_for_lines(page, 2, 2, 2, 2)
        page.locator("#run-heading").get_by_text("Step 30 of 40").wait_for()
    finally:
        os.close(claim)
    page.locator("#run-heading").get_by_text("failed", exact=True).wait_for()
    assert page.evaluate(DRAWN) == first


def test_a_finished_run_is_drawn_after_a_reload(studio, open_page):
    make_finished(studio.services.settings.data_dir, "finished")
    page = open_train(open_page, studio.address)
    open_run(page, "finished")
    first = wait_for_lines(page, 2, 2, 2, 2)
    open_page.reload(page)
    open_run(page, "finished")
    assert wait_for_lines(page, 2, 2, 2, 2) == first
    for number, (_, _, lines) in enumerate(PLOTS):
        for _, name in lines:
            assert page.locator(f"#plot-{number} svg .role-legend").get_by_text(name).count()


def open_run(page, title: str) -> None:
    page.locator("#train-runs").get_by_text(title, exact=True).click()
    page.locator("#run-heading").get_by_text(title, exact=True).wait_for()


@pytest.mark.slow
def test_compared_runs_have_lines_and_colours_of_their_own(studio, open_page):
    hostile = "<img src=x onerror=window.broken=1> ${window.broken=1}"
    for number, title in enumerate(("alpha", hostile), start=1):
        make_finished(studio.services.settings.data_dir, f"run-{number}", slope=0.005 * number, title=title)
    page = open_train(open_page, studio.address)
    open_run(page, "alpha")
    alone = wait_for_lines(page, 2, 2, 2, 2)
    page.locator("#compare-runs input").click()
    page.get_by_role("option", name=hostile).click()
    both = wait_for_lines(page, 4, 4, 4, 4)
    assert page.locator("#compare-legend li").all_inner_texts() == ["alpha", hostile]
    page.locator("#plot-0 svg.marks").hover()
    page.get_by_role("tab", name="Pairs").click()
    page.get_by_role("tab", name="Train").click()
    page.wait_for_timeout(500)
    assert wait_for_lines(page, 4, 4, 4, 4) == both
    open_run(page, hostile)
    assert wait_for_lines(page, 2, 2, 2, 2) == alone, "another run begins alone"
    assert page.evaluate("window.broken") is None
