import pytest
import torch

from rlhfv.corrections.conversation import Sampling
from rlhfv.ddpo.base import load_base
from rlhfv.ddpo.batches import PairEncoder
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.vision import ImageInputs
from rlhfv.ddpo.watch import FALL_LIMIT, Watch, answer_probes, choose_probes, measure_probes
from rlhfv.models.catalog import find_entry
from rlhfv.models.local import load_model


def test_words_and_recall_are_counted_by_word_and_by_character_where_words_have_no_spaces():
    words, recall = measure_probes(["A cat, a dog.", "猫が"], ["a cat", "猫と犬"])
    assert words == (4 + 2) / 2
    assert recall == (1.0 + 1 / 3) / 2


def test_falling_chosen_answers_warn_once_and_not_on_one_bad_step():
    watch = Watch()
    assert [watch.see_chosen(-0.1 + change, -0.1) for change in (0.0, 0.0, 0.0, -0.1)] == [None] * 4
    raised = [watch.see_chosen(-0.2, -0.1) for _ in range(5)]
    assert [found.sign for found in raised if found] == ["chosen"]
    assert watch.raised == ["chosen"]


def test_a_small_fall_is_no_warning():
    watch = Watch()
    assert not any(watch.see_chosen(-1 - 0.9 * FALL_LIMIT, -1.0) for _ in range(100))


@pytest.mark.parametrize(
    ("words", "recall", "sign"), [(20, 0.9, "words"), (40, 0.5, "recall"), (35, 0.8, None), (60, 0.95, None)]
)
def test_shorter_or_poorer_probe_answers_warn(words, recall, sign):
    watch = Watch()
    assert watch.see_probes(40, 0.9) is None
    warned = watch.see_probes(words, recall)
    assert (warned and warned.sign) == sign


def test_a_resumed_watch_judges_as_before():
    watch = Watch()
    watch.see_probes(40, 0.9)
    for _ in range(4):
        watch.see_chosen(-2.0, -1.0)
    again = Watch.from_state(watch.state())
    assert again == watch
    assert again.see_chosen(-2.0, -1.0) is None  # told before
    assert again.see_probes(5, 0.9).sign == "words"


@pytest.mark.parametrize(
    "family", ["llava", *(pytest.param(one, marks=pytest.mark.slow) for one in ("smolvlm", "qwen2_5_vl"))]
)
def test_probes_answer_as_the_chat_does_and_leave_no_trace(bases, find_image, pairs, family):
    base = load_base(find_entry(str(bases[family])), TrainingConfig())
    encoder = PairEncoder(base.processor, find_image, TrainingConfig(), base.end_tokens)
    probes = choose_probes([encoder.encode(pair) for pair in pairs], seed=0)
    images = ImageInputs(base.model, base.processor, find_image)
    base.model.train()
    state = torch.get_rng_state()
    answers = answer_probes(base.model, base.processor.tokenizer, probes, images, base.end_tokens)
    assert torch.equal(torch.get_rng_state(), state)
    assert base.model.training
    assert getattr(base.model.base_model, "rope_deltas", None) is None
    longest = max(len(pair.chosen) for pair in probes)
    model = load_model(str(bases[family]))
    try:
        sampling = Sampling(max_new_tokens=longest + longest // 4)
        prompts = [pair.conversation for pair in probes]
        assert answers == model.answer_many(prompts, None, sampling, find_image, 1)
    finally:
        model.unload()
