"""On a Space anybody trains the demo model, without an account: in turn, for three minutes at most, for themselves."""

import time

import pytest

from rlhfv.ddpo.config import RECIPES
from rlhfv.errors import ModelUnavailable, NotFound, RunFailed
from rlhfv.runs.local import LocalRuns
from rlhfv.services import Actor, build_services
from rlhfv.settings import SPACE_RUN_SECONDS, parse_app_arguments

RIGHTS = frozenset({"chat", "correct", "train"})
ADA, BOB = Actor("a" * 32, rights=RIGHTS), Actor("b" * 32, rights=RIGHTS)


@pytest.fixture
def on_a_space(monkeypatch, tmp_path):
    monkeypatch.setenv("SPACE_ID", "ann/studio")
    return parse_app_arguments(["--data-dir", str(tmp_path / "data")])


def test_a_worker_is_told_how_long_it_has(on_a_space, tmp_path):
    assert on_a_space.run_seconds == SPACE_RUN_SECONDS == 180 and not on_a_space.single_user
    limited, free = LocalRuns(tmp_path / "a", on_a_space.run_seconds), LocalRuns(tmp_path / "b")
    assert limited._environment({"base": {}})["RLHFV_RUN_SECONDS"] == "180.0"
    assert "RLHFV_RUN_SECONDS" not in free._environment({"base": {}})


def test_the_page_says_so_before_a_run_starts(on_a_space):
    advice = build_services(on_a_space).training.counts(ADA).advice
    assert "wait for their turn" in advice and "ends after 3 minutes" in advice and "yours only" in advice


def test_suspect_words_do_not_take_of_anybodys_gpu_time(on_a_space, monkeypatch):
    hints = build_services(on_a_space).hints
    monkeypatch.setattr("rlhfv.services.model_host.ModelHost.borrows_gpu", True)
    monkeypatch.setattr(hints.corrections, "open", lambda who, answer: None)
    assert "your GPU time" in hints.why_none(ADA, "any")


def test_a_real_model_is_not_trained_where_a_gpu_is_only_borrowed(on_a_space, monkeypatch, tmp_path):
    from tests.models.tiny import build_llava

    monkeypatch.setattr("rlhfv.services.model_host.on_zero_gpu", lambda: True)  # only there: no CUDA is pretended here
    flags = ["--model", str(build_llava(tmp_path / "base")), "--data-dir", str(tmp_path / "data")]
    services = build_services(parse_app_arguments(flags))
    with pytest.raises(RunFailed, match="Start it as a Job"):
        services.training._start(ADA, "run", {}, [], lambda name: tmp_path, {})
    offered = [voice.title for voice in services.host.voices(ADA)]
    assert offered == ["Baseline", "Demo model: baseline", "Demo model: Aligned with oracle corrections"]
    assert services.host.stand_ins == services.host.voices(ADA)[1:] and services.chat.open(ADA).right == ""
    # The demo model stands beside it, and that one is trained here; what is sent away trains the chat's own.
    assert services.training.base_to_train(ADA).entry.id == "demo"
    assert services.training.base_to_train(ADA, here=False).entry.title == "base"
    assert services.training.can_add_oracle_pairs() and services.chat.studio(ADA).can_draw
    assert services.host.base_config(services.training.base_to_train(ADA))["name"] == "demo"
    with pytest.raises(ModelUnavailable, match="cannot stand beside"):
        services.host.put_beside("smolvlm")


@pytest.mark.slow
def test_anybody_trains_in_turn_and_sees_their_own_adapter_only(on_a_space):
    services = build_services(on_a_space)
    training, config = services.training, RECIPES["demo"].changed(epochs=1)
    started = {}
    for who in (ADA, BOB):
        *_, (made, wanted) = training.add_oracle_pairs(who, 8)
        assert made == wanted == 8 and training.counts(who).oracle == 8
        started[who] = training.start(who, config, "mine")
    assert training.run(BOB, started[BOB]).state == "queued", "one at a time"
    deadline = time.monotonic() + 400
    while any(training.run(who, run).state != "done" for who, run in started.items()):
        assert time.monotonic() < deadline, [training.log(who, run)[-5:] for who, run in started.items()]
        training.local.start_next()
        time.sleep(0.5)
    for who, other in ((ADA, BOB), (BOB, ADA)):
        own, strange = (str(training.local.open(started[one]).adapter) for one in (who, other))
        sources = [voice.source for voice in services.host.voices(who)]
        assert own in sources and strange not in sources
        with pytest.raises(NotFound):
            training.run(who, started[other])
        with pytest.raises(NotFound):
            services.host.voice(who, training.voice_of(other, started[other]))
