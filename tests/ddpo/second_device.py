"""A second device on a machine without one: its tensors hold real numbers, and it refuses to compute with those of
the first, as a GPU does. Its name is "meta", the one that torch can train under without a driver."""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")


class There(torch.Tensor):
    """A tensor on the second device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers):
        shape = {"strides": numbers.stride(), "dtype": numbers.dtype, "device": DEVICE}
        return torch.Tensor._make_wrapper_subclass(cls, numbers.size(), **shape)

    def __init__(self, numbers):
        self.numbers = numbers

    def tolist(self):
        return self.numbers.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        target = kwargs.pop("device", None)
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        there = any(isinstance(value, There) for value in tensors)
        moves = function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if there and not moves and any(value.dim() and not isinstance(value, There) for value in tensors):
            raise RuntimeError(f"{function} got tensors of two devices")
        if target is not None:
            there, kwargs["device"] = torch.device(target) == DEVICE, torch.device("cpu")
        result = function(*tree_map(_numbers, args), **tree_map(_numbers, kwargs))
        if function is torch.ops.aten.copy_.default:
            return args[0]
        return tree_map(lambda value: There(value) if there and isinstance(value, torch.Tensor) else value, result)


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return There.__torch_dispatch__(function, types, args, kwargs)


def _numbers(value):
    return value.numbers if isinstance(value, There) else value


def _set_data(tensor, value):
    torch.utils.swap_tensors(tensor, torch.nn.Parameter(value.detach(), tensor.requires_grad))


@contextlib.contextmanager
def second_device(monkeypatch):
    """While it lasts, tensors go to `DEVICE` and back."""
    get_data = torch._C.TensorBase.data.__get__
    monkeypatch.setattr(torch.Tensor, "data", property(get_data, _set_data))
    with _Mode():
        yield


def move(model: torch.nn.Module) -> None:
    """Put parameters and buffers on the second device."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = torch.nn.Parameter(value.detach().to(DEVICE), value.requires_grad)
        for name, value in module._buffers.items():
            module._buffers[name] = None if value is None else value.to(DEVICE)


def bytes_there(model: torch.nn.Module) -> int:
    return sum(value.numbers.nbytes for value in model.parameters() if isinstance(value, There))
