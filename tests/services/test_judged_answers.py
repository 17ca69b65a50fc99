"""Answers that only a judge can count: who is offered it, what it costs, and that nothing is paid twice."""

import json
import shlex
import threading
from dataclasses import replace

import pytest

from rlhfv.errors import Forbidden, GenerationFailed, InvalidData, NotFound
from rlhfv.evaluation import judge as judging
from rlhfv.evaluation.judge_log import AskedJudge
from rlhfv.evaluation.judge_words import Standing
from rlhfv.judge_flags import NamedJudge
from rlhfv.remote_voices import RemoteVoice
from rlhfv.services import Actor, build_services
from rlhfv.services.actor import RIGHTS
from rlhfv.services.judged_answers import Way
from rlhfv.settings import Settings
from tests.evaluation.judge_server import JudgeServer
from tests.services.made_benchmark import make_mmhal, write_mmhal_answers
from tests.services.made_experiment import make_benchmarks

KEY = "sk-very-secret-0123456789"
READABLE, OFFICIAL = "readable by gpt-4", "official by gpt-4"
VISITOR = Actor("v" * 32, rights=RIGHTS - {"manage"})


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(judging, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    server = JudgeServer({"3": ["Rating: 1", "Rating: 5"]})
    yield server
    server.stop()


@pytest.fixture
def open_studio(tmp_path):
    """`open_studio(judge)` is a studio on the same data folder."""

    def open_studio(judge=None, **more):
        return build_services(Settings(data_dir=tmp_path / "data", judge=judge, **more))

    return open_studio


def name_judge(server, model="gpt-4", prompt=None) -> NamedJudge:
    return NamedJudge(RemoteVoice(model, server.url, model, key_env="JUDGE_KEY", flag="--judge"), prompt)


@pytest.fixture
def judge(server):
    return name_judge(server)


@pytest.fixture
def sets(open_studio, ada, tmp_path):
    """Two sets of 12 answers to MMHal-Bench of ada's."""
    services = open_studio()
    make_mmhal(services.benchmarking.root)
    files = [write_mmhal_answers(tmp_path / f"{name}.json", f"A {name} cat.") for name in ("Baseline", "Aligned")]
    return [services.reporting.take_in(ada, "mmhal", path) for path in files]


def ask(services, who, sets, name=READABLE, stop=None, on_progress=lambda *_: None):
    services.judged.ask(who, *sets, name, stop or threading.Event(), on_progress)


def test_who_may_ask_the_judge_is_offered_it_and_told_what_is_to_be_asked(open_studio, judge, sets, ada, server):
    services = open_studio(judge)
    assert services.reporting.variants(ada, sets[0]) == [READABLE, OFFICIAL]
    assert services.reporting.variants(VISITOR, sets[0]) == []
    wanted = services.judged.to_ask(ada, *sets, OFFICIAL)
    assert (wanted.server, wanted.model, wanted.some) == (server.url.split("/")[2], "gpt-4", False)
    assert wanted.standing == Standing(24, 24, 24, 24)
    with pytest.raises(InvalidData, match="none is chosen"):
        services.judged.to_ask(ada, *sets, "")
    assert not server.asked, "looking asks nothing"


def test_no_judge_is_paid_for_answers_to_other_questions(open_studio, judge, sets, ada, server):
    services = open_studio(judge)
    file = services.benchmarking.root / "mmhal" / "mmhal-bench_answer_template.json"
    file.write_text(file.read_text().replace("What is item", "Where is item"))
    with pytest.raises(InvalidData, match="answers other questions"):
        ask(services, ada, sets)
    assert not server.asked and len(services.reporting.leaderboard(ada).notes) == 1


def test_the_judge_is_asked_once_and_its_replies_are_counted_for_everybody(open_studio, judge, sets, ada, server):
    services, told = open_studio(judge), []
    ask(services, ada, sets, on_progress=lambda *done: told.append(done))
    assert told == [(done, 24) for done in range(1, 25)] and sum(server.asked.values()) == 24
    assert services.judged.to_ask(ada, *sets, READABLE) is None is services.judged.to_ask(ada, *sets, OFFICIAL)
    found = services.reporting.comparison(ada, *sets, READABLE)
    assert found.outcomes == {"broken": 0, "mended": 1, "still wrong": 0, "right": 11}
    assert "mmhal, readable" in found.variant and "judge gpt-4-0613@127.0.0.1" in found.variant
    assert services.reporting.comparison(ada, *sets, READABLE) is found
    assert "mended" in services.reporting.page(ada, *sets, READABLE)
    [score] = [one for one in services.reporting.leaderboard(ada).columns if one.measure.name == "score"]
    figures = {row.lineage.title: row.figures for row in services.reporting.leaderboard(ada).rows}
    assert figures["Baseline"][score.key].value == (11 * 4 + 1) / 12 and "judge gpt-4-0613@" in score.variant
    ask(services, ada, sets)
    server.stop()
    later = open_studio()
    assert later.reporting.variants(VISITOR, sets[1]) == [READABLE, OFFICIAL], "another start, and no judge"
    assert later.reporting.comparison(VISITOR, *sets, READABLE).outcomes == found.outcomes
    assert sum(server.asked.values()) == 24, "none is paid twice"


def test_what_is_asked_again_in_a_terminal_counts_on_the_leaderboard(open_studio, judge, sets, ada, server):
    services = open_studio(judge)
    server.plan = {"3": ["nonsense", "nonsense", "Rating: 0", "Rating: 0"]}
    ask(services, ada, sets)

    def scores():
        return [figure.value for row in services.reporting.leaderboard(ada).rows for figure in row.figures.values()]

    before = scores()
    assert scores() == before
    for one in sets:
        services.benchmarking.score(ada, one, "", lambda log: judging.Judge(judge.voice, log, again=True))
    assert scores() != before


def test_the_key_is_in_no_file(open_studio, judge, sets, ada, tmp_path):
    services = open_studio(judge)
    ask(services, ada, sets)
    assert KEY not in repr(services.settings)
    assert all(KEY not in path.read_text(errors="ignore") for path in tmp_path.rglob("*") if path.is_file())


def test_stopped_it_keeps_what_is_paid_and_asks_only_the_rest(open_studio, judge, sets, ada, server):
    services, stop = open_studio(replace(judge, at_once=1)), threading.Event()
    ask(services, ada, sets, stop=stop, on_progress=lambda done, total: done == 5 and stop.set())
    wanted = services.judged.to_ask(ada, *sets, READABLE)
    assert wanted.standing == Standing(24, 19, 24, 19) and not wanted.some, "nothing of the second set"
    assert services.reporting.variants(VISITOR, sets[0]) == [], "a part of the figures is offered to nobody"
    stop.clear()
    ask(services, ada, sets, stop=stop, on_progress=lambda done, total: done == 15 and stop.set())
    assert services.judged.to_ask(ada, *sets, READABLE).some
    assert [row.lineage.title for row in services.reporting.leaderboard(ada).rows if row.figures] == ["Baseline"]
    part = services.reporting.comparison(ada, *sets, READABLE)
    assert len(part.rows) == 3 and "9 items have no reply of the judge yet" in " ".join(part.notes)
    ask(services, ada, sets)
    assert set(server.asked.values()) == {2}, "once for each set"
    assert len(services.reporting.comparison(ada, *sets, READABLE).rows) == 12, "counted anew"


def test_what_the_server_refuses_is_told_and_the_rest_kept(open_studio, judge, sets, ada, server):
    server.plan = {"2": ["402"]}
    services = open_studio(replace(judge, at_once=1))
    with pytest.raises(GenerationFailed, match="paid first") as error:
        ask(services, ada, sets)
    assert "2 of 12 items have a reply" in error.value.fix and KEY not in str(error.value)
    assert services.judged.to_ask(ada, *sets, READABLE).standing.waiting == 22


def test_who_does_not_manage_the_studio_asks_nothing(open_studio, judge, sets, server):
    services = open_studio(judge)
    with pytest.raises(Forbidden):
        ask(services, VISITOR, sets)
    with pytest.raises(InvalidData, match="Ask whoever runs this studio"):
        services.judged.to_ask(VISITOR, *sets, "readable")
    assert services.judged.command(VISITOR, sets) == "" and not server.asked


def test_sets_that_cannot_be_compared_are_not_paid_for(open_studio, judge, sets, ada, tmp_path, server):
    services = open_studio(judge)
    path = write_mmhal_answers(tmp_path / "other.json", "A dog.")
    other = services.reporting.take_in(ada, "mmhal", path, decoding="greedy")
    for ask_it in (services.judged.to_ask, lambda *given: ask(services, given[0], given[1:3])):
        with pytest.raises(InvalidData, match="differ in the prompt"):
            ask_it(ada, sets[0], other, READABLE)
    with pytest.raises(NotFound):
        services.judged.to_ask(ada, sets[0], "gone", READABLE)
    assert not server.asked


def test_without_a_judge_it_says_how_to_get_one(open_studio, sets, ada, tmp_path):
    services = open_studio()
    assert services.reporting.variants(ada, sets[0]) == []
    with pytest.raises(InvalidData) as error:
        services.judged.to_ask(ada, *sets, "")
    assert "MMHal-Bench is counted by a judge, and this studio has none." in str(error.value)
    command = error.value.fix.partition("terminal: ")[2]
    words = ["compare", *sets, "--judge", "URL#MODEL", "--judge-key-env", "VARIABLE"]
    assert shlex.split(command) == [*"python -m rlhfv benchmark".split(), *words, "--data-dir", f"{tmp_path / 'data'}"]


def test_another_judge_of_before_is_offered_where_it_judged_all_and_asked_by_nobody(
    open_studio, judge, sets, ada, server, tmp_path
):
    (tmp_path / "words.txt").write_text("{contents} {question} {reference} {answer} Rating?")
    other = name_judge(server, "gpt-4", tmp_path / "words.txt")
    first = open_studio(other)
    [name, _] = first.reporting.variants(ada, sets[0])
    ask(first, ada, (sets[0], sets[0]), name)
    (tmp_path / "words.txt").unlink()
    assert sum(server.asked.values()) == 12
    services = open_studio(judge)
    assert services.reporting.variants(ada, sets[0])[:3] == [READABLE, OFFICIAL, name]
    assert services.reporting.variants(VISITOR, sets[0])[0] == name and ", prompt " in name
    with pytest.raises(InvalidData, match=r"12 of 24 answers .* this studio has another, gpt-4") as error:
        services.judged.to_ask(ada, *sets, name)
    kept = services.settings.data_dir / "evaluations" / sets[0] / f"judge-prompt-{name[-8:]}"
    assert f"--judge-prompt {kept}" in error.value.fix
    with pytest.raises(InvalidData, match="Choose two sets that are judged"):
        services.judged.to_ask(VISITOR, *sets, name)


def test_a_benchmark_that_words_can_count_too_keeps_that_first(open_studio, judge, ada, tmp_path, server):
    services, ids = open_studio(judge), []
    make_benchmarks(services.benchmarking.root, 4)
    for name in ("before", "after"):
        path = tmp_path / f"{name}.jsonl"
        said = [{"question_id": place, "text": f"There is an item <{place}> {name} here."} for place in range(1, 5)]
        path.write_text("\n".join(map(json.dumps, said)))
        ids.append(services.reporting.take_in(ada, "object-halbench", path))
    server.plan = {str(place): ['["dog", "cat"]', '["dog"]'] for place in range(1, 5)}
    variants = services.reporting.variants(ada, ids[0])
    assert variants == ["object-halbench-lexical", "object-halbench-judge by gpt-4"]
    assert services.judged.to_ask(ada, *ids, variants[0]) is None is services.judged.to_ask(ada, *ids, "")
    ask(services, ada, ids, variants[1])
    found = services.reporting.comparison(ada, *ids, variants[1])
    assert found.outcomes["mended"] == 4 and "judge gpt-4-0613@" in found.variant
    assert sum(server.asked.values()) == 8


def test_what_both_sets_say_is_asked_and_paid_once(open_studio, judge, sets, ada, tmp_path, server):
    same = write_mmhal_answers(tmp_path / "same.json", "The same cat.")
    services = open_studio(replace(judge, at_once=1))
    equal = [
        services.reporting.take_in(ada, "mmhal", same, decoding="greedy", model=model) for model in ("base", "aligned")
    ]
    assert services.judged.to_ask(ada, *equal, READABLE).standing == Standing(12, 12, 24, 24)
    told = []
    ask(services, ada, equal, on_progress=lambda *done: told.append(done))
    assert told == [(done, 12) for done in range(1, 13)] and sum(server.asked.values()) == 12
    assert services.judged.to_ask(ada, *equal, READABLE) is None
    assert services.reporting.comparison(ada, *equal, READABLE).outcomes["mended"] == 0
    # Each keeps what is counted of it: the other one may go.
    services.reporting.delete(ada, equal[0])
    assert READABLE in open_studio().reporting.variants(VISITOR, equal[1])


def test_what_was_said_of_one_set_is_counted_of_the_other_without_asking(open_studio, judge, ada, tmp_path, server):
    services = open_studio(judge)
    make_mmhal(services.benchmarking.root)
    same = write_mmhal_answers(tmp_path / "same.json", "The same cat.")
    first, second = (
        services.reporting.take_in(ada, "mmhal", same, decoding="greedy", model=model) for model in ("base", "aligned")
    )
    ask(services, ada, (second, second))
    assert sum(server.asked.values()) == 12
    assert services.judged.to_ask(ada, first, second, READABLE) is None
    assert services.reporting.comparison(ada, first, second, READABLE).outcomes["mended"] == 0
    log = services.benchmarking.sets / first / "judge.jsonl"
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events == ["judge"] + ["copied"] * 12 and sum(server.asked.values()) == 12


def test_a_terminal_that_compares_pays_once_too(open_studio, judge, ada, tmp_path, server):
    from rlhfv.evaluation.judge import Judge

    services = open_studio()
    make_mmhal(services.benchmarking.root)
    same = write_mmhal_answers(tmp_path / "same.json", "The same cat.")
    ids = [services.reporting.take_in(ada, "mmhal", same, decoding="greedy", model=model) for model in ("one", "two")]
    services.benchmarking.score(ada, ids[1], "", lambda log: Judge(judge.voice, log))
    found = services.benchmarking.compare(ada, *ids, "", lambda log: Judge(judge.voice, log))
    assert sum(server.asked.values()) == 12, "none is paid twice"
    assert found.outcomes["mended"] == found.outcomes["broken"] == 0 and len(found.rows) == 12


def test_two_versions_of_a_judge_are_told_before_anything_more_is_paid(open_studio, judge, sets, ada, server):
    services = open_studio(replace(judge, at_once=1))
    ask(services, ada, sets)
    log = services.benchmarking.sets / sets[1] / "judge.jsonl"
    whole = log.read_text().replace("gpt-4-0613", "gpt-4-1106")
    log.write_text(whole)
    with pytest.raises(InvalidData, match=r"answered as gpt-4-0613@.* as gpt-4-1106@") as error:
        services.judged.to_ask(ada, *sets, READABLE)
    assert "--judge URL#gpt-4-1106 or URL#gpt-4-0613" in error.value.fix
    assert f"compare {sets[0]} {sets[1]} --variant readable --judge 'URL#gpt-4-1106'" in error.value.fix
    log.write_text("".join(line for line in whole.splitlines(True)[:-4]))
    with pytest.raises(InvalidData, match="answered as"):
        ask(services, ada, sets)
    assert sum(server.asked.values()) == 24, "the rest is not paid for: it could not be compared"
    with pytest.raises(InvalidData, match="ask whoever runs this studio"):
        services.judged.to_ask(VISITOR, *sets, READABLE)
    server.served = "gpt-4-1106"
    named = open_studio(name_judge(server, "gpt-4-1106"))
    ask(named, ada, sets, "readable by gpt-4-1106")
    assert len(named.reporting.comparison(ada, *sets, "readable by gpt-4-1106").rows) == 12


def test_judges_whose_paths_end_alike_are_told_apart():
    ways = [Way("readable", AskedJudge(f"/models/{folder}/judge")) for folder in "ab"]
    first, second = (way.name for way in ways)
    assert first != second and "/models" not in first + second and first.startswith("readable by judge, model ")
