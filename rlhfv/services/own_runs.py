"""The runs an actor may see and steer: everybody's on a machine of one person, else those they started."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.store import Store
from rlhfv.errors import NotFound, RunFailed
from rlhfv.run_folder import RunFolder
from rlhfv.runs.local import LocalRuns, Run
from rlhfv.runs.state import ALIVE
from rlhfv.services.actor import Actor
from rlhfv.services.bases import Base
from rlhfv.services.limits import Limits
from rlhfv.services.memory import ANYWAY, ELSEWHERE, find_place
from rlhfv.services.model_host import ModelHost
from rlhfv.settings import Settings

MOST_OPEN = 2
"""Runs of one visitor that wait or work at a time, where many share a machine."""


class OwnRuns(ABC):
    """`LocalRuns` behind an actor's rights, for one `kind` of run ("training" or "evaluation")."""

    kind = ""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        shelf: ImageShelf,
        host: ModelHost,
        runs: LocalRuns,
        limits: Limits | None = None,
    ):
        self.settings, self.store, self.shelf = settings, store, shelf
        self.host, self.local, self.limits = host, runs, limits or Limits()

    def runs(self, actor: Actor) -> list[Run]:
        """Newest first."""
        actor.require("train")
        return [run for run in self.local.list() if run.kind == self.kind and self._visible(actor, run)]

    def run(self, actor: Actor, run_id: str) -> Run:
        """Raises `NotFound` for a run that does not exist or belongs to somebody else."""
        actor.require("train")
        run = self.local.get(run_id)
        if run.kind != self.kind or not self._visible(actor, run):
            raise NotFound(
                f"There is no {self.kind} run '{run_id}'.", "It is not one of yours.", "Choose one from the list."
            )
        return run

    def folder(self, actor: Actor, run_id: str) -> RunFolder:
        return self.local.open(self.run(actor, run_id).id)

    def events(self, actor: Actor, run_id: str, offset: int = 0) -> tuple[list[dict], int]:
        """Events after byte `offset`, and the offset to go on from."""
        return self.folder(actor, run_id).read_events(offset)

    def log(self, actor: Actor, run_id: str, lines: int = 200) -> list[str]:
        return self.folder(actor, run_id).read_log(lines)

    def stop(self, actor: Actor, run_id: str) -> Run:
        return self.local.stop(self.run(actor, run_id).id)

    def resume(self, actor: Actor, run_id: str, room: str = ANYWAY) -> Run:
        """Goes on where the run was stopped or failed. Raises `MemoryShort` when `room` is to be asked and there is
        none."""
        run = self.run(actor, run_id)
        return self._placed(self.local.resume(run.id, **self._place(room, lambda: self._need_of(actor, run))))

    def delete(self, actor: Actor, run_id: str) -> None:
        self.local.delete(self.run(actor, run_id).id)

    # ---- for the kinds of runs

    @abstractmethod
    def _need_of(self, actor: Actor, run: Run) -> tuple[int, int]:
        """Bytes that the run needs, and bytes that are free."""

    def _start(
        self,
        actor: Actor,
        title: str,
        settings: dict,
        rows: Iterable[dict],
        image_path: Callable[[str], Path],
        place: dict,
        adapters: Mapping[str, Path] | None = None,
        base: Base | None = None,
    ) -> str:
        base = base or self.host.first
        if not place.get("hold"):
            self.host.require_own_machine(f"A run ({self.kind})", base)
            self._take_share(actor)
        config = {
            "kind": self.kind,
            "title": title,
            "base": self.host.base_config(base),
            self.kind: settings,
            "owner": actor.public_id,
        }
        base_path = self.host.base_path(base)
        return self._placed(self.local.start(config, rows, image_path, base_path, adapters, **place)).id

    def _take_share(self, actor: Actor) -> None:
        """Raises `RunFailed` and `TooMany` where others have to have their turn first."""
        if not self.limits or "manage" in actor.rights:
            return
        open_runs = sum(
            run.config.get("owner") == actor.public_id and run.state in (*ALIVE, "queued") for run in self.local.list()
        )
        if open_runs >= MOST_OPEN:
            raise RunFailed(
                f"You have {open_runs} runs that are not done.",
                "Many people share this machine, and runs take turns.",
                "Wait until one is done, or stop one.",
            )
        self.limits.take(actor, "run")

    def _place(self, room: str, need: Callable[[], tuple[int, int]]) -> dict:
        """How a run is queued; what it needs is counted only where it matters."""
        return find_place(room, *((0, 0) if room in (ANYWAY, ELSEWHERE) else need()), held=self.host.held)

    def _placed(self, run: Run) -> Run:
        self.host.make_room()
        return run

    def _visible(self, actor: Actor, run: Run) -> bool:
        return self.settings.single_user or run.config.get("owner") == actor.public_id
