"""Image inputs of a batch: the features of a frozen vision tower, computed once per image and kept for all epochs.

84 of the 97 image-text-to-text models of transformers 5 take ready features as `mm_encoder_outputs`. The others, and
runs that train the tower, get pixels each time.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import TrainerCallback
from transformers.utils import ModelOutput

from rlhfv.corrections.conversation import Prompt
from rlhfv.ddpo.batches import EncodedPair
from rlhfv.models.prompts import encode_prompt

KEPT_BYTES = 4 * 2**30
"""Memory that kept features may take; images beyond it are encoded anew each time."""

_LEFT_OUT = ("hidden_states", "attentions", "last_hidden_state")


class ImageInputs:
    """Calling it with the pairs of a batch's rows gives the forward arguments for their images, row by row.

    `kept_features_possible` is whether the model takes features and nothing that images pass through is trained;
    `cached` is whether they are used, and may be switched off.
    """

    def __init__(self, base, processor, image_path: Callable[[str], Path]):
        self.base, self.processor, self.image_path = base, processor, image_path
        asks = inspect.signature(base.get_image_features).parameters if hasattr(base, "get_image_features") else ()
        self.reads_question = any("input_ids" in name for name in asks)  # InstructBLIP's Q-Former does
        self.kept_features_possible = (
            "mm_encoder_outputs" in inspect.signature(base.forward).parameters
            and not self.reads_question
            and not any(parameter.requires_grad for parameter in _image_parameters(base))
        )
        self.cached = self.kept_features_possible
        self._kept: dict[tuple[str, ...] | Prompt, dict] = {}
        self._bytes = 0
        self._home: torch.device | None = None  # of what encodes images, while that is put away
        self._watched, self._stays = [], False

    def __call__(self, rows: Sequence[EncodedPair]) -> dict:
        with_images = [pair for pair in rows if pair.images]
        if not with_images:
            return {}
        each = [self._inputs(pair) for pair in with_images]
        joined = {name: _pad_and_join([inputs[name] for inputs in each]) for name in each[0] if name != "features"}
        if self.cached:
            joined["mm_encoder_outputs"] = {"image": join_features([inputs["features"] for inputs in each])}
        return joined

    def keep(self, conversation: Prompt, tensors: dict[str, torch.Tensor]) -> dict:
        """What the batches need of one conversation's images, out of what the processor made of it; kept while there
        is room."""
        key = self._key(conversation)
        kept = self._kept.get(key)
        if kept is not None and self.cached == ("features" in kept):
            return kept
        inputs = self.prepare(tensors)
        size = sum(tensor.nbytes for tensor in _tensors(inputs))
        self._bytes -= sum(tensor.nbytes for tensor in _tensors(self._kept.pop(key, {})))
        if self._bytes + size <= KEPT_BYTES:
            self._kept[key], self._bytes = inputs, self._bytes + size
        return inputs

    def prepare(self, tensors: dict[str, torch.Tensor]) -> dict:
        """What a batch needs of one conversation's images, out of what the processor made of it."""
        inputs = {
            name: value
            for name, value in tensors.items()
            if name not in ("input_ids", "attention_mask") and not name.endswith("token_type_ids")
        }
        if self.cached:
            features = self._encode(inputs)
            inputs = {name: value for name, value in inputs.items() if not name.startswith("pixel_")}
            inputs["features"] = features
        return inputs

    @contextmanager
    def at(self, moment: str) -> Iterator[None]:
        """While pairs are prepared for a moment of training: "reference", "epoch 0" and so on. It changes nothing for
        images that are always the same (see crops.py)."""
        yield

    def put_away(self, pairs: Sequence[EncodedPair]) -> None:
        """Move what encodes images to the main memory, to leave the device's to the steps: where features of all
        images of these pairs are kept, and the device has a memory of its own. On a CPU there is nothing to gain by
        it: weights in their stored precision are pages of their file there, which the system drops when it is short.
        """
        device = self.base.device
        if self._home or self._stays or device.type in ("cpu", "mps") or not self.cached:
            return
        if all("features" in self._kept.get(self._key(pair.conversation), ()) for pair in pairs if pair.images):
            self._move(torch.device("cpu"))
            self._home = device
            self._watched = [module.register_forward_pre_hook(self._needed) for module in _image_modules(self.base)]

    def bring_back(self) -> None:
        """Undo `put_away`."""
        if self._home:
            for hook in self._watched:
                hook.remove()
            self._move(self._home)
            self._home = None

    def _needed(self, *_) -> None:
        """A model that asks a part of it in every step, features or not, as Gemma 3n does, keeps all of it."""
        self._stays = True
        self.bring_back()

    def _move(self, device: torch.device) -> None:
        for module in _image_modules(self.base):
            for parameter in module.parameters(recurse=False):  # not the buffers: DDP sends them round in every step
                parameter.data = parameter.data.to(device)

    def _inputs(self, pair: EncodedPair) -> dict:
        kept = self._kept.get(self._key(pair.conversation))
        if kept is not None and self.cached == ("features" in kept):
            return kept
        return self.keep(pair.conversation, encode_prompt(self.processor, pair.conversation, self.image_path))

    def _key(self, conversation: Prompt) -> tuple[str, ...] | Prompt:
        return conversation if self.reads_question else conversation.all_images

    @torch.no_grad()
    def _encode(self, inputs: dict[str, torch.Tensor]) -> ModelOutput:
        self.bring_back()
        device = self.base.device
        output = self.base.get_image_features(
            **{name: value.to(device) for name, value in inputs.items()}, return_dict=True
        )
        for name in _LEFT_OUT:
            if name in output and (name != "last_hidden_state" or output.get("pooler_output") is not None):
                output[name] = None
        return type(output)(**{name: _to_cpu(value) for name, value in output.items() if value is not None})


class TowerAway(TrainerCallback):
    """Leaves the device's memory to the steps on `pairs`; who looks at the model in between brings the tower back."""

    def __init__(self, images: ImageInputs, pairs: Sequence[EncodedPair]):
        self.images, self.pairs = images, pairs

    def on_step_begin(self, args, state, control, **rest):
        self.images.put_away(self.pairs)

    def on_train_end(self, args, state, control, **rest):
        self.images.bring_back()


def join_features(outputs: Sequence[ModelOutput]) -> ModelOutput:
    """The outputs of several `get_image_features` calls as the output of one call with all their images."""
    first = outputs[0]
    joined = {}
    for name in first:
        values = [output[name] for output in outputs]
        if isinstance(values[0], torch.Tensor):
            joined[name] = torch.cat(values)
        elif name == "pooler_output":  # one tensor an image
            joined[name] = [tensor for value in values for tensor in value]
        else:  # one entry a layer, each a tensor or one tensor an image
            joined[name] = [
                torch.cat(layer)
                if isinstance(layer[0], torch.Tensor)
                else [tensor for part in layer for tensor in part]
                for layer in zip(*values, strict=True)
            ]
    return type(first)(**joined)


def _image_parameters(base):
    """Parameters that images pass through: all that is neither in the language model nor the vocabulary head."""
    inner = {id(parameter) for parameter in base.get_decoder().parameters()}
    head = base.get_output_embeddings()
    inner |= {id(parameter) for parameter in head.parameters()} if head is not None else set()
    return [parameter for parameter in base.parameters() if id(parameter) not in inner]


def _image_modules(base) -> list[torch.nn.Module]:
    """The modules that hold those parameters, without what the language model lies in as well."""
    images = {id(parameter) for parameter in _image_parameters(base)}
    decoder = base.get_decoder()
    return [
        module
        for module in base.modules()
        if any(id(parameter) in images for parameter in module.parameters(recurse=False))
        and not any(part is decoder for part in module.modules())
    ]


def _pad_and_join(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    if len({tensor.shape[1:] for tensor in tensors}) > 1:
        sizes = [max(tensor.shape[axis] for tensor in tensors) for axis in range(tensors[0].dim())]
        padded = []
        for tensor in tensors:
            missing = [(0, sizes[axis] - tensor.shape[axis]) for axis in range(1, tensor.dim())]
            padded.append(F.pad(tensor, [side for pair in reversed(missing) for side in pair]))
        tensors = padded
    return torch.cat(list(tensors))


def _to_cpu(value):
    return value.cpu() if isinstance(value, torch.Tensor) else type(value)(_to_cpu(part) for part in value)


def _tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
