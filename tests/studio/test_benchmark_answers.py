"""Letting voices answer a benchmark from the page, without a browser."""

import time
from dataclasses import replace

import pytest

from rlhfv.errors import Forbidden, GenerationFailed
from rlhfv.services import Actor, build_services
from rlhfv.services.actor import RIGHTS
from rlhfv.services.model_host import Voice
from rlhfv.settings import Settings
from rlhfv.studio.benchmarks import NOTHING
from tests.services.made_benchmark import make_mmhal, make_pope
from tests.services.two_voices import ALIGNED, give_two_voices
from tests.studio.conftest import Page, texts

POPE = "pope-random"
BOTH = ["", ALIGNED]


@pytest.fixture
def model(services, monkeypatch):
    make_pope(services.benchmarking.root, 40)
    return give_two_voices(monkeypatch, services)


def begin(page, who, voices=BOTH, benchmark=POPE, decoding="greedy"):
    return page.fire("answer-go", "click", who, benchmark, voices, decoding)


def tick(page, who, seen=None, asked=NOTHING):
    page.events["answer-timer", "tick"] = [
        one for one in page.demo.fns.values() if one.api_name == "benchmark_answers_tick"
    ]
    return page.fire("answer-timer", "tick", who, seen, asked)


def tick_until(page, who, told: str, seen=None) -> dict:
    """Ticks as a page does until it tells this; `seen` is what it saw last."""
    until, chosen = time.monotonic() + 10, {}
    while time.monotonic() < until:
        shown = tick(page, who, seen)
        if "answer-told" in shown:
            seen = next(value for value in shown.values() if isinstance(value, tuple) and len(value) > 3)
            chosen |= {name: value for name, value in shown.items() if str(name).startswith("compare-")}
            if told in texts(shown["answer-told"]):
                return {**chosen, **shown, "seen": seen}
        time.sleep(0.01)
    raise AssertionError(f"never told: {told}; last {tick(page, who)}")


def test_both_benchmark_answers_and_stand_ready_to_be_compared(page, services, ada, bob, model):
    form = page.fire("tab-evaluate", "select", ada)
    assert form["let-answer"]["visible"] and form["answer-form"]["visible"]
    assert form["answer-voices"] == {"choices": [("Baseline", ""), ("Aligned", ALIGNED)], "value": BOTH}
    assert form["answer-benchmark"] == {"choices": [("POPE, random", POPE)], "value": POPE}
    begun = begin(page, ada)
    assert begun["answer-stop"]["visible"] and not begun["answer-go"]["interactive"]
    assert "Baseline: 0 of 40 items" in texts(begun["answer-told"])
    model.batches.release()
    shown = tick_until(page, ada, "Baseline: 16 of 40 items, about")
    assert "Then Aligned. You may close this page" in texts(shown["answer-told"])
    assert "compare-before" not in shown, "nothing is chosen while a voice answers"
    other = page.fire("tab-evaluate", "select", bob)
    assert "16 of 40" in texts(other["answer-told"]) and other["let-answer"]["open"], "another page of this machine"
    assert "at work here already" in texts(begin(page, bob)["answer-told"])
    for _ in range(2):
        model.batches.release()
    begun_with = next(value for value in begun.values() if isinstance(value, tuple))
    shown = tick_until(page, ada, "Aligned: 0 of 40 items", begun_with)
    baseline = shown["compare-before"]["value"]
    assert "Baseline: 40 of 40 items have an answer" in texts(shown["answer-told"])
    for _ in range(3):
        model.batches.release()
    shown = tick_until(page, ada, "Aligned: 40 of 40 items have an answer", shown["seen"])
    titles = {one.id: one.title for one in services.reporting.sets(ada)}
    before, after = shown["compare-before"]["value"], shown["compare-after"]["value"]
    assert (before, titles[after]) == (baseline, "Aligned, POPE, random, greedy")
    assert titles[before] == "Baseline, POPE, random, greedy" and not shown["answer-stop"]["visible"]
    *_, end = page.fire("compare-sets", "click", ada, before, after, shown["compare-variant"]["value"])
    assert end["compared"]["visible"]


def test_the_newest_adapter_is_ticked_and_a_judge_is_named_to_who_manages(page, services, ada, model, monkeypatch):
    local = services.host.local_voices(ada)
    newest = replace(local[-1], id="newest", title="Newest")
    monkeypatch.setattr(services.host, "local_voices", lambda who: (*local, newest))
    monkeypatch.setattr(services.host, "voices", lambda who: (*local, newest))
    form = page.fire("tab-evaluate", "select", ada)
    assert form["answer-voices"]["value"] == ["", "newest"] and form["answer-judging"] == []
    make_mmhal(services.benchmarking.root)
    told = texts(page.fire("tab-evaluate", "select", ada)["answer-judging"])
    assert "python app.py --judge URL#MODEL" in told


def test_stopped_from_another_page_it_goes_on_where_it_was(page, services, ada, bob, model):
    begin(page, ada)
    model.batches.release()
    tick_until(page, ada, "16 of 40")
    stopped = page.fire("answer-stop", "click", bob)
    assert "Stopped." in texts(stopped["answer-told"]) and not stopped["answer-stop"]["visible"]
    shown = tick_until(page, ada, "Stopped. What was answered is kept")
    assert "Baseline: 16 of 40 items have an answer" in texts(shown["answer-told"])
    assert shown["answer-go"]["interactive"] and "Aligned" not in texts(shown["answer-told"])
    [one] = services.reporting.sets(ada)
    assert one.done == 16
    form = page.fire("tab-evaluate", "select", ada)
    assert (form["answer-benchmark"]["value"], form["answer-voices"]["value"]) == (POPE, BOTH), "Answer goes on"
    begun = begin(page, ada, [""])
    assert "Baseline: 16 of 40 items" in texts(begun["answer-told"])
    for _ in range(2):
        model.batches.release()
    tick_until(page, ada, "Baseline: 40 of 40 items have an answer")


def test_answers_that_were_deleted_meanwhile_are_not_chosen(page, services, ada, model):
    for _ in range(3):
        model.batches.release()
    begin(page, ada, [""])
    shown = tick_until(page, ada, "40 of 40 items have an answer")
    [one] = services.reporting.sets(ada)
    services.reporting.delete(ada, one.id)
    shown = tick(page, ada, (shown["seen"][0], 0))
    assert "40 of 40" in texts(shown["answer-told"]) and "compare-before" not in shown


def test_a_baseline_that_answers_last_stands_before_its_adapter(services, ada, model):
    for _ in range(6):
        model.batches.release()
    *_, aligned = services.benchmarking.answer(ada, POPE, ALIGNED)
    assert services.reporting.beside(ada, aligned.id) == (aligned.id, "")
    *_, baseline = services.benchmarking.answer(ada, POPE)
    assert services.reporting.beside(ada, baseline.id) == (baseline.id, aligned.id)
    assert services.reporting.beside(ada, aligned.id) == (baseline.id, aligned.id)
    for _ in range(8):
        model.batches.release()
    *_, beams = services.benchmarking.answer(ada, POPE, ALIGNED, "rlhfv")
    assert services.reporting.beside(ada, beams.id) == (beams.id, ""), "the others were decoded in another way"


def test_between_two_batches_chat_has_its_turn(services, ada, model):
    for _ in range(3):
        model.batches.release()
    states = [state.done for state in services.benchmarking.answer(ada, POPE) if services.host.first.users == 0]
    assert states == [0, 16, 32, 40]


def test_failures_are_told_by_item_and_then_counted(page, services, ada, model, monkeypatch):
    def fail(prompts, *arguments, **named):
        if len(prompts) > 1 or "cup" not in prompts[0].question:
            raise GenerationFailed("The answer broke off.", "The memory is full.", "Take fewer at once.")
        return ["yes"]

    monkeypatch.setattr(model, "answer_many", fail)
    begin(page, ada)
    said = texts(tick_until(page, ada, "Aligned: 4 of 40 items have an answer")["answer-told"])
    assert "Baseline: 4 of 40 items have an answer" in said
    assert said.count("items have no answer") == 1, "the same failed with both"
    assert "36 items have no answer; Answer asks again. Baseline and Aligned" in said
    assert said.count("The answer broke off.") == 5 and "And 31 more." in said
    assert said.count("The memory is full. Take fewer at once.") == 1, "the same of all"


def test_what_ends_one_voice_is_told_in_three_parts_and_the_next_begins(page, services, ada, model, monkeypatch):
    answer = services.benchmarking.answer

    def away(who, kind, voice, *more):
        if not voice:
            raise GenerationFailed("It is away.", "A run has its memory.", "Wait.")
        return answer(who, kind, voice, *more)

    monkeypatch.setattr(services.benchmarking, "answer", away)
    for _ in range(3):
        model.batches.release()
    begin(page, ada)
    said = texts(tick_until(page, ada, "Aligned: 40 of 40")["answer-told"])
    assert "Baseline: It is away. A run has its memory. Wait." in said


def test_what_cannot_begin_is_told(page, services, ada, model):
    assert "No voice is chosen. Each voice" in texts(begin(page, ada, [])["answer-told"])
    assert "No benchmark is chosen." in texts(begin(page, ada, benchmark=None)["answer-told"])
    begin(page, ada, [""], decoding="guess")
    assert "There is no decoding 'guess'" in texts(tick_until(page, ada, "no decoding")["answer-told"])


def test_without_files_it_says_which_are_missing(page, ada, services):
    form = page.fire("tab-evaluate", "select", ada)
    assert not form["answer-form"]["visible"]
    for place in ("answer-wanting", "compare-wanting"):
        said = texts(form[place])
        assert f"looked for in {services.benchmarking.root}" in said and "pope/coco_pope_random.json" in said
    assert "Let voices answer one" in texts(form["compare-message"])


def test_where_many_share_a_machine_only_who_manages_it_is_offered_it(tmp_path, ada):
    services = build_services(Settings(data_dir=tmp_path, single_user=False, answers_per_minute=5))
    make_pope(services.benchmarking.root)
    page, visitor = Page(build_app(services)), Actor("v" * 32, rights=RIGHTS - {"manage"})
    form = page.fire("tab-evaluate", "select", visitor)
    assert not form["let-answer"]["visible"] and "answer-voices" not in form
    assert "only who manages this studio" in texts(form["compare-message"])
    assert "needs the right 'manage'" in texts(begin(page, visitor, [""])["answer-told"])
    assert page.fire("tab-evaluate", "select", ada)["let-answer"]["visible"]
    nobody = Actor("n" * 32, rights=frozenset())
    assert "needs the right 'train'" in texts(begin(page, nobody, [""])["answer-told"])


def test_nothing_goes_to_a_server_that_nobody_ticked_and_how_much_is_told(services, ada, model, monkeypatch):
    voices = (Voice("", "Baseline"), Voice("gpt@far:1", "GPT", server="far:1"))
    monkeypatch.setattr(services.host, "voices", lambda actor: voices)
    monkeypatch.setattr(services.host, "first_two", lambda actor: ("gpt@far:1", ""))
    page = Page(build_app(services))
    form = page.fire("tab-evaluate", "select", ada)
    assert form["answer-voices"]["value"] == [""] and form["answer-sending"] == []
    said = texts(page.fire("answer-voices", "input", ada, POPE, ["", "gpt@far:1"]))
    assert "Up to 40 questions with their pictures to far:1, for GPT" in said and "charges" in said
    assert page.fire("answer-voices", "input", ada, POPE, [""]) == []


def test_where_many_share_a_studio_only_who_manages_it_sends_to_a_server(tmp_path, ada, monkeypatch):
    services = build_services(Settings(data_dir=tmp_path, single_user=False))
    make_pope(services.benchmarking.root)
    voices = (Voice("", "Baseline"), Voice("gpt@far:1", "GPT", server="far:1"))
    monkeypatch.setattr(services.host, "voices", lambda actor: voices)
    monkeypatch.setattr(services.host, "voice", lambda actor, id: voices[bool(id)])
    page, visitor = Page(build_app(services)), Actor("v" * 32, rights=RIGHTS - {"manage"})
    assert len(page.fire("tab-evaluate", "select", visitor)["answer-voices"]["choices"]) == 1
    assert len(page.fire("tab-evaluate", "select", ada)["answer-voices"]["choices"]) == 2
    assert "No voice is chosen" in texts(begin(page, visitor, ["gpt@far:1"])["answer-told"])
    with pytest.raises(Forbidden):
        next(services.benchmarking.answer(visitor, POPE, "gpt@far:1"))


def build_app(services):
    from rlhfv.studio.app import build_app

    return build_app(services)
