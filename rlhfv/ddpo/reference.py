"""Log-probabilities of the start model, computed once and kept in the run folder under a key of all they depend on."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

from rlhfv.ddpo.base import Base
from rlhfv.ddpo.batches import EncodedPair, image_groups
from rlhfv.ddpo.trees import fill_batches, gather
from rlhfv.errors import RunFailed


class StaleReference(RunFailed):
    """The kept log-probabilities come from another model, processor, template or precision than the present one."""


def describe_setting(base: Base) -> dict[str, str]:
    """Everything but images, tokens and packing that a reference log-probability depends on."""
    model, processor = base.model, base.processor
    tokenizer = processor.tokenizer
    vocabulary = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else json.dumps(tokenizer.get_vocab())
    return {
        "model": base.name,
        "revision": base.revision,
        "template": _digest(str(processor.chat_template)),
        "image processor": _digest(json.dumps(processor.image_processor.to_dict(), sort_keys=True, default=str)),
        "tokenizer": _digest(vocabulary),
        "dtype": str(model.dtype).removeprefix("torch."),
        "precision": "bfloat16" if base.bfloat16 else "float32",
        "attention": str(model.config._attn_implementation),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        **({} if base.weights == "full" else {"weights": f"{base.weights}, {version('bitsandbytes')}"}),
    }


def pair_key(pair: EncodedPair, image_path: Callable[[str], Path]) -> str:
    """sha256 of the pair's tokens and of the bytes of its images."""
    images = [hashlib.sha256(image_path(name).read_bytes()).hexdigest() for name in pair.images]
    return _digest(json.dumps([images, pair.prompt, pair.token_types, pair.chosen, pair.rejected]))


class ReferenceCache:
    """One file of float32 log-probabilities, `[len(chosen) + len(rejected)]` under each pair's key."""

    def __init__(self, path: Path, setting: dict[str, str]):
        self.path, self.setting = Path(path), setting

    def agrees(self, part: dict[str, str]) -> bool:
        """Whether the file, when there is one, was made under this part of a setting too."""
        return not self.path.is_file() or part.items() <= self._kept_setting().items()

    def load(self) -> dict[str, torch.Tensor]:
        """What is kept, empty when there is no file.

        Raises:
            StaleReference: it was made under another setting.
        """
        if not self.path.is_file():
            return {}
        kept = self._kept_setting()
        with safe_open(self.path, "pt") as file:
            if kept != self.setting:
                changed = sorted(name for name in {*kept, *self.setting} if kept.get(name) != self.setting.get(name))
                raise StaleReference(
                    f"The kept reference log-probabilities were made with another {', '.join(changed)}.",
                    "Used with the present one they would shift every margin without any sign of it.",
                    "Start a new run, which computes them anew.",
                )
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)

    def _kept_setting(self) -> dict[str, str]:
        with safe_open(self.path, "pt") as file:
            return json.loads(file.metadata()["setting"])

    def save(self, values: dict[str, torch.Tensor]) -> None:
        """Replace the file in one step."""
        building = self.path.with_name(f".{self.path.name}")
        save_file(values, building, {"setting": json.dumps(self.setting)})
        os.replace(building, self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@torch.no_grad()
def compute_references(
    pairs: Sequence[EncodedPair], score: Callable[[list[EncodedPair]], torch.Tensor], batch_size: int
) -> None:
    """Fill in `reference` of each pair, longest first, so that lack of memory shows at once, and pairs of one image
    together, so that they can share a row.

    `score` gives the log-probabilities at the sites of a batch, in the order of `Collator`.
    """
    units = sorted(gather(image_groups(pairs)), key=lambda unit: -sum(pairs[place].length for place in unit))
    for places in fill_batches(units, batch_size):
        batch = [pairs[place] for place in places]
        values = score(batch).float().cpu()
        sides = values.split([len(pair.chosen) for pair in batch] + [len(pair.rejected) for pair in batch])
        for pair, chosen, rejected in zip(batch, sides[: len(batch)], sides[len(batch) :], strict=True):
            pair.reference = torch.cat([chosen, rejected])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
