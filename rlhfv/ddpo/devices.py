"""A run on several devices: which pairs each one takes, one decision for all of them, and an end that all of them come
to."""

import contextlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch.utils.data import DataLoader, Sampler

from rlhfv.models.catalog import choose_device

SECONDS_TO_TELL = 20.0
"""How long a process that has to end waits until the main one has told it."""
_LOOK_SECONDS = 0.25
_attempts = itertools.count()


class Shares(Sampler):
    """What one device takes of each batch, in pieces of at most `at_once` pairs: lists of places in the data.

    Each optimizer step has the same pairs however many devices there are, and every device as many pieces as the
    others, because each piece is a meeting of all. Neighbours of the order stay together where that is possible. The
    last batch of an epoch has the pairs that are left; a device that gets none of them finds the empty list.

    Args:
        order: an order of all pairs; in training it knows epochs.
        batch_size: pairs of an optimizer step over all `world` devices, of which this one is `rank`.
    """

    def __init__(self, order: Sampler, batch_size: int, at_once: int, world: int, rank: int):
        self.order, self.batch_size, self.at_once = order, batch_size, at_once
        self.world, self.rank = world, rank

    def __len__(self) -> int:
        whole, left = divmod(len(self.order), self.batch_size)
        return whole * self._pieces(self.batch_size) + self._pieces(left)

    def pairs_in_step(self, step: int) -> int:
        """Pairs of an optimizer step over all devices; steps are counted from the start of the run."""
        place = step % max(1, -(-len(self.order) // self.batch_size)) * self.batch_size
        return min(self.batch_size, len(self.order) - place)

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.order)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            parts = self.world * self._pieces(len(batch))
            cuts = [len(batch) * part // parts for part in range(parts + 1)]
            for part in range(self.rank, parts, self.world):
                yield batch[cuts[part] : cuts[part + 1]]

    def _pieces(self, pairs: int) -> int:
        return -(-pairs // (self.world * self.at_once))


class ShareLoader(DataLoader):
    """Batches of `Shares`, each with `counts`: 0 where a pair stands in for an empty piece, else 1."""

    def __init__(self, pairs: Sequence, shares: Shares, collate: Callable[[list], dict]):
        stand_in = min(pairs, key=lambda pair: pair.length)

        def fill(some: list) -> dict:
            return {**collate(some or [stand_in]), "counts": float(bool(some))}

        self.shares = shares
        super().__init__(pairs, batch_sampler=shares, collate_fn=fill)

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


def join_processes() -> PartialState:
    """The place of this process among those of the run. On CPUs accelerate has to be told, or it sees only itself."""
    return PartialState(cpu=choose_device().type == "cpu")


def all_values(value) -> list:
    """`value` of every process, in their order."""
    return gather_object([value])


def main_value(value):
    """`value` of the main process."""
    return broadcast_object_list([value])[0] if PartialState().num_processes > 1 else value


def any_process(yes: bool) -> bool:
    """Whether one process says so."""
    state = PartialState()
    if state.num_processes == 1:
        return yes
    told = torch.tensor(int(yes), device=state.device)
    torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
    return bool(told)


class Together:
    """Ends all processes of a run when one of them has to end, wherever the others wait for it.

    A collective never returns when one process has left, so the one that leaves says why through the launcher's store
    and stays until the main process has told it. The first reason counts; it is told once.

    Args:
        emit: writes an event; called in the main process only.
    """

    def __init__(self, emit: Callable[..., None]):
        self.emit = emit
        self.state = PartialState()
        self._leaving, self._ended = False, threading.Event()
        self._lock, self._told = threading.Lock(), False
        key = f"rlhfv/{next(_attempts)}"  # every process makes its attempts in the same order
        self._reason_key, self._told_key = f"{key}/reason", f"{key}/told"
        self._store = None
        if self.state.num_processes > 1:
            place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            self._store = torch.distributed.TCPStore(*place, is_master=False, timeout=timedelta(seconds=60))

    def __enter__(self) -> "Together":
        if self._store is not None:
            threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()

    def leave(self, kind: str = "", **fields) -> None:
        """Before this process ends out of turn: the event that says why, or none where that is not for the folder."""
        self._leaving = True
        reason = {"kind": kind, "fields": fields}
        if self._store is not None:
            with contextlib.suppress(RuntimeError):  # the store has gone with the launcher
                reason = json.loads(self._store.compare_set(self._reason_key, "", json.dumps(reason)))
        if self.state.is_main_process:
            self._tell(reason)
        elif self._store is not None:
            self._wait_until_told()

    def _tell(self, reason: dict) -> None:
        with self._lock:
            if not self._told and reason["kind"]:
                self.emit(reason["kind"], **reason["fields"])
            self._told = True
        if self._store is not None:
            with contextlib.suppress(RuntimeError):
                self._store.set(self._told_key, "1")

    def _wait_until_told(self) -> None:
        limit = time.monotonic() + SECONDS_TO_TELL
        with contextlib.suppress(RuntimeError):
            while time.monotonic() < limit and not self._store.check([self._told_key]):
                time.sleep(_LOOK_SECONDS)

    def _watch(self, launcher: int) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            if os.getppid() != launcher:  # killed: nobody would end this process any more
                os._exit(1)
            try:
                if self._leaving or not self._store.check([self._reason_key]):
                    continue
                reason = json.loads(self._store.get(self._reason_key))
            except RuntimeError:
                return
            if self.state.is_main_process:
                self._tell(reason)
            else:
                self._wait_until_told()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0 if reason["kind"] == "state" else 1)  # the main thread may wait in a collective for ever
