"""Which bases are in memory, who speaks with them, and how they make room for each other.

Bases that fit together are in memory together. Those that do not take turns: who asks the one that is out waits until
the answers of the other are complete, then the two change places. Whoever waited for a base is served before it goes.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.errors import GenerationFailed, ModelUnavailable
from rlhfv.models.catalog import (
    SHIPPED,
    Entry,
    available_memory,
    choose_device,
    fetch_files,
    refuse_if_too_large,
    require_base,
)
from rlhfv.models.fetching import download, downloads
from rlhfv.models.identity import folder_identity
from rlhfv.models.quantised import refuse_four_bit_if_too_large
from rlhfv.services.pins import Pins

if TYPE_CHECKING:
    from rlhfv.models.local import LocalModel


COMMIT = re.compile(r"[0-9a-f]{40}")
LOOK_SECONDS = 0.5
"""How often whoever waits looks whether somebody still wants an answer."""


class Base:
    """One base. `key` is the id of its baseline, "" for the first; `model` is what is in memory of it; `stays` says
    that it is never taken out. `options` are those of `LocalModel.load`, found when it is loaded."""

    def __init__(self, entry: Entry, key: str = "", options: Callable[[Entry], dict] = lambda entry: {}):
        self.entry, self.key, self.options = entry, key, options
        self.model: LocalModel | None = None
        self.stays = False
        self.users = 0
        self.leaving = False
        self.last_used = time.monotonic()
        self.attaching = threading.Lock()
        self.known: ModelIdentity | None = None

    @property
    def held(self) -> int:
        """Bytes that its weights take in memory."""
        module = getattr(self.model, "model", None)
        return 0 if module is None else sum(weights.nbytes for weights in module.parameters())

    @property
    def several_pictures(self) -> bool:
        """Whether a conversation may hold more than one picture, as far as is known before it is loaded."""
        return not self.entry.one_picture if self.model is None else self.model.takes_several_images

    @property
    def path(self) -> Path | None:
        """Where it lives when it is a local folder."""
        return Path(self.entry.source) if self.entry.is_local and self.entry.id not in SHIPPED else None

    @property
    def identity(self) -> ModelIdentity | None:
        """None while the commit of a model of the Hub is not known."""
        if self.entry.is_local:
            return replace(folder_identity(Path(self.entry.source)), name=self.entry.id)
        if self.known is None and self.model is None and COMMIT.fullmatch(self.entry.revision or ""):
            return ModelIdentity(self.entry.source, self.entry.revision)
        return self.known or (self.model.identity if self.model is not None else None)


@dataclass
class _Waiting:
    base: Base
    admitted: bool = False


class Bases:
    """The bases of a studio, the first one first. `may_load` is called before a base is loaded and may refuse."""

    def __init__(self, pins: Pins, may_load: Callable[[], None] = lambda: None):
        self._pins, self._may_load = pins, may_load
        self.all: list[Base] = []
        self.take_turns = False
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._loading: Base | None = None

    @contextmanager
    def using(self, base: Base, given_up: Callable[[], bool] = lambda: False) -> Iterator["LocalModel"]:
        """The model of the base, which stays in memory as long as the context lasts. Waits for its turn, unless
        `given_up()` says meanwhile that nobody wants it any more.

        Raises:
            ModelUnavailable: it cannot be loaded.
            GenerationFailed: it was given up before its turn.
        """
        model = self._enter(base, given_up)
        try:
            yield model
        finally:
            with self._changed:
                base.users -= 1
                base.last_used = time.monotonic()
                self._changed.notify_all()

    def require_fits(self, base: Base) -> None:
        """Raises `ModelUnavailable` where a base fits into memory neither beside the others nor in their place."""
        others = [other for other in self.all if other is not base and self._may_go(other)]
        _fits(base.entry, base.options(base.entry), sum(other.held for other in others))

    def status(self) -> str:
        """What an answer waits for, in a sentence; "" when nothing is loaded or fetched."""
        base = self._loading
        fetched = [str(progress) for progress in downloads()]
        told = fetched[:1] or ([f"Loading {base.entry.title} …"] if base else [])
        if base and self.take_turns:
            told.append("The models do not fit into memory together, so they take turns.")
        return " ".join(told)

    def unload_idle(self, seconds: float) -> list[Base]:
        """Takes out what nobody used for so long; the next question loads it again. Returns the bases."""
        with self._changed:
            wanted = {waiting.base for waiting in self._waiting}
            quiet = time.monotonic() - seconds
            out = [
                base
                for base in self.all
                if self._may_go(base) and not base.users and base not in wanted and base.last_used <= quiet
            ]
            for base in out:
                self._take_out(base)
        return out

    def unload_all(self) -> None:
        """Takes everything out at once; answers under way end where they are."""
        with self._changed:
            self._changed.wait_for(lambda: self._loading is None)
            for base in self.all:
                if base.model is not None and not base.stays:
                    self._take_out(base)

    def remove(self, base: Base) -> None:
        """Takes a base out for good, when its answers are complete."""
        with self._changed:
            base.leaving = True
            self.all.remove(base)
            self._changed.wait_for(lambda: base.users == 0 and self._loading is not base)
            if base.model is not None:
                self._take_out(base)

    def settle(self, base: Base, identity: ModelIdentity) -> None:
        """Keeps a base at the commit that it was found at, however often it is loaded again."""
        base.known = identity
        if not base.entry.is_local:
            self._pins.note(base.entry, identity.revision)
            base.entry = replace(base.entry, revision=identity.revision)

    # ---- inside; `_changed` is held

    def _enter(self, base: Base, given_up: Callable[[], bool]) -> "LocalModel":
        mine = _Waiting(base)
        with self._changed:
            self._waiting.append(mine)
            try:
                while True:
                    self._admit()
                    if mine.admitted:
                        return base.model
                    if given_up():
                        raise GenerationFailed(
                            "You stopped before this model was in memory.",
                            f"{base.entry.title} had to be loaded first.",
                            "Ask again.",
                        )
                    if self._loading is None and self._next_to_load() is mine:
                        self._load(base)
                    else:
                        self._changed.wait(LOOK_SECONDS)
            finally:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                self._changed.notify_all()

    def _admit(self) -> None:
        """Lets everybody in who waits for what is in memory and stays there."""
        for waiting in list(self._waiting):
            if waiting.base.model is not None and not waiting.base.leaving:
                waiting.admitted = True
                waiting.base.users += 1
                self._waiting.remove(waiting)
                self._changed.notify_all()

    def _next_to_load(self) -> _Waiting | None:
        return next((waiting for waiting in self._waiting if waiting.base.model is None), None)

    def _load(self, base: Base) -> None:
        if base not in self.all:
            raise ModelUnavailable(
                f"{base.entry.title} is no longer beside the chat's model.",
                "Somebody who manages this studio took it out.",
                "Choose another voice.",
            )
        self._loading, others = base, [other for other in self.all if other is not base and self._may_go(other)]
        try:
            with self._unlocked():
                self._may_load()
                options = base.options(base.entry)
                fits = _fits(base.entry, options, sum(other.held for other in others))
                entry = _fetch(base.entry)  # while the others still answer; where it fails they stay
            if not fits:
                self.take_turns = True
                for other in others:
                    other.leaving = True
                self._changed.wait_for(lambda: not any(other.users for other in others))
                for other in others:
                    if other.model is not None:
                        self._take_out(other)
            with self._unlocked():
                from rlhfv.models.local import LocalModel

                model = LocalModel.load(entry, **options)
                self.settle(base, model.identity)
            base.model, base.last_used = model, time.monotonic()
        finally:
            for other in others:
                other.leaving = False
            self._loading = None

    def _may_go(self, base: Base) -> bool:
        return base.model is not None and not base.stays

    def _take_out(self, base: Base) -> None:
        model, base.model, base.leaving = base.model, None, False
        self._changed.notify_all()
        model.unload()

    @contextmanager
    def _unlocked(self) -> Iterator[None]:
        self._changed.release()
        try:
            yield
        finally:
            self._changed.acquire()


def identify(bases: Bases, base: Base) -> ModelIdentity:
    """The identity of a base; for a model of the Hub whose commit is not known yet the Hub is asked for it, once.

    Raises:
        ModelUnavailable: there is none here, or the Hub does not tell.
    """
    require_base(base.entry)
    identity = base.identity
    if identity is None:
        commit = download(base.entry.source, base.entry.revision, ("config.json",)).name
        identity = ModelIdentity(base.entry.source, commit)
        bases.settle(base, identity)
    return identity


def _fetch(entry: Entry) -> Entry:
    """Fetches the files of a base, laid out as they are loaded; returns it at the commit that they are of."""
    folder = fetch_files(entry)
    return entry if entry.is_local else replace(entry, revision=folder.name)


def _fits(entry: Entry, options: dict, held: int) -> bool:
    """Whether a base fits beside the others, which hold so many bytes.

    Raises:
        ModelUnavailable: it does not fit alone either; nothing has been taken out for it then.
    """
    device = choose_device(options.get("device"))
    refuse = refuse_if_too_large if "quantisation" not in options else refuse_four_bit_if_too_large
    free = available_memory(device)
    try:
        refuse(entry, device, available=free)
    except ModelUnavailable:
        refuse(entry, device, available=free + held)
        return False
    return True
