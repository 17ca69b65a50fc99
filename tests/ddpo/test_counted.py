"""The counted gate: operations and live bytes of a step against TRL's, with no clock and no weights."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import counted
from benchmarks.counted import SHAPES, Count, LiveBytes, Shape, compare

pytest.importorskip("trl")


# Every shape and both ways; the other pairings are slow.
KEPT, CHECKPOINTED = False, True
QUICK = {("LLaVA-1.5-7B", KEPT), ("32k vocabulary", KEPT), ("head-light", CHECKPOINTED)}
PAIRINGS = [
    pytest.param(
        shape,
        checkpointing,
        id=f"{shape.name}-{'checkpointed' if checkpointing else 'kept'}",
        marks=() if (shape.name, checkpointing) in QUICK else pytest.mark.slow,
    )
    for shape in SHAPES
    for checkpointing in (KEPT, CHECKPOINTED)
]


@pytest.mark.parametrize(("shape", "checkpointing"), PAIRINGS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_run_takes_half_of_trls_operations_and_a_step_half_of_its_memory(shape, checkpointing):
    found = compare(shape, checkpointing)
    assert found.three >= 2.0
    assert found.memory <= shape.step_memory
    assert found.step >= 2.4
    assert found.one >= 1.7


@pytest.mark.parametrize(
    ("shape", "checkpointing"),
    [
        pytest.param(SHAPES[0], KEPT, id="LLaVA-1.5-7B-kept", marks=pytest.mark.slow),
        pytest.param(SHAPES[0], CHECKPOINTED, id="LLaVA-1.5-7B-checkpointed", marks=pytest.mark.slow),
        pytest.param(SHAPES[2], KEPT, id="head-light-kept"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_two_pairs_of_an_image_take_far_less_in_the_first_epoch_already(shape, checkpointing):
    found = compare(shape, checkpointing, pairs=2)
    assert found.one >= 2.5
    assert found.memory <= 0.4


def test_live_bytes_are_those_of_new_tensors_at_their_most():
    weight = torch.ones(1024)
    with LiveBytes() as live:
        for _ in range(5):
            weight.view(2, 512) * 2  # a view is no new memory, and each product goes again
        kept = weight + 1
        assert live.now == kept.nbytes
    assert live.peak == kept.nbytes


def test_more_layers_follow_from_two_and_three():
    assert Count(20, 5).at(Count(30, 6), 2) == Count(20, 5)
    assert Count(20, 5).at(Count(30, 6), 10) == Count(100, 13)


def products(work) -> dict[str, int]:
    """Operations by kind, without attention, which kernels count in different ways."""
    with FlopCounterMode(display=False) as counter:
        work()
    found = {str(kind): number for kind, number in counter.get_flop_counts()["Global"].items()}
    return {kind: number for kind, number in found.items() if "bmm" not in kind and "scaled_dot" not in kind}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_baseline_counts_what_trl_computes(tmp_path, monkeypatch):
    from benchmarks import vs_trl
    from rlhfv.ddpo.batches import PairEncoder
    from rlhfv.models.processors import load_processor

    tiny = {"hidden": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512}
    monkeypatch.setitem(vs_trl.SHAPES, "tiny", tiny)
    model = vs_trl.make_model("tiny", tmp_path / "model")
    processor = load_processor(model)
    pairs = vs_trl.make_pairs(processor, tmp_path, 1)
    theirs = vs_trl.Theirs(model, tmp_path, pairs, checkpointing=False, compact=True)
    pair = PairEncoder(processor, tmp_path.joinpath, vs_trl.CONFIG, (1,)).encode(pairs[0])
    sizes = {"PROMPT": len(pair.prompt) - counted.IMAGE, "CHOSEN": len(pair.chosen), "REJECTED": len(pair.rejected)}
    for name, size in sizes.items():
        monkeypatch.setattr(counted, name, size)
    monkeypatch.setattr(counted, "measure", lambda shape, work: products(work))
    tower = counted.SMALL_TOWER | vs_trl.TOWER
    shape = Shape("tiny", 64, int(64 * 2.6875), 2, 4, 512, tower, False, 1.0)
    assert sum(counted.count_trl(shape, 2, False, 1).values()) == sum(products(theirs.step).values())
