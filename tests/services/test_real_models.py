"""Tiny checkpoints of every architecture through the whole loop: chosen as folders, asked, corrected, trained a step,
and asked again with what was learnt."""

import threading

import pytest

from rlhfv.corrections.conversation import Sampling
from rlhfv.corrections.edits import Edit
from rlhfv.ddpo import train
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.services import build_services
from rlhfv.services.memory import ELSEWHERE
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings
from tests.models.families import ARCHITECTURES

ONE_STEP = TrainingConfig(
    steps=1, batch_size=1, warmup_ratio=0.0, eval_fraction=0.0, learning_rate=5e-2, lora_rank=4, lora_alpha=8
)
FAST = ("LLaVA", "Qwen2-VL")
QUESTION = "what is on the table?"


@pytest.mark.parametrize(
    "family", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES]
)
def test_the_loop_closes_on_a_folder_of_every_architecture(family, tmp_path, ada, picture, monkeypatch):
    monkeypatch.setattr("rlhfv.ddpo.watch.PROBES", 1)
    folder = ARCHITECTURES[family](tmp_path / "tiny-model")
    services = build_services(Settings(data_dir=tmp_path / "data", model=str(folder)))
    services.corrections.set_terms(ada, Terms(consent=True))
    reply = ask(services, ada, picture).left
    answer = services.store.answer(reply.answer_id)
    assert answer.text and (answer.model.name, answer.model.adapter) == ("tiny-model", None)

    services.corrections.save(
        ada, answer.id, answer.text, [Edit(0, len(answer.text) // 2, "There is a cat", "object")]
    )
    report = services.training.check(ada, ONE_STEP)
    assert (report.usable, report.skipped) == (1, ())
    run_id = services.training.start(ada, ONE_STEP, room=ELSEWHERE)
    # In this process: that a run's own process does the same is held by the tests of runs.
    monkeypatch.setenv("RLHFV_BASE_PATH", str(folder))
    train.run(services.training.folder(ada, run_id))
    [voice] = [voice for voice in services.host.voices(ada) if voice.adapter]
    assert voice.id == services.training.voice_of(ada, run_id)

    services.chat.new_conversation(ada)
    services.chat.choose(ada, "", voice.id, Sampling())
    turn = ask(services, ada, picture)
    before, after = (services.store.answer(side.answer_id) for side in (turn.left, turn.right))
    assert before.text == answer.text, "the baseline says what it said"
    assert after.text != answer.text and after.model.adapter == voice.id
    services.host.bases.unload_all()


def ask(services, who, picture):
    state = services.chat.open(who)
    services.chat.choose(who, state.left, state.right, Sampling(max_new_tokens=16))
    services.chat.set_images(who, (services.chat.add_image(who, picture).name,))
    *_, last = services.chat.ask(who, QUESTION, threading.Event())
    return last.turns[-1]
