"""Every adapter with its lineage and its figures: which sets count, and how a voice is called."""

import json
from dataclasses import replace

import pytest

from rlhfv.errors import InvalidData
from rlhfv.evaluation.leaderboard import render_table
from rlhfv.models.identity import ADAPTER_CARD, adapter_identity, own_name
from rlhfv.run_folder import RunFolder
from tests.services.fakes import IDENTITY
from tests.services.made_benchmark import (
    BENCHMARK,
    make_answers,
    make_pope,
    write_amber_answers,
    write_pope_answers,
)
from tests.services.two_voices import answer

COUNT = 40


def make_adapter(services, name, parent=None) -> str:
    """A finished training run with an adapter; returns the identity of that."""
    folder = RunFolder(services.settings.data_dir / "runs" / name)
    base = {"name": IDENTITY.name, "revision": IDENTITY.revision, "source": "scripted"}
    config = {"kind": "training", "title": f"Run {name}", "created": f"2026-11-0{len(name)}T00:00:00+00:00"}
    folder.create({**config, "base": base, "training": {"recipe": "paper"}, "parent": parent}, [], None)
    folder.adapter.mkdir()
    (folder.adapter / "adapter_model.safetensors").write_bytes(name.encode())
    (folder.adapter / "adapter_config.json").write_text("{}")
    card = {"base": {"name": IDENTITY.name, "revision": IDENTITY.revision}, "run": name, "pairs": {"count": 200}}
    (folder.adapter / ADAPTER_CARD).write_text(json.dumps(card))
    folder.append_event("state", state="running")
    folder.append_event("done")
    return adapter_identity(folder.adapter)


def make_evaluation(services, voices, rates, scenes=100, base=None) -> None:
    folder = RunFolder(services.settings.data_dir / "runs" / f"evaluation-{scenes}")
    base = base or {"name": IDENTITY.name, "revision": IDENTITY.revision, "source": "scripted"}
    config = {"kind": "evaluation", "title": "E", "created": "2026-11-10T00:00:00+00:00", "base": base}
    folder.create({**config, "evaluation": {"scenes": scenes, "voices": []}}, [], None)

    def figures(rate):
        one = {"value": rate, "low": rate - 0.1, "high": rate + 0.1}
        names = ("response_rate", "mention_rate", "recall", "target_recall", "words")
        return {**dict.fromkeys(names, one), "kinds": dict.fromkeys(("object", "number", "position", "any"), one)}

    told = [{"id": id, "title": "", **figures(rate)} for id, rate in zip(voices, rates, strict=True)]
    folder.write_results({"v": 1, "scenes": scenes, "question": "What is there?", "voices": told})
    folder.append_event("done")


def test_every_adapter_stands_beside_its_figures(services, ada, compared):
    first, second = make_adapter(services, "a"), make_adapter(services, "bb", parent="a")
    make_adapter(services, "ccc")
    make_evaluation(services, ["", first, second], [0.5, 0.2, 0.1])
    make_evaluation(services, ["", first], [0.6, 0.3], scenes=500)
    board = services.reporting.leaderboard(ada)
    rows = {row.lineage.title: row for row in board.rows}
    assert [row.lineage.title for row in board.rows[:3]] == ["Run bb", "Run a", "Baseline of scripted"]
    newest = rows["Run bb"].lineage
    assert (newest.base, newest.recipe, newest.pairs) == (f"scripted@{'0' * 40}", "paper", 200)
    assert (newest.run, newest.parent, newest.made[:10]) == ("bb", "Run a", "2026-11-02")
    assert rows["Run ccc"].figures == {} and {"Baseline", "Aligned"} <= rows.keys()
    rates = [column for column in board.columns if column.measure.name == "response_rate"]
    assert [column.items for column in rates] == [100, 500]
    assert rows["Run a"].figures[rates[0].key].value == pytest.approx(20)
    assert rows["Run a"].figures[rates[1].key].value == pytest.approx(30)
    assert rates[1].key not in rows["Run bb"].figures
    amber = [column for column in board.columns if column.benchmark == BENCHMARK]
    assert {column.key for column in amber}.isdisjoint(rows["Run a"].figures)
    assert rows["Aligned"].figures.keys() == {column.key for column in amber}
    by_recall = next(column.key for column in board.columns if column.measure.name == "recall")
    worst_first = services.reporting.leaderboard(ada, by_recall)
    assert [row.lineage.title for row in worst_first.rows[:3]] == ["Baseline of scripted", "Run a", "Run bb"]
    assert "Run bb" in render_table(board)


def test_the_leaderboard_counts_other_keys_anew(services, ada, compared):
    def rate():
        board = services.reporting.leaderboard(ada)
        key = next(column.key for column in board.columns if column.measure.name == "hal")
        return next(row.figures[key].value for row in board.rows if row.lineage.title == "Aligned")

    assert rate() == pytest.approx(12.5, abs=0.01)
    keys = services.benchmarking.root / "amber" / "annotations.json"
    keys.write_text(keys.read_text().replace('["dog", "ball", "tree"]', '["dog", "ball", "tree", "cat"]'))
    assert rate() == pytest.approx(0, abs=0.01)


def row_titles(services, who):
    return [row.lineage.title for row in services.reporting.leaderboard(who).rows]


def test_a_voice_goes_by_its_own_name_not_by_that_of_its_answers(services, ada, bench, asked):
    answer(services, ada)
    [row] = services.reporting.leaderboard(ada).rows
    assert (row.lineage.title, row.lineage.base) == ("Baseline of scripted", str(IDENTITY)) and row.figures
    make_evaluation(services, [""], [0.5])
    assert row_titles(services, ada) == ["Baseline of scripted"]


def test_a_voice_on_a_server_and_an_adapter_that_is_gone_go_by_their_names(services, ada, compared):
    models = ({"name": "/srv/m-7b", "revision": "host:8000"}, {"name": "base", "revision": "1", "adapter": "mine@abc"})
    for id, model in zip(compared, models, strict=True):
        path = services.benchmarking.sets / id / "stamp.json"
        row = json.loads(path.read_text())
        row["stamp"] |= {"model": {"adapter": None, **model}}
        row["stamp"] |= {"architecture": "on host:8000"} if model["revision"] == "host:8000" else {}
        path.write_text(json.dumps(row))
    assert sorted(row_titles(services, ada)) == ["m-7b on host:8000", "mine"]


def test_of_several_sets_of_one_voice_the_newest_counts_and_is_told(services, ada, compared, tmp_path):
    """They came within one second, and another benchmark's set of the same model is nothing to them."""
    for id in compared:
        services.reporting.delete(ada, id)
    make_pope(services.benchmarking.root)
    # Whatever the ids are: both orders.
    for by, order in (("m", (0, 1)), ("n", (1, 0))):
        for place in order:
            answers = make_answers(COUNT, 12, 3, 2)[place]
            services.reporting.take_in(
                ada, BENCHMARK, write_amber_answers(tmp_path / f"{by}{place}.json", answers), model=by
            )
        pope = write_pope_answers(tmp_path / f"{by}.jsonl", ["yes", "no"] * 5)
        services.reporting.take_in(ada, "pope-random", pope, model=by)
    board = services.reporting.leaderboard(ada)
    rows = {row.lineage.title: row for row in board.rows}
    assert rows.keys() == {"m", "n"}
    hal = next(column.key for column in board.columns if column.measure.name == "hal")
    accuracy = next(column.key for column in board.columns if column.benchmark == "pope-random")
    assert [rows[by].figures[hal].value for by in "mn"] == pytest.approx([12.5, 35], abs=0.01)
    assert [rows["m"].sets[key] for key in (hal, accuracy)] == [2, 1]
    assert "m (newest of 2 sets)" in render_table(board)


def test_answers_of_an_unknown_model_are_a_voice_of_their_own(services, ada, compared, tmp_path):
    answers = write_amber_answers(tmp_path / "again.json", make_answers(COUNT, 5, 5, 5)[0])
    services.reporting.take_in(ada, BENCHMARK, answers, "Baseline")
    board = services.reporting.leaderboard(ada)
    assert sorted(row.lineage.title for row in board.rows) == ["Aligned", "Baseline", "Baseline"]
    assert {number for row in board.rows for number in row.sets.values()} == {1}


def test_answers_to_other_questions_and_none_at_all_stay_out_of_the_figures(services, ada, compared, bench, asked):
    questions = services.benchmarking.root / "amber" / "query" / "query_generative.json"
    asked.fail = ("Is there",)
    answer(services, ada)
    assert sorted(row_titles(services, ada)) == ["Aligned", "Baseline"], "the server was down: no answer"
    old = questions.read_text()
    questions.write_text(old.replace("Describe", "Tell of"))
    board = services.reporting.leaderboard(ada)
    assert not board.columns and {row.lineage.title for row in board.rows} == {"Aligned", "Baseline"}
    [note] = board.notes
    assert note.startswith("2 sets of answers to AMBER, generative are not counted") and "question files" in note
    with pytest.raises(InvalidData, match="answers other questions"):
        services.reporting.comparison(ada, *compared)
    questions.write_text(old)
    assert services.reporting.leaderboard(ada).columns and not services.reporting.leaderboard(ada).notes


def test_why_nothing_is_counted_without_the_benchmarks_is_told(services, ada, compared):
    root = services.benchmarking.root
    (root / "amber" / "annotations.json").unlink()
    [note] = services.reporting.leaderboard(ada).notes
    assert "2 sets of answers to AMBER, generative are not counted" in note and "not in the benchmark folder" in note
    root.rename(root.with_name("elsewhere"))
    [note] = services.reporting.leaderboard(ada).notes
    assert note == f"2 sets of answers are not counted: there is no benchmark folder {root}."
    visitor = replace(ada, rights=ada.rights - {"manage"})
    assert str(root) not in " ".join(services.reporting.leaderboard(visitor).notes)


def test_pairs_that_were_held_out_are_told(services, ada):
    make_adapter(services, "a")
    card = services.settings.data_dir / "runs" / "a" / "adapter" / ADAPTER_CARD
    card.write_text(json.dumps({**json.loads(card.read_text()), "pairs": {"count": 15, "held_out": 2}}))
    [row] = services.reporting.leaderboard(ada).rows
    assert (row.lineage.pairs, row.lineage.held_out) == (15, 2)
    for damaged in ("many", [3], {"count": "15", "held_out": []}):
        card.write_text(json.dumps({**json.loads(card.read_text()), "pairs": damaged}))
        assert "Run a" in render_table(services.reporting.leaderboard(ada))


@pytest.mark.parametrize(
    "damaged", ["[]", "{", '{"voices": 3}', '{"voices": [3]}', '{"voices": [{"id": ""}]}', "null"]
)
def test_results_that_are_damaged_cost_the_leaderboard_nothing_else(services, ada, damaged):
    adapter = make_adapter(services, "a")
    make_evaluation(services, ["", adapter], [0.5, 0.2])
    make_evaluation(services, ["", adapter], [0.5, 0.2], scenes=500)
    (services.settings.data_dir / "runs" / "evaluation-500" / "results.json").write_text(damaged)
    board = services.reporting.leaderboard(ada)
    assert {column.items for column in board.columns} == {100} and len(board.rows) == 2


def test_a_whole_model_stands_beside_what_it_scored_as_a_base(services, ada):
    """A full tuning makes no adapter: what it made is loaded by its folder, and goes by the name of its run."""
    make_adapter(services, "a")
    folder = RunFolder(services.settings.data_dir / "runs" / "a")
    folder.adapter.rename(folder.model)
    (folder.model / "config.json").write_text("{}")
    [row] = services.reporting.leaderboard(ada).rows
    told = row.lineage
    assert (told.title, told.base, told.recipe, told.pairs, row.figures) == ("Run a", str(IDENTITY), "paper", 200, {})
    made = own_name(folder.model)
    make_evaluation(services, [""], [0.2], base={"name": made, "revision": "f" * 64, "source": "model"})
    [row] = services.reporting.leaderboard(ada).rows
    assert (row.lineage.title, row.lineage.id) == ("Run a", f"{made}@{'f' * 64}")
    assert pytest.approx(20) in [figure.value for figure in row.figures.values()]
