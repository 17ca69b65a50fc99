"""The runs an actor may see: everybody's on a machine of one person, else those they started."""

from rlhfv.errors import NotFound
from rlhfv.run_folder import RunFolder
from rlhfv.runs.local import LocalRuns, Run
from rlhfv.services.actor import Actor
from rlhfv.settings import Settings


class OwnRuns:
    """`LocalRuns` behind an actor's rights, for one kind of run ("training" or "evaluation")."""

    def __init__(self, settings: Settings, runs: LocalRuns, kind: str):
        self.settings, self.local, self.kind = settings, runs, kind

    def list(self, actor: Actor) -> list[Run]:
        """Newest first."""
        actor.require("train")
        return [run for run in self.local.list() if run.kind == self.kind and self._visible(actor, run)]

    def get(self, actor: Actor, run_id: str) -> Run:
        """Raises `NotFound` for a run that does not exist or belongs to somebody else."""
        actor.require("train")
        run = self.local.get(run_id)
        if run.kind != self.kind or not self._visible(actor, run):
            raise NotFound(
                f"There is no {self.kind} run '{run_id}'.", "It is not one of yours.", "Choose one from the list."
            )
        return run

    def folder(self, actor: Actor, run_id: str) -> RunFolder:
        return self.local.open(self.get(actor, run_id).id)

    def _visible(self, actor: Actor, run: Run) -> bool:
        return self.settings.single_user or run.config.get("owner") == actor.public_id
