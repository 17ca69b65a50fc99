"""Sorted by one figure, with the lineage beside it, and never two ways of asking in one column."""

import json
from dataclasses import replace

from rlhfv.evaluation.bootstrap import Figure
from rlhfv.evaluation.leaderboard import Finding, Lineage, arrange, render_table, to_rows
from tests.evaluation.comparisons import COVER, RATE

GREEDY = {"prompt": "Describe this image.", "decoding": "greedy"}
BEAM = {**GREEDY, "decoding": "rlhfv"}
LINEAGES = (
    Lineage("a@1", "First run", "llava@9", "paper", 200, "run-1", "", "2026-11-20T08:00:00+00:00"),
    Lineage("b@2", "Second run", "llava@9", "dpo", 200, "run-2", "First run", "2026-11-21T08:00:00+00:00"),
    Lineage("c@3", "Never measured", "llava@9", "demo", 20, "run-3", "", "2026-11-22T08:00:00+00:00"),
)


def found(voice, rate, cover=None, stamp=GREEDY, made="2026-11-22", **fields):
    figures = [(RATE, Figure(rate, rate - 2, rate + 2))]
    figures += [(COVER, Figure(cover, cover - 1, cover + 1))] if cover else []
    values = {"benchmark": "amber-generative", "variant": "exact", "items": 1004, **fields}
    return Finding(voice=voice, stamp=stamp, figures=tuple(figures), made=made, **values)


def titles(board):
    return [row.lineage.title for row in board.rows]


def test_the_best_comes_first_and_what_was_not_measured_last():
    board = arrange(LINEAGES, [found("a@1", 30, 50), found("b@2", 20, 40), found("llava@9", 50, 52)])
    assert titles(board) == ["Second run", "First run", "llava@9", "Never measured"]
    rate, cover = board.columns
    assert (rate.measure.name, cover.measure.name) == ("hal", "cover") and board.sorted_by == rate.key
    assert board.rows[0].figures[rate.key].value == 20 and board.rows[0].lineage.parent == "First run"
    by_cover = arrange(LINEAGES, [found("a@1", 30, 50), found("b@2", 20, 40)], sort_by=cover.key)
    assert titles(by_cover)[:2] == ["First run", "Second run"]
    assert by_cover.sorted_by == cover.key, "the key of a column outlives other evaluations"


def test_unlike_questions_have_columns_of_their_own():
    unlike = (
        found("b@2", 1, stamp=BEAM),
        found("b@2", 2, items=500),
        found("b@2", 3, variant="vectors"),
        found("b@2", 4, benchmark="chair"),
    )
    board = arrange(LINEAGES, [found("a@1", 30), *unlike])
    assert len(board.columns) == 5 and all(len(row.figures) in (0, 1, 4) for row in board.rows)
    for column in board.columns:
        assert sum(column.key in row.figures for row in board.rows) == 1
    assert len({column.key for column in board.columns}) == 5


def test_what_counts_as_alike_can_be_told():
    pair = [found("a@1", 30, stamp=GREEDY), found("b@2", 20, stamp=BEAM)]
    assert len(arrange(LINEAGES, pair).columns) == 2
    assert len(arrange(LINEAGES, pair, alike=lambda first, second: True).columns) == 1


def test_groups_with_the_same_common_stamp_have_columns_of_their_own():
    """Two groups of two transforms each: what is alike within them is alike in both."""
    kinds = dict.fromkeys(("crop 1", "crop 2"), "first") | dict.fromkeys(("pad 1", "pad 2"), "second")
    findings = [
        found(f"voice {number}", number, stamp={**GREEDY, "pictures": pictures}, made=f"2026-11-2{number}")
        for number, pictures in enumerate(kinds)
    ]
    board = arrange(
        [], findings, alike=lambda one, other: kinds[one.stamp["pictures"]] == kinds[other.stamp["pictures"]]
    )
    assert len({column.key for column in board.columns}) == 2 == len({column.group for column in board.columns})
    assert [sum(column.key in row.figures for row in board.rows) for column in board.columns] == [2, 2]
    assert render_table(board).count("amber-generative, 1,004 items") == 2
    more = arrange(
        [],
        [*findings, found("voice 9", 9, stamp={**GREEDY, "pictures": "pad 1"}, made="2026-11-29")],
        alike=lambda one, other: kinds[one.stamp["pictures"]] == kinds[other.stamp["pictures"]],
    )
    assert more.columns[0].key == board.columns[1].key, "a key stays when another group comes first"


def test_the_newer_of_two_evaluations_counts():
    old, new = found("a@1", 30, made="2026-11-01"), found("a@1", 10, made="2026-11-09")
    for findings in ([old, new], [new, old]):
        board = arrange(LINEAGES, findings)
        assert len(board.columns) == 1 and board.rows[0].figures[board.columns[0].key].value == 10


def test_nothing_of_an_older_evaluation_stands_beside_the_newer():
    old = found("a@1", 30, 50, made="2026-11-01", source="z")
    board = arrange(LINEAGES, [found("a@1", 10, made="2026-11-01", source="zz"), found("b@2", 20, 40), old])
    rate, cover = board.columns
    first = next(row for row in board.rows if row.lineage.id == "a@1")
    assert first.figures[rate.key].value == 10 and cover.key not in first.figures, "of the same time by its id"
    assert first.sets == {rate.key: 2} and "First run (newest of 2 sets)" in render_table(board)
    assert "Second run (" not in render_table(board)


def test_the_evaluation_of_most_voices_comes_first():
    board = arrange(LINEAGES, [found("a@1", 1, benchmark="chair"), found("a@1", 30), found("b@2", 20)])
    assert [column.benchmark for column in board.columns] == ["amber-generative", "chair"]


def test_a_figure_that_is_not_defined_comes_last():
    undefined = Finding("a@1", "x", "v", {}, 5, ((RATE, Figure(None, None, None)),))
    board = arrange(LINEAGES, [undefined, found("b@2", 99, benchmark="x", variant="v", stamp={}, items=5)])
    assert titles(board)[0] == "Second run" and "Second run  99.0 % [97.0, 101.0]" in render_table(board)


def test_the_table_tells_lineage_figures_and_how_they_were_asked():
    table = render_table(arrange(LINEAGES, [found("a@1", 30, 50), found("b@2", 20)]))
    assert "Second run      llava@9  dpo     200    2026-11-21  First run" in table
    assert "amber-generative, 1,004 items, counted as: exact" in table and "  decoding: greedy" in table
    assert "First run   30.0 % [28.0, 32.0]    50.0 % [49.0, 51.0]" in table
    assert "Second run  20.0 % [18.0, 22.0]    –" in table
    assert render_table(arrange([], [])) == "There is no adapter yet."


def test_it_is_plain_data_too():
    board = arrange(LINEAGES, [found("a@1", 30)])
    told = json.loads(json.dumps(to_rows(board)))
    assert told["voices"][0]["figures"][told["sorted_by"]]["value"] == 30
    assert told["columns"][0]["stamp"] == GREEDY and told["voices"][0]["recipe"] == "paper"


def test_pairs_are_told_with_those_that_were_held_out():
    table = render_table(arrange([replace(LINEAGES[0], title="demo, 17 pairs", pairs=15, held_out=2)], []))
    assert "15 of 17, 2 held out" in table


def test_signs_that_a_terminal_acts_on_are_shown_before_widths_are_measured():
    lineage = replace(LINEAGES[0], title="First\n\x1b run")
    board = arrange([lineage, LINEAGES[1]], [found("a@1", 30, stamp={"prompt": "Two\nlines"})])
    table = render_table(board, lambda text: repr(" ".join(text.split(" ")))[1:-1])
    lines = table.splitlines()
    assert "First\\n\\x1b run" in lines[2] and lines[2].index("llava@9") == lines[3].index("llava@9")
    assert lines[1].startswith("-" * len("First\\n\\x1b run") + "  ") and "  prompt: Two\\nlines" in lines
