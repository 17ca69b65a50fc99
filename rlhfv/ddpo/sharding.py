"""A base too large for one device: its weights split over all of them and brought together layer by layer (FSDP2).

Split are the frozen language model and the vocabulary. The adapter is small and stays whole on each device, as do the
parts that images pass through: features are computed wherever they are needed.
"""

import os

import torch
from accelerate import PartialState
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from rlhfv.ddpo.base import Base
from rlhfv.errors import RunFailed


def split_weights(model: torch.nn.Module, base: Base) -> None:
    """Split the weights of `model`, the base with its adapter, in place. All devices have to make the same forward
    passes from here on."""
    state, inner = PartialState(), base.model
    mesh = init_device_mesh(state.device.type, (state.num_processes,))
    whole = _kept_whole(model, inner)
    for parameter in (value for value in model.parameters() if value in whole):  # the same order everywhere
        parameter.data = parameter.data.to(state.device)
        torch.distributed.broadcast(parameter.data, src=0)  # the adapter's start
    # The root too goes back to its shares: a state dict, which one process asks for, would do that on this one only.
    how = {"mesh": mesh, "ignored_params": whole, "reshard_after_forward": True}
    for layer in _layers(inner.get_decoder()):
        fully_shard(layer, **how)
    inputs, head = inner.get_input_embeddings(), inner.get_output_embeddings()
    if head is not None and head.weight is not inputs.weight:  # tied ones belong to the root, which holds both
        fully_shard(inputs, **how)
        fully_shard(head, **how)
    fully_shard(model, **how)
    register_fsdp_forward_method(model, "generate")
    # `generate` then goes on until the longest answer of all devices ends.
    inner._is_fsdp_managed_module = True


def refuse_other_splitting() -> None:
    """Raises RunFailed where `accelerate config` asks for a way of splitting that a run does not know."""
    for variable, name in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
        if os.environ.get(variable, "").lower() == "true":
            raise RunFailed(
                f"The configuration of accelerate asks for {name}.",
                "A run splits its weights itself, as its setting split_weights says.",
                f"Answer `accelerate config` without {name}, and set split_weights.",
            )


def is_split(model: torch.nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def held_elsewhere(model: torch.nn.Module) -> int:
    """Bytes of the weights that other devices hold."""
    split = [value for value in model.parameters() if isinstance(value, DTensor)]
    return sum((value.numel() - value.to_local().numel()) * value.element_size() for value in split)


def average_gradients(model: torch.nn.Module) -> None:
    """The mean over all devices for trained parameters that are whole on each; FSDP does it for those it split."""
    mine = [value for value in model.parameters() if value.grad is not None and not isinstance(value, DTensor)]
    if not mine:
        return
    together = torch.cat([value.grad.flatten() for value in mine])
    torch.distributed.all_reduce(together)
    together /= PartialState().num_processes
    for value, part in zip(mine, together.split([value.numel() for value in mine]), strict=True):
        value.grad.copy_(part.view_as(value))


def _layers(decoder: PreTrainedModel) -> list[torch.nn.Module]:
    stacks = [module for module in decoder.modules() if isinstance(module, torch.nn.ModuleList)]
    longest = max(stacks, key=lambda stack: sum(value.numel() for value in stack.parameters()), default=[])
    return list(longest)


def _kept_whole(model: torch.nn.Module, inner: PreTrainedModel) -> set[torch.nn.Parameter]:
    head = inner.get_output_embeddings()
    split = {id(value) for value in inner.get_decoder().parameters() if not value.requires_grad}
    split |= {id(value) for value in head.parameters()} if head is not None else set()
    return {value for value in model.parameters() if id(value) not in split}
