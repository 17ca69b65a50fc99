import math

import pytest
import torch

from rlhfv.ddpo.base import load_base, make_trainable, without_adapter
from rlhfv.ddpo.batches import Collator, PairEncoder
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.crosscheck import choose_fast_ways
from rlhfv.ddpo.scoring import score_at_sites
from rlhfv.ddpo.vision import ImageInputs
from rlhfv.errors import RunFailed
from rlhfv.models.catalog import find_entry

FAMILIES = ("llava", "smolvlm", "qwen2_5_vl")


class Bench:
    """A base with an adapter whose weights are random, and the pairs as tokens."""

    def __init__(self, folder, find_image, pairs, config=None):
        config = config or TrainingConfig()
        self.base = load_base(find_entry(str(folder)), config)
        score_at_sites(self.base.model)
        self.model = make_trainable(self.base, config).eval()
        for name, value in self.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value, std=0.05)
        self.images = ImageInputs(self.base.model, self.base.processor, find_image)
        encoder = PairEncoder(self.base.processor, find_image, config, self.base.end_tokens)
        self.pairs = [encoder.encode(pair) for pair in pairs]

    def score(self, pairs, whole_logits=False):
        batch = Collator(self.base.end_tokens[0], self.images)(pairs)
        places = tuple(batch["sites"][name] for name in ("rows", "positions", "targets"))
        return self.model(**batch["model"], answer_sites=places, whole_logits=whole_logits)


@pytest.fixture(scope="module")
def benches(bases, find_image, pairs):
    return {family: Bench(folder, find_image, pairs[:6]) for family, folder in bases.items()}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_batch_scores_are_the_models_own(benches, family):
    bench = benches[family]
    whole, slow = choose_fast_ways(bench.model, bench.images, bench.score, bench.pairs)
    assert (whole, slow) == (False, "")
    assert bench.images.cached


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_kept_features_and_pixels_score_alike(benches, family):
    bench = benches[family]
    kept = bench.score(bench.pairs)
    bench.images.cached = False
    try:
        torch.testing.assert_close(bench.score(bench.pairs), kept, atol=1e-4, rtol=1e-4)
    finally:
        bench.images.cached = True


def test_an_image_is_encoded_once(bases, find_image, pairs, monkeypatch):
    bench = Bench(bases["llava"], find_image, pairs[:3])
    calls = []
    encode = bench.base.model.get_image_features
    monkeypatch.setattr(bench.base.model, "get_image_features", lambda **inputs: calls.append(1) or encode(**inputs))
    for _ in range(3):
        bench.score(bench.pairs)
    assert len(calls) == 3


def test_a_model_that_scores_otherwise_is_refused(benches, monkeypatch):
    bench = benches["llava"]
    with pytest.raises(RunFailed, match="differ from the model's own"):
        choose_fast_ways(bench.model, bench.images, lambda pairs, whole: bench.score(pairs, whole) - 1, bench.pairs)
    bench.images.cached = True


def test_the_slower_way_is_taken_where_the_fast_one_is_wrong(benches):
    bench = benches["llava"]

    def wrong_with_features(pairs, whole):
        return bench.score(pairs, whole) - (1.0 if bench.images.cached else 0.0)

    try:
        whole, slow = choose_fast_ways(bench.model, bench.images, wrong_with_features, bench.pairs)
        assert (whole, slow) == (False, "image features cannot be kept")
    finally:
        bench.images.cached = True


@torch.no_grad()
def test_the_head_in_pieces_gives_the_same(benches, monkeypatch):
    bench = benches["llava"]
    once = bench.score(bench.pairs)
    monkeypatch.setattr("rlhfv.ddpo.scoring._HEAD_LOGITS", 4096)
    torch.testing.assert_close(bench.score(bench.pairs), once)


@pytest.mark.parametrize(
    ("field", "value", "change"),
    [
        ("final_logit_softcapping", 3.0, lambda logits: 3.0 * torch.tanh(logits / 3.0)),
        ("logit_scale", 0.25, lambda logits: 0.25 * logits),
        ("logits_scaling", 4.0, lambda logits: logits / 4.0),
    ],
)
@torch.no_grad()
def test_what_a_model_does_to_its_logits_is_done_here_too(bases, find_image, pairs, monkeypatch, field, value, change):
    from rlhfv.ddpo.scoring import _logit_adjustment

    bench = Bench(bases["llava"], find_image, pairs[:1])
    setattr(bench.base.model.config.get_text_config(), field, value)
    logits = torch.randn(3, 5)
    torch.testing.assert_close(_logit_adjustment(bench.base.model)(logits), change(logits))


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_exist_on_the_adapter_of_the_language_model_only(benches, family):
    bench = benches[family]
    bench.model.zero_grad()
    bench.score(bench.pairs[:2]).sum().backward()
    touched = [name for name, value in bench.model.named_parameters() if value.grad is not None]
    assert touched
    assert all("lora_" in name for name in touched)
    assert not [name for name in touched if "vision" in name or "visual" in name or "connector" in name]
    layers = bench.base.model.config.get_text_config().num_hidden_layers
    assert len(touched) == 2 * 7 * layers


def test_without_the_adapter_it_is_the_reference(benches):
    bench = benches["llava"]
    with torch.no_grad():
        tuned = bench.score(bench.pairs[:2])
        with without_adapter(bench.model):
            start = bench.score(bench.pairs[:2])
    assert not torch.allclose(tuned, start)
    assert math.isfinite(start.sum())


def test_an_adapter_on_attention_only_has_four_layers_each(bases):
    config = TrainingConfig(lora_targets="attention", lora_rank=2)
    base = load_base(find_entry(str(bases["smolvlm"])), config)
    model = make_trainable(base, config)
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    assert len(trained) == 2 * 4 * 2
    assert all("self_attn" in name and "text_model" in name for name in trained)
