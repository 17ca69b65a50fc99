"""The Train and Evaluate tabs over invented runs: what a page shows of each state, what it asks of the services."""

from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest

from rlhfv.ddpo.config import RECIPES
from rlhfv.run_folder import RunFolder
from rlhfv.runs.state import Run
from rlhfv.services.memory import MemoryShort
from rlhfv.studio import evaluate_view, runs_view, train_view
from rlhfv.studio.visitor import HEADER, describe
from tests.studio.conftest import texts
from tests.studio.test_chat_tab import acts

RUN = Run(
    "20260101-000000-abcd",
    "training",
    "demo, 60 pairs",
    "running",
    "2026-01-01T00:00:00+00:00",
    {},
    step=20,
    total_steps=80,
    eta=42.0,
)


HERE = ("here", "", None, "")


class InventedRuns:
    def __init__(self, *runs):
        self.all, self.events, self.calls = list(runs), [], []

    def __getattr__(self, name):
        def call(who, run_id, *arguments):
            self.calls.append((name, run_id, *arguments))
            return self.all[0]

        return call

    def runs(self, who):
        return self.all

    def run(self, who, run_id):
        return self.all[0]

    def read(self, who, run_id, offset=0):
        return self.events[offset:], len(self.events)


@pytest.fixture
def runs(services, monkeypatch):
    invented = InventedRuns(replace(RUN, config={"training": RECIPES["paper"].to_dict()}))
    for name in ("runs", "run", "stop", "resume", "delete", "duplicate"):
        monkeypatch.setattr(services.training, name, getattr(invented, name))
    monkeypatch.setattr(services.training, "events", invented.read)
    monkeypatch.setattr(services.training, "folder", lambda who, run_id: RunFolder(f"/runs/{run_id}"))
    monkeypatch.setattr(services.training, "log", lambda who, run_id: ["line 1", "line 2"])
    return invented


def tick(page, who, before=None):
    function = next(each for each in page.demo.fns.values() if each.name == "tick")
    request = SimpleNamespace(headers={HEADER: describe(who)})
    result = function.fn(RUN.id, [], before, "", request)
    return page._named(result)


def visit(page, who):
    return page.fire("tab-train", "select", who, "", [], None, "here", "")


def test_a_running_run_is_found_again_and_polled_until_nothing_is_new(page, runs, ada):
    runs.events = [{"kind": "step", "step": 20, "loss": 0.6, "rewards/margins": 0.1}]
    shown = visit(page, ada)
    assert "Step 20 of 80" in texts(shown["run-heading"]) and "42 s left" in texts(shown["run-heading"])
    assert list(shown["plot-0"]["value"]["value"].dropna()) == [0.6] and "line 2" in texts(shown["run-log"])
    assert any(
        value.get("active") is True for value in shown.values() if isinstance(value, dict) and "active" in value
    )
    assert [shown[f"plot-{number}"]["visible"] for number in range(4)] == [True, True, False, False], "no empty charts"
    seen = next(value for value in shown.values() if isinstance(value, dict) and value.get("run") == RUN.id)
    assert tick(page, ada, seen) == {"__type__": "update"}, "nothing new, nothing sent"
    runs.events.append({"kind": "warn", "what": "The chosen answers get less likely."})
    assert "less likely" in texts(tick(page, ada, seen)["run-warnings"])


def test_polling_ends_with_the_run(page, runs, ada):
    runs.all = [replace(runs.all[0], state="done", has_adapter=True)]
    shown = visit(page, ada)
    assert "Chat with it" in texts(shown["run-heading"])
    assert any(
        value.get("active") is False for value in shown.values() if isinstance(value, dict) and "active" in value
    )


def test_a_run_that_ends_while_one_looks_has_its_corrections_asked_again(page, runs, ada, monkeypatch, services):
    before = next(value for value in visit(page, ada).values() if isinstance(value, dict) and "runs" in value)
    assert [value for value in tick(page, ada, None).values() if value == RUN.id] == [RUN.id], "only chosen"
    runs.all = [replace(runs.all[0], state="done", has_adapter=True)]
    assert [value for value in tick(page, ada, before).values() if value == RUN.id] == [RUN.id] * 2, "chosen and ended"
    asked = []
    monkeypatch.setattr(services.training, "reask", lambda who, run_id, stop: asked.append(run_id) or iter([([], 0)]))
    events = [each for each in page.demo.fns.values() if each.name == "ask_again"]
    function = next(each for each in events if each.targets[0][1] == "change")
    request = SimpleNamespace(headers={HEADER: describe(ada)})
    assert list(function.fn("", request)) == [gr.skip()] and not asked, "the state's first value"
    assert "Nothing to ask again" in texts(list(function.fn(RUN.id, request))[-1].popitem()[1]) and asked == [RUN.id]


def test_what_is_asked_of_a_run_reaches_the_service_and_deleting_asks_first(page, runs, ada):
    for act in ("stop", "resume"):
        page.fire("run-heading", "select", ada, [], None, *HERE, data={"act": act, "ref": RUN.id})
    runs.all = [replace(runs.all[0], state="failed", error="Out of memory.")]
    [sure] = page.fire("run-heading", "select", ada, [], None, *HERE, data={"act": "ask-delete", "ref": RUN.id})
    assert "Delete for good" in texts(sure["run-heading"]) and "Out of memory." in texts(sure["run-heading"])
    assert [call[0] for call in runs.calls] == ["stop", "resume"]
    page.fire("run-heading", "select", ada, [], None, *HERE, data={"act": "delete", "ref": RUN.id})
    assert runs.calls[-1] == ("delete", RUN.id)


def test_lines_with_other_names_get_their_colours_in_a_second_step(page, runs, ada):
    first, other = runs.all[0], replace(runs.all[0], id="20260101-000000-beef", title="another")
    runs.all = [first, other]
    step = {"kind": "step", "step": 20, "loss": 0.6}
    runs.events = [step]

    def look(before, compared):
        function = next(each for each in page.demo.fns.values() if each.name == "compare_with")
        request = SimpleNamespace(headers={HEADER: describe(ada)})
        return [page._named(each) for each in function.fn(first.id, compared, before, request)]

    def seen(shown):
        return next((value for value in shown.values() if isinstance(value, dict) and "lines" in value), None)

    [alone] = look(None, [])
    assert set(alone["plot-0"]["color_map"]) == {"train", "held out"}
    values, colours = look(seen(alone), [other.id])
    assert "color_map" not in values["plot-0"] and seen(values) is None
    assert set(values["plot-0"]["value"]["line"]) == set(colours["plot-0"]["color_map"])
    assert len(colours["plot-0"]["color_map"]) == 4 and "another" in texts(values["compare-legend"])
    assert [list(each["plot-0"]) for each in look(seen(colours), [other.id])] == [["value", "visible"]], (
        "the same lines go on"
    )
    runs.all = [first]
    assert len(look(seen(colours), [other.id])) == 2, "the compared run was deleted elsewhere"


def test_a_run_without_room_is_asked_about_and_the_answer_reaches_the_service(page, runs, ada, services, monkeypatch):
    asked = []

    def resume(who, run_id, room):
        asked.append((run_id, room))
        if not room:
            short = MemoryShort("It needs 3 GB.", "1 GB is free.", "Wait.")
            short.needed, short.held = 3_000_000_000, 0
            raise short
        return runs.all[0]

    monkeypatch.setattr(services.training, "resume", resume)
    question = page.fire("run-heading", "select", ada, [], None, *HERE, data={"act": "resume", "ref": RUN.id})[-1]
    assert [act for act, _ in acts(question["train-message"])] == ["wait", "anyway", "cancel"]
    form = [RECIPES["demo"].to_dict()[name] for name in form_names(page)]
    answer = {"act": "wait", "ref": RUN.id}
    shown = page.fire("train-message", "select", ada, None, (), *HERE, "", "", "demo", *form, "first", data=answer)
    assert asked == [(RUN.id, ""), (RUN.id, "wait")] and shown[-1]["train-message"] == []
    left = page.fire(
        "train-message",
        "select",
        ada,
        None,
        (),
        *HERE,
        "",
        "",
        "demo",
        *form,
        "first",
        data={**answer, "act": "cancel"},
    )
    assert left[-1]["train-message"] == [] and len(asked) == 2


def test_duplicating_fills_the_form_and_starts_from_the_same_pairs(page, runs, ada):
    [shown] = page.fire("run-heading", "select", ada, [], None, *HERE, data={"act": "duplicate", "ref": RUN.id})
    assert shown["recipe"] == "paper" and shown["setting-beta"] == 0.5
    assert "same frozen pairs" in texts(shown["train-copied"])
    assert f"--data /runs/{RUN.id} --recipe paper" in texts(shown["train-command"])
    form = [RECIPES["paper"].to_dict()[name] for name in form_names(page)]
    page.fire("start-run", "click", ada, None, *HERE, RUN.id, "", "paper", *form, "first")
    assert runs.calls[-1] == ("duplicate", RUN.id, RECIPES["paper"], "", "")


def form_names(page):
    ids = [part.elem_id for part in page.events["check-run", "click"][0].inputs]
    return [each.removeprefix("setting-").replace("-", "_") for each in ids[3:-1]]


def test_a_run_without_pairs_is_refused_with_a_reason(page, ada):
    form = [RECIPES["demo"].to_dict()[name] for name in form_names(page)]
    last = page.fire("start-run", "click", ada, None, *HERE, "", "", "demo", *form, "first")[-1]
    assert last["train-message"][0][1]["role"] == "alert"
    assert "no pairs yet" in texts(visit(page, ada)["train-counts"])


def test_the_command_follows_the_form(page, ada):
    form = [RECIPES["demo"].to_dict()[name] for name in form_names(page)]
    form[form_names(page).index("beta")] = 0.25
    assert "--beta 0.25" in texts(
        page.fire("setting-beta", "input", ada, *HERE, "", "", "demo", *form, "first")["train-command"]
    )
    form[form_names(page).index("beta")] = -3
    assert (
        page.fire("setting-beta", "input", ada, *HERE, "", "", "demo", *form, "first")["train-command"][0][1]["role"]
        == "alert"
    )


def test_each_state_offers_what_can_be_done():
    offered = {
        state: {act for act, _ in acts(train_view.acts(replace(RUN, state=state, has_adapter=True), False))}
        for state in ("queued", "starting", "running", "stopping", "stopped", "failed", "done")
    }
    assert offered["running"] == {"stop", "duplicate"}
    assert offered["done"] == {"chat", "duplicate", "ask-delete"}
    assert offered["failed"] == offered["stopped"] == {"resume", "duplicate", "ask-delete"}
    assert "stop" in offered["queued"] and "ask-delete" not in offered["stopping"]


def test_warnings_are_said_once_and_skipped_pairs_are_counted():
    events = [{"kind": "warn", "what": "A."}] * 3 + [{"kind": "skip", "reason": "cut"}] * 2
    said = texts(runs_view.notes(events))
    assert said.count("A.") == 1 and "2 pairs left out" in said


def test_a_run_that_is_done_shows_what_it_took_beside_what_was_estimated():
    figures = {"seconds": 90.0, "memory": 2e9, "estimated_seconds": 80.0, "estimated_memory": 3e9}
    folder = SimpleNamespace(read_results=lambda: {"figures": figures})
    assert "It took 90 s" in texts(train_view.outcome(replace(RUN, state="done"), folder))
    assert train_view.outcome(replace(RUN, state="running"), folder) == []


def test_asking_again_shows_verdicts_and_who_judged():
    verdict = SimpleNamespace(wrong="cat", right="dog", verdict="mended")
    pair = SimpleNamespace(prompt=SimpleNamespace(question="Q?", all_images=()), rejected="a cat")
    result = SimpleNamespace(pair=pair, verdicts=(verdict,), judged_by="lexical", new_answer="a dog")
    said = texts(train_view.reasked([result]))
    assert "1 mended" in said and "by words alone" in said and "a dog" in said
    assert "Nothing to ask again" in texts(train_view.reasked([]))


def figure(value, low, high):
    return {"value": value, "low": low, "high": high}


def results(low):
    voice = {name: figure(0.4, 0.3, 0.5) for name in ("response_rate", "mention_rate", "recall", "target_recall")} | {
        "words": figure(40.0, 38.0, 42.0),
        "kinds": {"object": figure(None, None, None), "any": figure(0.4, 0.3, 0.5)},
        "scene_types": {"kitchen": {"scenes": 3, "response_rate": figure(0.4, 0.3, 0.5)}},
    }
    difference = {"difference": figure(-0.01, -0.02, 0.01), "relative_reduction": figure(0.5, low, 0.6)}
    paired = dict.fromkeys(("response_rate", "recall", "words"), difference)
    answer = {"voice": "", "text": "a cat and a dog", "false": [{"start": 2, "end": 5, "kind": "object"}]}
    return {
        "scenes": 3,
        "voices": [{**voice, "id": "", "title": "Baseline"}, {**voice, "id": "x", "title": "New", "paired": paired}],
        "examples": [{"scene": "s", "scene_type": "kitchen", "outcome": "mended", "answers": [answer]}],
    }


def test_an_unclear_difference_is_not_sold_as_a_success():
    assert texts(evaluate_view.verdicts(results(0.4))).strip().startswith("50 % fewer")
    assert texts(evaluate_view.verdicts(results(-0.1))).strip().startswith("No clear difference")


def test_what_is_the_same_in_every_scene_has_no_interval():
    found = results(0.4)
    found["scenes"] = found["voices"][0]["scene_types"]["kitchen"]["scenes"] = 1
    none = figure(0.0, 0.0, 0.0)
    found["voices"][0]["response_rate"] = none
    nothing = {"difference": none, "relative_reduction": none}
    found["voices"][1]["paired"] = {"response_rate": nothing, "recall": nothing, "words": nothing}
    said = texts(evaluate_view.figures(found))
    assert "0.0 % [no interval: all scenes alike]" in said and "[0.0, 0.0]" not in said
    assert "On 1 test scene" in said and "Kitchen, 1 scene:" in said
    told = texts(evaluate_view.verdicts(found))
    assert "paired by scene [no interval: all scenes alike]." in told and "95 % interval" not in told
    assert "recall +0.0 points [no interval: all scenes alike], +0.0 words an answer [no interval" in told


def test_figures_and_examples_are_shown_with_their_intervals():
    found = results(0.4)
    said = texts(evaluate_view.figures(found))
    assert "40.0 %" in said and "[30.0, 50.0]" in said and "Kitchen, 3 scenes" in said and "–" in said
    nodes = evaluate_view.examples(found, {"s": "a.png"}.get)
    assert ["mark", {"title": "false: object", "class": "false"}, "cat"] in list(flat(nodes))


def flat(nodes):
    for node in nodes if isinstance(nodes, list) else ():
        yield node
        yield from flat(node)


def test_a_model_without_a_world_has_benchmarks_and_no_scenes(page):
    parts = {getattr(block, "elem_id", None) for block in page.demo.blocks.values()}
    assert {"compare-sets", "leaderboard"} <= parts and not {"part-scenes", "evaluate-form"} & parts
