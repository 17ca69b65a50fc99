"""The part for benchmarks without a browser: what it says where something is missing, refused or somebody else's."""

import pytest

from rlhfv.errors import NotFound
from rlhfv.evaluation.comparison import BROKEN
from rlhfv.evaluation.leaderboard import Lineage
from rlhfv.evaluation.page import Side
from rlhfv.studio import benchmarks_view as shown
from rlhfv.studio.benchmarks import NOTHING
from rlhfv.studio.view import pager
from tests.evaluation.comparisons import make_comparison
from tests.services.made_benchmark import (
    BENCHMARK,
    make_amber,
    make_answers,
    make_pope,
    write_amber_answers,
    write_pope_answers,
)
from tests.studio.conftest import texts

COUNT, POPE = 40, "pope-random"
SIDES = Side("Baseline", {"decoding": "greedy"}), Side("Aligned", {"decoding": "greedy"})


@pytest.fixture
def files(services, tmp_path):
    make_amber(services.benchmarking.root, COUNT)
    both = zip(("before", "after"), make_answers(COUNT, 12, 3, 2), strict=True)
    return [write_amber_answers(tmp_path / f"{name}.json", answers) for name, answers in both]


def test_another_set_deleted_leaves_what_is_compared(page, services, ada, files, tmp_path):
    for path in (*files, write_amber_answers(tmp_path / "third.json", {"1": "A dog."})):
        take_in(page, ada, path)
    ids = {one.title: one.id for one in services.reporting.sets(ada)}
    asked = (ids["before"], ids["after"], "exact")
    page.fire("compare-sets", "click", ada, *asked)
    forms = (ids["before"], ids["third"], asked)
    done = page.fire("compare-manage", "select", ada, *forms, data={"act": "delete", "ref": ids["third"]})
    assert "compared" not in done and "compare-message" not in done


def test_names_have_a_length(page):
    fields = {getattr(block, "elem_id", None): block for block in page.demo.blocks.values()}
    assert [fields[name].max_length for name in ("answers-title", "answers-model")] == [120, 120]


def take_in(page, who, path, first=None, decoding=""):
    return page.fire("take-in-answers", "upload", who, str(path), BENCHMARK, path.stem, decoding, "", first, NOTHING)[
        -1
    ]


def test_a_file_is_taken_in_and_offered_beside_the_other(page, services, ada, files):
    result = take_in(page, ada, files[0])
    assert "40 of 40 items have an answer in before" in texts(result["compare-status"]) and not files[0].exists()
    assert "Choose two sets" in texts(result["compare-message"]), "no more that there are no answers"
    first = result["compare-before"]["value"]
    result = take_in(page, ada, files[1], first)
    assert result["compare-before"]["value"] == first and result["compare-after"]["value"] not in (first, None)
    assert result["compare-variant"] == {"choices": ["exact"], "value": "exact", "visible": False}
    *_, end = page.fire("compare-sets", "click", ada, first, result["compare-after"]["value"], "exact")
    assert "12 mended, 3 broken" in texts(end["compare-verdict"]) and end["compared"]["visible"]
    assert "broken cat 13" in texts(end["compared-list"])


def test_what_cannot_be_taken_in_or_compared_is_told(page, services, ada, files, tmp_path):
    odd = tmp_path / "odd.json"
    odd.write_text("no answers")
    assert texts(take_in(page, ada, odd)["compare-status"]) and services.reporting.sets(ada) == []
    take_in(page, ada, files[0])
    take_in(page, ada, files[1], decoding="greedy")
    second, first = (one.id for one in services.reporting.sets(ada))
    *_, end = page.fire("compare-sets", "click", ada, first, second, "exact")
    assert "differ in the prompt" in texts(end["compare-message"]) and not end["compared"]["visible"]
    *_, end = page.fire("compare-sets", "click", ada, None, None, None)
    assert texts(end["compare-message"])


def test_a_file_answers_what_was_chosen_or_what_the_first_set_answers(page, services, ada, files):
    make_pope(services.benchmarking.root)

    def benchmark(*kept):
        return page.fire("tab-evaluate", "select", ada, *kept)["answers-benchmark"]

    assert [name for _, name in benchmark()["choices"]] == [BENCHMARK, POPE]
    assert benchmark()["value"] == BENCHMARK, "the first of the list"
    services.reporting.take_in(ada, POPE, write_pope_answers(files[0].with_name("pope.json"), ["yes"] * 10))
    assert benchmark()["value"] == POPE and benchmark("", "", "", NOTHING, BENCHMARK)["value"] == BENCHMARK
    shown = page.fire("take-in-answers", "upload", ada, str(files[1]), None, "", "", "", None, NOTHING)[-1]
    assert "Choose the benchmark that they answer" in texts(shown["compare-status"])
    assert len(services.reporting.sets(ada)) == 1 and not files[1].exists()


def test_answers_are_deleted_after_a_question(page, services, ada, files):
    take_in(page, ada, files[0])
    take_in(page, ada, files[1])
    ids = {one.title: one.id for one in services.reporting.sets(ada)}
    before, after = ids["before"], ids["after"]
    asked = page.fire("compare-manage", "select", ada, before, after, NOTHING, data={"act": "ask", "ref": ""})
    assert "Delete 'before'" in texts(asked["compare-manage"]) and len(services.reporting.sets(ada)) == 2
    *_, end = page.fire("compare-sets", "click", ada, before, after, "exact")
    compared = next(value for value in end.values() if value == (before, after, "exact"))
    done = page.fire("compare-manage", "select", ada, before, after, compared, data={"act": "delete", "ref": after})
    assert done["compare-verdict"] == done["compare-figures"] == [] and not done["compared"]["visible"]
    assert "Choose two sets" in texts(done["compare-message"]) and NOTHING in done.values()
    assert "deleted" in texts(done["compare-manage"]) and done["compare-before"]["value"] == before
    assert [one.id for one in services.reporting.sets(ada)] == [before]
    board = texts(page.fire("part-leaderboard", "select", ada))
    assert (
        "Not known of all: prompt, decoding, pictures, architecture, weights." in board
        and "after" not in board.split()
    )
    done = page.fire("compare-manage", "select", ada, before, None, NOTHING, data={"act": "delete", "ref": before})
    assert "No answers to a benchmark yet" in texts(done["compare-message"])


def test_a_forged_choice_reads_nothing_of_others(tmp_path, ada, bob):
    from rlhfv.services import build_services
    from rlhfv.settings import Settings
    from rlhfv.studio.app import build_app
    from tests.studio.conftest import Page

    services = build_services(Settings(data_dir=tmp_path / "data", single_user=False))
    make_amber(services.benchmarking.root, COUNT)
    ids = [
        services.reporting.take_in(ada, BENCHMARK, write_amber_answers(tmp_path / f"{number}.json", answers))
        for number, answers in enumerate(make_answers(COUNT, 12, 3, 2))
    ]
    page, asked = Page(build_app(services)), (*ids, "exact")
    *_, end = page.fire("compare-sets", "click", ada, *asked)
    assert end["compared"]["visible"], "it is there, and in memory by now"
    *_, end = page.fire("compare-sets", "click", bob, *asked)
    assert not end["compared"]["visible"]
    for elem_id, event, values in (
        ("compare-filter", "input", ("", asked)),
        ("compared-pager", "select", ("", asked)),
        ("compared-list", "select", ("", asked, 0)),
    ):
        end = page.fire(elem_id, event, bob, *values, data={"act": "open", "ref": "1"})
        assert not end["compared"]["visible"] and end.keys().isdisjoint({"compared-list", "compared-answers"})
    *_, end = page.fire("make-page", "click", bob, True, asked)
    assert "download-page" not in end and "not here any more" in texts(end["compare-message"])
    with pytest.raises(NotFound):
        services.reporting.comparison(bob, *asked)


def test_sets_deleted_in_another_tab_are_told_in_place(page, services, ada, files):
    for path in files:
        take_in(page, ada, path)
    ids = {one.title: one.id for one in services.reporting.sets(ada)}
    before, after = asked = (ids["before"], ids["after"])
    asked = (*asked, "exact")
    page.fire("compare-sets", "click", ada, *asked)
    services.reporting.delete(ada, after)
    for elem_id, event, values, data in (
        ("compare-filter", "input", (BROKEN, asked), None),
        ("compared-pager", "select", ("", asked), {"act": "turn", "ref": "25"}),
        ("compared-list", "select", ("", asked, 0), {"act": "open", "ref": "1"}),
        ("compare-sets", "click", asked, None),
        ("make-page", "click", (True, asked), None),
    ):
        end = page.fire(elem_id, event, ada, *values, data=data)
        end = end[-1] if isinstance(end, list) else end
        assert "These answers are not here any more." in texts(end["compare-message"]), elem_id
        assert not end["compared"]["visible"] and end["compare-verdict"] == [] and NOTHING in end.values()
        assert end["compare-before"]["value"] == before and end["compare-after"]["choices"] == []
    done = page.fire("compare-manage", "select", ada, before, after, NOTHING, data={"act": "delete", "ref": after})
    assert "There is no set of answers" in texts(done["compare-manage"]), "in place too"


def test_filters_and_pages():
    comparison = make_comparison(count=80, mended=30, broken=27, still=3)
    assert [name for name, _ in shown.filters(comparison)] == [
        *("All (80)", "What broke (27)", "Mended (30)", "Still wrong (3)")
    ]
    assert shown.chosen_rows(comparison, "")[0].outcome == BROKEN and len(shown.chosen_rows(comparison, BROKEN)) == 27
    assert "26–27 of 27" in texts(pager(25, shown.PAGE, 27, "items")) and pager(0, shown.PAGE, 0, "items") == []
    assert "No item." in texts(shown.listing([], "", BROKEN))


def test_figures_say_what_became_better_and_what_it_cost():
    comparison = make_comparison()
    said = texts(shown.figures(comparison, SIDES))
    assert "Answers with an error lower is better" in said and "What it must not cost" in said
    assert "-25.0 points" in said and "How both were asked" in said
    classes = str(shown.figures(comparison, SIDES))
    assert "number better" in classes and "number worse" in classes, "fewer errors, and fewer objects"


def test_an_item_without_its_picture_says_which_one_is_missing():
    row = make_comparison().rows[0]
    assert "image/0.jpg, is not in the benchmark folder" in texts(shown.opened(row, SIDES, False))
    assert "benchmark folder" not in texts(shown.opened(row, SIDES, True))
    assert "mended red hat item-0" in texts(shown.listing([row], "", ""))


def test_the_leaderboard_tells_what_it_counts_and_what_not(page, services, ada, files):
    for path in files:
        services.reporting.take_in(ada, BENCHMARK, path, model="m")
    board = texts(page.fire("part-leaderboard", "select", ada))
    assert "newest of 2 sets" in board and "before" not in board.split()
    questions = services.benchmarking.root / "amber" / "query" / "query_generative.json"
    questions.write_text(questions.read_text().replace("Describe", "Tell of"))
    board = texts(page.fire("part-leaderboard", "select", ada))
    assert "2 sets of answers to AMBER, generative are not counted" in board and "newest of" not in board


def test_pairs_are_told_with_those_that_were_held_out():
    assert shown.lineage(Lineage("a", "A", pairs=15, held_out=2)) == "15 of 17 pairs, 2 held out"
    assert [shown.lineage(Lineage("a", "A", pairs=number)) for number in (1, 1200)] == ["1 pair", "1,200 pairs"]
