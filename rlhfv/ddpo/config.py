"""What a training run is asked to do: one frozen value, and the published recipes by name (no torch here).

The score of an answer y is S(y) = Σ w_t log p_t over its tokens, divided by Σ w_t when `normalised`; the loss of a
pair is −log σ(β[(S_π − S_ref)(chosen) − (S_π − S_ref)(rejected)]), Eq. 3 to 5 of RLHF-V (arXiv 2312.00849).
"""

import dataclasses
import math
from dataclasses import dataclass, field

from rlhfv.errors import InvalidData

WEIGHTS = ("edits", "token-diff")
SCHEDULES = ("cosine", "linear", "constant")
PRECISIONS = ("auto", "float32", "bfloat16")
LORA_TARGETS = ("all-linear", "attention")
IMAGE_TRANSFORMS = ("eval", "random-crop")
PACKINGS = ("auto", "off")
BASE_WEIGHTS = ("full", "4-bit")


_DEMO_SOURCE = (
    "Tuned here on validation scenes of the demo world (benchmarks/ddpo_grid.py), for small models on a CPU."
)


def _setting(default, help: str, *, low=None, high=None, choices=None):
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class TrainingConfig:
    """Every setting of a run. The defaults are the recipe `demo`; `RECIPES` holds the others, `changed` varies one.

    Raises InvalidData when a value cannot work.
    """

    recipe: str = _setting("demo", "The named recipe these settings started from.")
    source: str = _setting(_DEMO_SOURCE, "Where the recipe was published, and what differs here.")
    gamma: float = _setting(
        5.0,
        "γ: weight of the tokens that were corrected; all other tokens weigh 1. 1 is plain DPO.",
        low=0.0,
        high=100.0,
    )
    beta: float = _setting(
        0.1, "β: how strongly the new model is held to the old one; smaller lets it move further.", low=0.0, high=100.0
    )
    normalised: bool = _setting(
        False,
        "Divide the score of an answer by the sum of its weights, so that long answers count no more than short ones.",
    )
    weights: str = _setting(
        "edits",
        "Which tokens count as corrected. 'edits': those the person corrected. 'token-diff': the released code of"
        " RLHF-V, a diff of token ids that keeps replacements only and merges matches under 3 tokens into them.",
        choices=WEIGHTS,
    )
    seam: bool = _setting(
        True,
        "After a pure deletion (or insertion) the side without the words has no token to weigh. On: the token at the"
        " seam, where that side goes on instead, gets γ. Off: only the side with the words does, as in the paper.",
    )
    shared_weight: float = _setting(
        1.0,
        "Weight of the tokens that were not corrected: 1, or 0 to learn from corrected tokens only.",
        low=0.0,
        high=1.0,
    )
    include_preferred: bool = _setting(
        False, "Also train on answers that were only preferred, not corrected. All their tokens weigh 1."
    )
    learning_rate: float = _setting(
        2e-4,
        "Peak learning rate. It decides between alignment and ruin: five times too high makes a model that says"
        " nothing. The sources use about 5e-7 for full tuning.",
        low=0.0,
        high=1.0,
    )
    weight_decay: float = _setting(0.0, "AdamW's weight decay.", low=0.0, high=1.0)
    batch_size: int = _setting(
        16,
        "Pairs per optimizer step over all devices; how many are computed at once follows from it and the memory.",
        low=1,
        high=4096,
    )
    epochs: float = _setting(
        4.0, "How often each pair is seen. Plays no role when steps are given.", low=0.0, high=1000.0
    )
    steps: int | None = _setting(None, "Optimizer steps, instead of epochs.", low=1, high=1_000_000)
    sft_epochs: float = _setting(
        0.0,
        "Warm-up (OPA-DPO): so many epochs of plain supervised learning of the corrected answers first, since a"
        " person's words are not what the model would have said. The model that comes out is then the reference.",
        low=0.0,
        high=100.0,
    )
    sft_learning_rate: float = _setting(
        2e-5, "Peak learning rate of that warm-up. Plays no role without sft_epochs.", low=0.0, high=1.0
    )
    warmup_ratio: float = _setting(0.1, "Share of the steps in which the learning rate rises.", low=0.0, high=1.0)
    schedule: str = _setting("cosine", "How the learning rate falls after the warm-up.", choices=SCHEDULES)
    max_length: int = _setting(
        2048, "Longest prompt with answer, in tokens. Longer pairs are left out, never cut.", low=16, high=1_000_000
    )
    precision: str = _setting(
        "auto",
        "Number format of the computation. 'auto': bfloat16 on a GPU that has it, else float32.",
        choices=PRECISIONS,
    )
    image_transform: str = _setting(
        "eval",
        "How images are prepared. 'eval': as for chatting. 'random-crop': a part of half to all of the image, drawn"
        " anew for every pair and epoch and once more for the reference, as in the released code (which also flips and"
        " changes colours); the paper shows that it hurts.",
        choices=IMAGE_TRANSFORMS,
    )
    base_weights: str = _setting(
        "full",
        "How the frozen base is held. 'full': in the number format above. '4-bit' (QLoRA): the linear layers of its"
        " language model as NF4, a quarter of their size in bfloat16, slower; needs bitsandbytes, and no full tuning.",
        choices=BASE_WEIGHTS,
    )
    split_weights: bool = _setting(
        False,
        "Split the weights of the base over the devices (FSDP2) instead of keeping all of them on each: for a base"
        " that one device cannot hold. Slower, and of no use on one device.",
    )
    full_tuning: bool = _setting(
        False, "Train every weight instead of a LoRA adapter. Needs far more memory and a far smaller learning rate."
    )
    lora_rank: int = _setting(16, "Rank of the adapter: its capacity.", low=1, high=1024)
    lora_alpha: int = _setting(32, "α of the adapter: its output is scaled by α / rank.", low=1, high=4096)
    lora_dropout: float = _setting(0.0, "Dropout on the adapter's inputs.", low=0.0, high=0.9)
    lora_targets: str = _setting(
        "all-linear",
        "Layers of the language model that get an adapter: every linear layer, or attention only. Never the vision"
        " tower.",
        choices=LORA_TARGETS,
    )
    gradient_checkpointing: int = _setting(
        0,
        "Compute the activations of every n-th layer again in the backward pass, which saves memory and takes time."
        " 0: of none. 1: of every layer, the least memory, about a third slower. 4: of every fourth.",
        low=0,
        high=1000,
    )
    packed: str = _setting(
        "auto",
        "'auto': what pairs share (images, prompt, the start of both answers, an image that several ask about) goes"
        " through the model once, where a check before the run finds the same scores; adapter dropout is then drawn"
        " once for that part. 'off': two rows a pair.",
        choices=PACKINGS,
    )
    eval_fraction: float = _setting(
        0.1,
        "Share of the pairs held out, whole images at a time, to measure loss, margin and accuracy on.",
        low=0.0,
        high=0.5,
    )
    seed: int = _setting(
        0, "Seed of the order of the pairs, the held-out split and the adapter's start.", low=0, high=2**31
    )
    stop_on_warning: bool = _setting(
        False, "Stop, with a checkpoint, when the curves say that the model is being ruined."
    )

    def __post_init__(self):
        if isinstance(self.gradient_checkpointing, bool):  # runs of earlier versions say on or off
            object.__setattr__(self, "gradient_checkpointing", int(self.gradient_checkpointing))
        for entry in dataclasses.fields(self):
            value = _checked(entry, getattr(self, entry.name))
            object.__setattr__(self, entry.name, value)
        for name in ("beta", "learning_rate", "sft_learning_rate", "gamma") + (() if self.steps else ("epochs",)):
            if getattr(self, name) == 0:
                raise InvalidData(f"{name} is 0.", "Then nothing would be learnt.", f"Give {name} a value above 0.")
        if self.full_tuning and self.base_weights != "full":
            raise InvalidData(
                f"Full tuning is asked for on a {self.base_weights} base.",
                "Weights held that coarsely cannot take the small steps of training; only an adapter beside them can.",
                "Train an adapter, or hold the base in full.",
            )
        if self.split_weights and (self.full_tuning or self.base_weights != "full"):
            other = "full tuning" if self.full_tuning else f"a {self.base_weights} base"
            raise InvalidData(
                f"Split weights are asked for together with {other}.",
                "Only a frozen base in full can be split over the devices.",
                "Train an adapter on a full base, or do not split the weights.",
            )
        if self.shared_weight == 0 and self.weights == "edits" and self.include_preferred:
            raise InvalidData(
                "Preferred pairs are asked for while shared tokens weigh 0.",
                "A preferred pair has shared tokens only, so it would teach nothing.",
                "Leave preferred pairs out, or set shared_weight to 1.",
            )

    def changed(self, **fields) -> "TrainingConfig":
        """The same settings with some of them changed, checked again."""
        unknown = set(fields) - {entry.name for entry in dataclasses.fields(self)}
        if unknown:
            raise _unknown(unknown)
        return dataclasses.replace(self, **fields)

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> "TrainingConfig":
        """From `to_dict`, or from a recipe's name with changes: fields left out come from `data["recipe"]`."""
        if not isinstance(data, dict):
            raise InvalidData(
                f"The training settings are {type(data).__name__}, not named fields.",
                "Each setting is known by its name.",
                'Give an object such as {"recipe": "demo"}.',
            )
        return find_recipe(data.get("recipe", "demo")).changed(**data)


def _checked(entry: dataclasses.Field, value):
    """`value` in the field's own type, or InvalidData."""
    low, high, choices = entry.metadata["low"], entry.metadata["high"], entry.metadata["choices"]
    kind = int if entry.type == (int | None) else entry.type
    if value is None and entry.type == (int | None):
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        names = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
        raise InvalidData(f"{entry.name} is {value!r}.", f"It has to be {names[kind]}.", _advice(entry))
    if choices and value not in choices:
        raise InvalidData(f"{entry.name} is {value!r}.", f"It is one of {', '.join(choices)}.", _advice(entry))
    if low is not None and not low <= value <= high:
        raise InvalidData(f"{entry.name} is {value!r}.", f"It lies between {low} and {high}.", _advice(entry))
    return value


def _advice(entry: dataclasses.Field) -> str:
    return f"Correct it; {entry.name} says: {entry.metadata['help']}"


def _unknown(names) -> InvalidData:
    shown = ", ".join(sorted(map(str, names)))
    return InvalidData(
        f"There is no setting {shown}.",
        "A setting that is not known would be ignored silently.",
        "Leave it out; `describe_fields()` and `train --help` list all settings.",
    )


def describe_fields() -> list[dict]:
    """Name, type name, default, help, range and choices of each setting, for the command line and the page."""
    described = []
    for entry in dataclasses.fields(TrainingConfig):
        kind = int if entry.type == (int | None) else entry.type
        described.append({"name": entry.name, "type": kind.__name__, "default": entry.default, **entry.metadata})
    return described


def find_recipe(name: str) -> TrainingConfig:
    """The recipe of that name. Raises InvalidData."""
    if name not in RECIPES:
        raise InvalidData(
            f"There is no recipe {name!r}.", f"The recipes are {', '.join(RECIPES)}.", "Choose one of these."
        )
    return RECIPES[name]


_LORA = (
    " Published for full tuning at 5e-7; the LoRA setting (1e-5, r 64, α 16, dropout 0.05, all linear layers) is that"
    " of RLAIF-V's script/train/llava15_train_lora.sh."
)
_PUBLISHED_LORA = {"learning_rate": 1e-5, "lora_rank": 64, "lora_alpha": 16, "lora_dropout": 0.05}

RECIPES: dict[str, TrainingConfig] = {
    "demo": TrainingConfig(),
    "paper": TrainingConfig(
        recipe="paper",
        source="RLHF-V, arXiv 2312.00849, Eq. 5, section 3 and appendix C: γ 5, β 0.5, score divided by its weights,"
        " batch 32, 7 epochs, warm-up 10 %, all corrected segments weighted." + _LORA,
        gamma=5.0,
        beta=0.5,
        normalised=True,
        seam=False,
        batch_size=32,
        epochs=7.0,
        warmup_ratio=0.1,
        **_PUBLISHED_LORA,
    ),
    "rlhfv-2024": TrainingConfig(
        recipe="rlhfv-2024",
        source="The command in RLHF-V's README since February 2024: γ 1.1, β 0.1, plain sum, batch 8, 2,160 steps of"
        " 5,733 pairs (3 epochs), warm-up 3 %; replacements only. Its random crops, flips and colour changes of the"
        " images are left out (for the crops: image_transform random-crop)." + _LORA,
        gamma=1.1,
        beta=0.1,
        weights="token-diff",
        seam=False,
        batch_size=8,
        epochs=3.0,
        warmup_ratio=0.03,
        **_PUBLISHED_LORA,
    ),
    "vl-rlhf": TrainingConfig(
        recipe="vl-rlhf",
        source="VL-RLHF, scripts/ddpo_llava.sh: tokens outside replacements weigh 0, β 0.1, LoRA r 128, α 256 at"
        " 1e-6, one epoch, warm-up 3 %, 16 pairs a GPU (128 on eight).",
        gamma=1.0,
        beta=0.1,
        weights="token-diff",
        seam=False,
        shared_weight=0.0,
        learning_rate=1e-6,
        batch_size=128,
        epochs=1.0,
        warmup_ratio=0.03,
        lora_rank=128,
        lora_alpha=256,
        lora_dropout=0.05,
    ),
    "chip-weights": TrainingConfig(
        recipe="chip-weights",
        source="The segment weights of CHiP's scripts/chip.sh for LLaVA only: γ 4, β 0.1, plain sum, batch 32, one"
        " epoch, warm-up 3 %; replacements only. CHiP's token KL and image preference are not part of it." + _LORA,
        gamma=4.0,
        beta=0.1,
        weights="token-diff",
        seam=False,
        batch_size=32,
        epochs=1.0,
        warmup_ratio=0.03,
        **_PUBLISHED_LORA,
    ),
    "dpo": TrainingConfig(
        recipe="dpo",
        source="Plain DPO as RLAIF-V's script/train/llava15_train_lora.sh: β 0.1, 1e-5, r 64, α 16, dropout 0.05,"
        " batch 8, warm-up 5 %, weight decay 0.01; four epochs as in the paper (arXiv 2405.17220).",
        gamma=1.0,
        beta=0.1,
        seam=False,
        weight_decay=0.01,
        batch_size=8,
        epochs=4.0,
        warmup_ratio=0.05,
        **_PUBLISHED_LORA,
    ),
}
