"""Packed rows against two rows a pair, in float64: the same scores, losses and gradients, or it is noticed."""

import dataclasses
import types

import pytest
import torch

from rlhfv.corrections.conversation import Prompt, Turn
from rlhfv.ddpo import packing
from rlhfv.ddpo.base import load_base, make_trainable
from rlhfv.ddpo.batches import Collator, PairEncoder
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.crosscheck import compare_packed
from rlhfv.ddpo.loss import ddpo_loss, score_answers
from rlhfv.ddpo.packing import (
    PackedCollator,
    packed_length,
    shared_start,
    tokens_saved,
    why_not_packed,
)
from rlhfv.ddpo.scoring import score_at_sites
from rlhfv.ddpo.trees import tree_mask
from rlhfv.ddpo.vision import ImageInputs
from rlhfv.models.catalog import find_entry
from tests.ddpo.conftest import ANSWER, make_pair
from tests.models.families import ARCHITECTURES

UNPACKED = {"Qwen3.5": "linear_attention", "InstructBLIP": "no decoder"}
FAMILIES = tuple(name for name in ARCHITECTURES if name not in UNPACKED)
EDITS = {
    "a replacement": [("knife", "fork")],
    "a deletion": [(" and a knife", "")],
    "an insertion": [(" table", " big table")],
    "several": [("cat", "dog"), ("red", "red and blue")],
    "nothing shared": [("There is a", "I see one")],
    "the last token": [("red cup.", "red cup!")],
    "the end": [(" with a red cup.", "")],
}


@pytest.fixture
def exact(monkeypatch):
    """Computation in float64 all through: `.float()` keeps it, and new tensors have it."""
    single = torch.Tensor.float
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self if self.dtype == torch.float64 else single(self))
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def normalise(self, hidden):
    """RMSNorm without the usual step down to float32."""
    epsilon = self.variance_epsilon if hasattr(self, "variance_epsilon") else self.eps
    weight = self.weight + 1 if type(self).__name__.startswith("Gemma") else self.weight
    return weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + epsilon)


class Bench:
    """A float64 base with a random adapter, its pairs, and both ways to put them into batches."""

    def __init__(self, folder, find_image, pairs, config=None, attention="sdpa"):
        self.config = config or TrainingConfig(lora_rank=4)
        base = load_base(find_entry(str(folder)), self.config)
        base.model.set_attn_implementation(attention)
        score_at_sites(base.model)
        self.model, self.base = make_trainable(base, self.config).eval().double(), base.model
        generator = torch.Generator().manual_seed(3)
        for name, value in self.model.named_parameters():
            if "lora_B" in name:
                value.data = 0.05 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for module in self.base.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.forward = types.MethodType(normalise, module)
        images = ImageInputs(base.model, base.processor, find_image)
        encoder = PairEncoder(base.processor, find_image, self.config, base.end_tokens)
        self.pairs = [encoder.encode(pair) for pair in pairs]
        self.plain = Collator(base.end_tokens[0], images)
        self.packed = PackedCollator(base.end_tokens[0], images, base.model)

    def log_probs(self, collator, pairs=None):
        pairs = pairs or self.pairs
        batch = collator(pairs)
        sites = batch["sites"]
        values = self.model(**batch["model"], answer_sites=(sites["rows"], sites["positions"], sites["targets"]))
        return values, batch

    def answers(self, collator, pairs=None):
        pairs = pairs or self.pairs
        with torch.no_grad():
            return collator.spread(pairs, self.log_probs(collator, pairs)[0])

    def learn(self, collator, normalised):
        """Scores, losses and the gradients of their sum."""
        values, batch = self.log_probs(collator)
        sites = batch["sites"]
        scores = [
            score_answers(values, sites["pair"], sites[f"{side}_weights"], batch["pairs"], normalised)
            for side in ("chosen", "rejected")
        ]
        losses = ddpo_loss(*scores, *(score.detach() * 0.9 for score in scores), 0.1)[0]
        self.model.zero_grad()
        losses.sum().backward()
        gradients = {name: value.grad for name, value in self.model.named_parameters() if value.grad is not None}
        return torch.stack(scores).detach(), losses.detach(), gradients


def all_pairs(names, family="LLaVA"):
    """Every kind of edit, with one image, several, one in the history, and none, as far as the family takes them."""
    prompts = [
        Prompt("describe this image in detail", (names[0],)),
        Prompt("compare them", (names[1], names[5])),
        Prompt("and this one?", (names[2],), (Turn("what is it?", "a dog", (names[3],)),)),
        Prompt("what is said?", ()),
    ]
    prompts = prompts[:1] if family == "PaliGemma" else prompts
    made = [make_pair(name, names[0], edits) for name, edits in EDITS.items()]
    return [dataclasses.replace(pair, prompt=prompts[number % len(prompts)]) for number, pair in enumerate(made)]


class Benches(dict):
    """Benches by family, each built when it is first asked for."""

    def __init__(self, root, find_image, names):
        self.root, self.find_image, self.names = root, find_image, names

    def __missing__(self, family):
        self[family] = Bench(self.folder(family), self.find_image, all_pairs(self.names, family))
        return self[family]

    def folder(self, family):
        folder = self.root / family.replace(" ", "-")
        return folder if folder.exists() else ARCHITECTURES[family](folder)


@pytest.fixture(scope="module")
def benches(tmp_path_factory, find_image, names):
    return Benches(tmp_path_factory.mktemp("bases"), find_image, names)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("normalised", [False, True], ids=["sum", "mean"])
def test_scores_losses_and_gradients_equal_two_rows_a_pair(exact, benches, family, normalised):
    bench = benches[family]
    assert why_not_packed(bench.base) == ""
    scores, losses, gradients = bench.learn(bench.plain, normalised)
    packed_scores, packed_losses, packed_gradients = bench.learn(bench.packed, normalised)
    torch.testing.assert_close(packed_scores, scores, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(packed_losses, losses, atol=1e-10, rtol=1e-10)
    assert gradients.keys() == packed_gradients.keys()
    for name, value in gradients.items():
        assert (packed_gradients[name] - value).norm() <= 1e-10 * value.norm(), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", EDITS)
def test_every_token_scores_as_in_its_own_row(exact, benches, family, kind):
    bench = benches[family]
    (pair,) = [pair for pair in bench.pairs if pair.id == kind]
    packed = bench.answers(bench.packed, [pair])
    torch.testing.assert_close(packed, bench.answers(bench.plain, [pair]), atol=1e-10, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_eager_attention_gets_a_mask_that_it_adds(exact, benches, find_image, names, family):
    bench = Bench(benches.folder(family), find_image, all_pairs(names, family)[:4], attention="eager")
    packed, plain = bench.answers(bench.packed), bench.answers(bench.plain)
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=0)  # its softmax is float32


def one_image(names, family):
    """Pairs on one picture: two corrections of one answer, another question, and a talk that goes on from the first;
    a pair on another picture of that size stands between them."""
    first, other = Prompt("describe this image in detail", (names[0],)), Prompt("what is on the table?", (names[0],))
    talk = Prompt("and this one?", (), (Turn(first.question, ANSWER, first.images),))
    far = Prompt(first.question, (names[1],))
    prompts = [first, far, first, other] if family == "PaliGemma" else [first, far, first, other, talk]
    edits = ["a replacement", "a replacement", "several", "a deletion", "the end"]
    return [
        dataclasses.replace(make_pair(f"p{number}", names[0], EDITS[kind]), prompt=prompt)
        for number, (prompt, kind) in enumerate(zip(prompts, edits, strict=False))
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_of_one_image_share_a_row_and_score_as_alone(exact, benches, find_image, names, family):
    bench = Bench(benches.folder(family), find_image, one_image(names, family))
    scores, losses, gradients = bench.learn(bench.plain, True)
    shared_scores, shared_losses, shared_gradients = bench.learn(bench.packed, True)
    torch.testing.assert_close(shared_scores, scores, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(shared_losses, losses, atol=1e-10, rtol=1e-10)
    for name, value in gradients.items():
        assert (shared_gradients[name] - value).norm() <= 1e-10 * value.norm(), name
    # PaliGemma reads its whole question in both directions, so only equal questions share.
    rows = bench.packed(bench.pairs)["model"]["input_ids"]
    assert len(rows) == (3 if family == "PaliGemma" else 2)
    apart = sum(packed_length(pair) for pair in bench.pairs)
    assert bench.packed.count_tokens(bench.pairs) < apart
    bench.packed.shares = False
    assert len(bench.packed(bench.pairs)["model"]["input_ids"]) == len(bench.pairs)
    assert bench.packed.count_tokens(bench.pairs) == apart


def test_pairs_of_one_row_know_nothing_of_each_other(exact, benches, find_image, names):
    bench = Bench(benches.folder("Qwen2.5-VL"), find_image, one_image(names, ""))
    first, rest = bench.pairs[0], bench.pairs[2:]
    values = bench.answers(bench.packed, [*rest, first])
    changed = dataclasses.replace(first, chosen=[*first.chosen[:-2], first.chosen[0], first.chosen[-1]])
    again = bench.answers(bench.packed, [*rest, changed])
    ends = torch.tensor([len(pair.chosen) for pair in [*rest, first]])
    places = torch.arange(len(values))
    mine = (places >= ends[:-1].sum()) & (places < ends.sum())
    assert torch.equal(again[~mine], values[~mine])
    assert not torch.equal(again[mine], values[mine])


def test_an_image_behind_what_differs_is_not_shared(benches, find_image, names):
    bench = Bench(benches.folder("LLaVA"), find_image, one_image(names, ""))
    image = bench.base.config.image_token_id
    for number, pair in enumerate(bench.pairs[:4]):
        pair.prompt = [10 + number, *pair.prompt]
    assert bench.pairs[0].prompt.count(image) > 1
    assert len(bench.packed(bench.pairs[:4])["model"]["input_ids"]) == 4


def wrong_causal(parents, depths, *rest):
    return torch.ones(parents.shape[1], parents.shape[1], dtype=torch.bool).tril().expand(len(parents), 1, -1, -1)


def wrong_leak(parents, depths, *rest):
    """Every branch but the first also sees the token that the first begins with."""
    mask = tree_mask(parents, depths, *rest)
    for row, seen in enumerate(mask[:, 0]):
        for place in range(1, parents.shape[1]):
            if 0 <= parents[row, place] < place - 1:
                seen[place:, parents[row, place] + 1] |= seen[place:, place]
    return mask


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mask", [wrong_causal, wrong_leak])
def test_a_wrong_mask_is_caught(exact, benches, family, mask, monkeypatch):
    bench = benches[family]
    monkeypatch.setattr(packing, "tree_mask", mask)
    assert worst(bench) > 1e-3
    assert "scores differ" in check(bench)


@pytest.mark.parametrize("family", FAMILIES)
def test_running_positions_are_caught(exact, benches, family):
    bench = benches[family]

    class Running(PackedCollator):
        def __call__(self, pairs):
            batch = super().__call__(pairs)
            positions = batch["model"]["position_ids"]
            batch["model"]["position_ids"] = torch.arange(positions.shape[-1]).expand(positions.shape)
            return batch

    assert worst(bench, Running) > 1e-3
    assert "scores differ" in check(bench, Running)


def test_a_fork_read_from_the_wrong_token_is_caught(exact, benches):
    """The first rejected token, predicted from the end of the chosen answer."""
    bench = benches["LLaVA"]

    class Dropped(PackedCollator):
        def __call__(self, pairs):
            batch = super().__call__(pairs)
            sites, count = batch["sites"], 0
            for pair in pairs:
                at = count + len(pair.chosen)
                if shared_start(pair) < len(pair.rejected):
                    sites["positions"][at] = len(pair.prompt) + len(pair.chosen) - 1
                count += packed_length(pair) - len(pair.prompt)
            return batch

    assert worst(bench, Dropped) > 1e-3
    assert "scores differ" in check(bench, Dropped)


def worst(bench, collator=PackedCollator):
    packed = collator(bench.plain.pad_token, bench.plain.image_inputs, bench.base)
    return (bench.answers(packed) - bench.answers(bench.plain)).abs().max().item()


def check(bench, collator=PackedCollator):
    packed = collator(bench.plain.pad_token, bench.plain.image_inputs, bench.base)
    some = [pair for pair in bench.pairs if pair.id in ("a replacement", "several")]
    return compare_packed(
        lambda pairs: bench.answers(bench.plain, pairs), lambda pairs: bench.answers(packed, pairs), some, bench.base
    )


def test_right_rows_pass_the_check_and_refusing_models_are_told(exact, benches, monkeypatch):
    bench = benches["LLaVA"]
    assert check(bench) == ""

    def refuse(*_):
        raise ValueError("no masks here")

    monkeypatch.setattr(packing, "tree_mask", refuse)
    assert "ValueError: no masks here" in check(bench)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"_attn_implementation_internal": "flash_attention_2"}, "flash_attention_2"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "linear_attention"),
    ],
)
def test_what_cannot_be_packed_is_known_from_the_config(benches, change, reason, monkeypatch):
    config = benches["LLaVA"].base.config.get_text_config()
    for name, value in change.items():
        monkeypatch.setattr(config, name, value, raising=False)
    assert reason in why_not_packed(benches["LLaVA"].base)


@pytest.mark.parametrize("family", FAMILIES)
def test_branches_know_nothing_of_each_other(exact, benches, family):
    bench = benches[family]
    pair = bench.pairs[0]
    fork, spoken = shared_start(pair), len(pair.chosen)
    other = {token for answer in (pair.chosen, pair.rejected) for token in answer[:-1]}
    for side, same in (("rejected", slice(None, spoken)), ("chosen", slice(spoken, None))):
        answer = getattr(pair, side)
        changed = [*answer[:fork], *(max(other - {token}) for token in answer[fork:-1]), answer[-1]]
        packed = bench.answers(bench.packed, [pair])
        again = bench.answers(bench.packed, [dataclasses.replace(pair, **{side: changed})])
        assert shared_start(dataclasses.replace(pair, **{side: changed})) == fork
        assert torch.equal(again[same], packed[same])
        assert not torch.equal(again, packed)


@pytest.mark.parametrize("family", FAMILIES)
def test_sites_weights_and_references_stand_where_their_tokens_do(benches, family):
    bench = benches[family]
    for number, pair in enumerate(bench.pairs):
        pair.reference = torch.arange(len(pair.chosen) + len(pair.rejected)) + 1000.0 * number
        pair.reference[len(pair.chosen) :][: shared_start(pair)] = pair.reference[: shared_start(pair)]
    try:
        plain, packed = bench.plain(bench.pairs), bench.packed(bench.pairs)
        assert plain["pairs"] == packed["pairs"] == len(bench.pairs)
        assert torch.equal(bench.packed.spread(bench.pairs, packed["reference"]), plain["reference"])
        targets = bench.packed.spread(bench.pairs, packed["sites"]["targets"])
        assert torch.equal(targets, plain["sites"]["targets"])
        for side in ("chosen", "rejected"):
            mine = plain["sites"][f"is_{side}"]
            for name in (f"{side}_weights", f"is_{side}"):
                spread = bench.packed.spread(bench.pairs, packed["sites"][name].float())
                assert torch.equal(spread[mine], plain["sites"][name][mine].float())
            total = packed["sites"][f"{side}_weights"].sum()
            assert total == plain["sites"][f"{side}_weights"].sum()
    finally:
        for pair in bench.pairs:
            pair.reference = None


def test_lengths_and_what_is_saved(benches):
    pairs = {pair.id: pair for pair in benches["LLaVA"].pairs}
    assert shared_start(pairs["nothing shared"]) == 0
    assert len(pairs["the last token"].chosen) - shared_start(pairs["the last token"]) <= 3
    for pair in pairs.values():
        width = len(pair.prompt) + len(pair.chosen) + len(pair.rejected) - shared_start(pair)
        assert packed_length(pair) == width == benches["LLaVA"].packed([pair])["model"]["input_ids"].shape[1]
    assert 1.2 < tokens_saved(benches["LLaVA"].packed, list(pairs.values()), 1) < 2


@pytest.mark.parametrize("family", UNPACKED)
def test_families_that_cannot_be_packed_are_known(benches, family):
    base = load_base(find_entry(str(benches.folder(family))), TrainingConfig())
    assert UNPACKED[family] in why_not_packed(base.model)
