"""Several prompts as the rows of one batch: left padding, and images that are encoded once."""

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

TEXT_TENSORS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
FEATURES = ("pooler_output", "deepstack_features")
"""What language models read of an encoded image; these fields exist once per image or once per layer and image."""
TOWER_INTERNALS = ("last_hidden_state", "hidden_states", "attentions")
CACHE_BYTES = 256 * 1024**2


def text_part(encoded: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: encoded[name] for name in TEXT_TENSORS if name in encoded}


def image_part(encoded: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in encoded.items() if name not in TEXT_TENSORS}


def with_answer(
    encoded: dict[str, torch.Tensor], tokens: Sequence[int], token_type: int = 0
) -> dict[str, torch.Tensor]:
    """The tensors of one row with an answer's tokens behind its prompt."""
    answer = {"input_ids": torch.tensor([tokens]), "attention_mask": torch.ones(1, len(tokens), dtype=torch.long)}
    plain = torch.full((1, len(tokens)), token_type)
    return image_part(encoded) | {
        name: torch.cat([value, answer.get(name, plain).to(value.dtype)], dim=1)
        for name, value in text_part(encoded).items()
    }


def pad_left(rows: Sequence[dict[str, torch.Tensor]], pad_id: int) -> dict[str, torch.Tensor]:
    """Text tensors [1, P_i] of several rows as one batch [rows, max P]: every row ends where its answer begins."""
    longest = max(row["input_ids"].shape[1] for row in rows)
    batch = {}
    for name in text_part(rows[0]):
        fill = pad_id if name == "input_ids" else 0
        batch[name] = torch.cat(
            [torch.nn.functional.pad(row[name], (longest - row[name].shape[1], 0), value=fill) for row in rows]
        )
    return batch


def join_features(outputs: Sequence[ModelOutput]) -> ModelOutput:
    """Encoded images of several rows as if they had been encoded together, in row order."""
    first = outputs[0]
    joined = {
        name: _join([getattr(output, name) for output in outputs], per_layer=name == "deepstack_features")
        for name in FEATURES
        if getattr(first, name, None) is not None
    }
    return type(first)(**joined)


def _join(values: Sequence, per_layer: bool):
    if isinstance(values[0], torch.Tensor):
        return torch.cat(list(values), dim=0)
    if per_layer:
        return [_join(layer, per_layer=False) for layer in zip(*values, strict=True)]
    return [image for value in values for image in value]


class ImageEncoder:
    """The vision tower of a model with the images it encoded last, so that rows and turns share one encoding.

    `why_not` says why rows cannot share an encoding, "" where they can.
    """

    def __init__(self, model: PreTrainedModel):
        encoder = getattr(model.base_model, "get_image_features", None)
        takes = encoder is not None and "mm_encoder_outputs" in inspect.signature(model.forward).parameters
        self._arguments = set(inspect.signature(encoder).parameters) if takes else set()
        self.why_not = "" if takes else "this model cannot be given encoded images"
        if any("input_ids" in name for name in self._arguments):
            self.why_not = "this model encodes an image together with the question"
        self._encoder = encoder
        self._cached: OrderedDict[tuple, ModelOutput] = OrderedDict()
        self.encoded = 0

    def encode(self, key: tuple, images: dict[str, torch.Tensor]) -> ModelOutput | None:
        """Features of the image tensors of one row; `key` names their files. None when they cannot be shared."""
        if key in self._cached:
            self._cached.move_to_end(key)
            return self._cached[key]
        if self.why_not:
            return None
        output = self._encoder(
            **{name: value for name, value in images.items() if name in self._arguments}, return_dict=True
        )
        present = {name for name, value in output.items() if value is not None}
        if "pooler_output" not in present or present - set(FEATURES) - set(TOWER_INTERNALS):
            self.why_not = "what this model's image encoder returns cannot be divided among rows"
            return None
        self.encoded += 1
        features = join_features([output])
        self._cached[key] = features
        while len(self._cached) > 1 and sum(map(_size, self._cached.values())) > CACHE_BYTES:
            self._cached.popitem(last=False)
        return features

    def forget(self) -> None:
        self._cached.clear()


def _size(value) -> int:
    """Bytes of all tensors in nested outputs."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value))


def join_images(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Image tensors beside the pixels (grids, sizes) of all rows; position ids are computed from them."""
    names = {name for row in rows for name in image_part(row) if not name.startswith("pixel")}
    return {name: torch.cat([row[name] for row in rows if name in row]) for name in sorted(names)}


@contextmanager
def hooks_restored(model: torch.nn.Module) -> Iterator[None]:
    """Takes out the forward hooks that PEFT leaves in the model when something raises inside `generate`."""
    before = {id(module): set(module._forward_pre_hooks) for module in model.modules()}
    try:
        yield
    except BaseException:
        for module in model.modules():
            for key in set(module._forward_pre_hooks) - before.get(id(module), set()):
                module._forward_pre_hooks.pop(key)
                module._forward_pre_hooks_with_kwargs.pop(key, None)
        raise
