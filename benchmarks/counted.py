"""Counts what a step costs here and in TRL, without weights and without a clock: `python -m benchmarks.counted`.

Floating-point operations and live bytes of a step, read off models that have shapes but no numbers. The pair has 576
image tokens, 30 of prompt and 80 to 150 of answer, whose first edit stands at a third; a second pair asks something
else about the same image. The baseline is what TRL's DPOTrainer computes in a step, with its own kernel for the head:
image and prompt in both rows, the vision tower for policy and reference, labelled positions only as on a GPU. Same
dtype, adapter and batch; live bytes are those above weights, gradients and optimizer. All layers of a model are alike,
so two and three are counted and the rest follows.
"""

import argparse
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface, AutoModelForImageTextToText, CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling

from rlhfv.corrections.conversation import Prompt
from rlhfv.ddpo.base import Base, make_trainable
from rlhfv.ddpo.batches import EncodedPair
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.loss import ddpo_loss, score_answers
from rlhfv.ddpo.packing import PackedCollator
from rlhfv.ddpo.scoring import score_at_sites

IMAGE, PROMPT, CHOSEN, REJECTED = 576, 30, 115, 115
EPOCHS = 3
TOWER = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
SMALL_TOWER = TOWER | {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; `step_memory` is the share of TRL's live bytes that a step may take."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    vocabulary: int
    tower: dict
    bfloat16: bool
    step_memory: float


SHAPES = (
    Shape("LLaVA-1.5-7B", 4096, 11008, 32, 32, 32064, TOWER, True, 0.52),
    Shape("32k vocabulary", 256, 688, 6, 8, 32064, SMALL_TOWER, False, 0.50),
    Shape("head-light", 640, 1720, 3, 10, 1024, SMALL_TOWER, False, 0.55),
)


@dataclass(frozen=True)
class Count:
    """`flops` and `bytes` of a step."""

    flops: float
    bytes: float

    def at(self, other: "Count", layers: int) -> "Count":
        """What `layers` layers take, this being the count of two and `other` that of three."""
        return Count(
            self.flops + (layers - 2) * (other.flops - self.flops),
            self.bytes + (layers - 2) * (other.bytes - self.bytes),
        )


class LiveBytes(TorchDispatchMode):
    """`peak` bytes of the tensors that came to be under it and lived at the same time."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known = weakref.WeakSet()

    def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
        for tensor in _tensors((args, kwargs)):
            self._known.add(tensor.untyped_storage())  # a weight, say, of which views are made
        result = function(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage not in self._known:
                self._known.add(storage)
                weakref.finalize(storage, self._free, storage.nbytes())
                self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        return result

    def _free(self, size: int) -> None:
        self.now -= size


def _tensors(values) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def attend(module, query, key, value, attention_mask, scaling, dropout=0.0, is_causal=None, **_):
    """The fused kernel of a GPU, which keeps no square of the length; its shapes are all that is asked for."""
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, 1) if groups > 1 else part for part in (key, value))
    bias = None
    if attention_mask is not None:
        bias = attention_mask.to(query.dtype).expand(-1, query.shape[1], -1, -1)
    is_causal = attention_mask is None and getattr(module, "is_causal", True)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    output = kernel(query, key, value, bias, torch.is_grad_enabled(), 0.0, is_causal, scale=scaling)[0]
    return output.transpose(1, 2), None


AttentionInterface.register("counted", attend)
AttentionMaskInterface.register("counted", sdpa_mask)


def build(shape: Shape, layers: int, checkpointing: int):
    """The model with an adapter of rank 16 on all linear layers of its language part, as a run here makes it."""
    heads = {"num_attention_heads": shape.heads, "num_key_value_heads": shape.heads}
    text = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=layers,
        vocab_size=shape.vocabulary,
        **heads,
    )
    config = LlavaConfig(vision_config=CLIPVisionConfig(**shape.tower), text_config=text, image_token_id=1)
    dtype = torch.bfloat16 if shape.bfloat16 else torch.float32
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype).requires_grad_(False)
        model.set_attn_implementation("counted")
        score_at_sites(model)
        base = Base(model, None, None, shape.name, "", shape.bfloat16)
        settings = {"precision": "bfloat16" if shape.bfloat16 else "float32"}
        trained = make_trainable(base, TrainingConfig(**settings, gradient_checkpointing=checkpointing))
    for module in trained.modules():  # from "meta" to a device that autocast knows, still without storage
        for name, value in module._parameters.items():
            if value is not None:
                fake = torch.nn.Parameter(torch.empty_like(value, device="cpu"), value.requires_grad)
                fake.grad = torch.empty_like(fake) if value.requires_grad else None
                module._parameters[name] = fake
        for name, value in module._buffers.items():
            module._buffers[name] = None if value is None else torch.empty_like(value, device="cpu")
    # Which tokens are an image's is a question for numbers.
    model.model.get_placeholder_mask = lambda ids, inputs_embeds, image_features: torch.empty_like(
        inputs_embeds, dtype=torch.bool
    )
    return model, trained.train()


def measure(shape: Shape, work: Callable[[], None]) -> Count:
    flops, live = FlopCounterMode(display=False), LiveBytes()
    for counter in (flops, live):  # the counter of operations holds on to tensors
        with counter, torch.autocast("cpu", torch.bfloat16, enabled=shape.bfloat16):
            work()
    return Count(flops.get_total_flops(), live.peak)


def make_pairs(count: int) -> list[EncodedPair]:
    """Pairs on one image, each with a question of its own."""
    shared, rest = CHOSEN // 3, CHOSEN - CHOSEN // 3
    chosen, rejected = [2] * shared + [3] * rest, [2] * shared + [4] * (REJECTED - shared)
    ones = [1.0] * CHOSEN, [1.0] * REJECTED
    return [
        EncodedPair(
            f"pair {number}",
            Prompt("q", ("image",)),
            [1] * IMAGE + [5 + number] * PROMPT,
            {},
            chosen,
            rejected,
            *ones,
        )
        for number in range(count)
    ]


def count_ours(shape: Shape, layers: int, checkpointing: int, pairs: int) -> dict[str, Count]:
    """One image, and of its pairs one reference pass and one step."""
    without_storage = FakeTensorMode(allow_non_fake_inputs=True)
    with without_storage:
        model, trained = build(shape, layers, checkpointing)
        dtype, side = model.dtype, shape.tower["image_size"]
        pixels = torch.empty(1, 3, side, side, dtype=dtype)
        features = torch.empty(IMAGE, shape.hidden, dtype=dtype)
    images = {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=[features])}}
    batch = PackedCollator(0, lambda rows: images, model)(make_pairs(pairs))
    with without_storage:
        sites = batch["sites"]
        places = sites["rows"], sites["positions"], sites["targets"]

        def score():
            return trained(**batch["model"], answer_sites=places)

        def learn():
            values = score()
            scores = [
                score_answers(values, sites["pair"], sites[f"{side}_weights"], pairs, False)
                for side in ("chosen", "rejected")
            ]
            ddpo_loss(*scores, torch.zeros(pairs), torch.zeros(pairs), 0.1)[0].sum().backward()

        def refer():
            with torch.no_grad(), trained.disable_adapter():
                score()

        def look():
            with torch.no_grad():
                model.get_image_features(pixel_values=pixels)

        return {name: measure(shape, work) for name, work in (("image", look), ("reference", refer), ("step", learn))}


def count_trl(shape: Shape, layers: int, checkpointing: bool, pairs: int) -> Count:
    """One step of TRL's DPOTrainer with an adapter: the policy, then the same rows again with the adapter off."""
    from trl.kernels import ChunkedLogProbFunction

    with FakeTensorMode(allow_non_fake_inputs=True):
        model, trained = build(shape, layers, checkpointing)
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        for module in trained.modules():
            if isinstance(module, BaseTunerLayer):
                module.cast_input_dtype_enabled = True  # as PEFT does unless told otherwise
        width, side = IMAGE + PROMPT + max(CHOSEN, REJECTED), shape.tower["image_size"]
        answers = [CHOSEN] * pairs + [REJECTED] * pairs
        count = len(answers)
        ids = torch.zeros(count, width, dtype=torch.long)
        mask = torch.ones(count, 1, width, width, dtype=torch.bool)  # the answers' lengths differ, so one is padded
        pixels = torch.empty(count, 3, side, side, dtype=model.dtype)
        rows = torch.cat([torch.full((answer,), row) for row, answer in enumerate(answers)])
        places = torch.cat([torch.arange(answer) + IMAGE + PROMPT - 1 for answer in answers])
        targets = torch.zeros(sum(answers), dtype=torch.long)

        def score():
            hidden = trained.base_model.model.model(
                input_ids=ids, attention_mask=mask, pixel_values=pixels, use_cache=False
            ).last_hidden_state[rows, places]
            head = model.get_output_embeddings().weight
            values = ChunkedLogProbFunction.apply(hidden, head, None, targets, 1.0, 32768, None, 1.0, ("log_probs",))[
                0
            ]
            scores = torch.stack([part.sum() for part in values.split(answers)])
            return scores.split(pairs)

        def learn():
            now = score()
            with torch.no_grad(), trained.disable_adapter():
                start = score()
            ddpo_loss(*now, *start, 0.1)[0].sum().backward()

        return measure(shape, learn)


@dataclass(frozen=True)
class Ratios:
    """`one` and `three` are how many times fewer operations a pair takes over one and three epochs, `step` in a step
    after the reference pass; `memory` is the share of live bytes. `ours` and `theirs` are the step's counts."""

    one: float
    three: float
    step: float
    memory: float
    ours: Count
    theirs: Count


def compare(shape: Shape, checkpointing: bool, pairs: int = 1) -> Ratios:
    """With `pairs` on one image, all in one step."""
    two, three = (count_ours(shape, layers, checkpointing, pairs) for layers in (2, 3))
    ours = {name: two[name].at(three[name], shape.layers) for name in two}
    theirs = count_trl(shape, 2, checkpointing, pairs).at(count_trl(shape, 3, checkpointing, pairs), shape.layers)
    once = ours["image"].flops + ours["reference"].flops
    runs = [epochs * theirs.flops / (once + epochs * ours["step"].flops) for epochs in (1, EPOCHS)]
    step = ours["step"]
    return Ratios(*runs, theirs.flops / step.flops, step.bytes / theirs.bytes, step, theirs)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(
        "| model | pairs an image | checkpointing | 1 epoch | 3 epochs | a step | live bytes | ours GFLOP, MiB | TRL |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for shape, pairs in product(SHAPES, (1, 2)):
        for checkpointing in (False, True):
            found = compare(shape, checkpointing, pairs)
            sizes = [f"{count.flops / 1e9:,.0f}, {count.bytes / 2**20:,.0f}" for count in (found.ours, found.theirs)]
            setting = "on" if checkpointing else "off"
            print(
                f"| {shape.name} | {pairs} | {setting} | {found.one:.2f}x | {found.three:.2f}x | {found.step:.2f}x"
                f" | {found.memory:.2f}x | {sizes[0]} | {sizes[1]} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
