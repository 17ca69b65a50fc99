"""Is a voice better than the baseline, and at what price: evaluations are runs like any other."""

from pathlib import Path

from rlhfv.errors import InvalidData, RunFailed
from rlhfv.runs.local import LocalRuns, Run
from rlhfv.services.actor import Actor
from rlhfv.services.model_host import BASELINE, ModelHost
from rlhfv.services.own_runs import OwnRuns
from rlhfv.settings import Settings

MAX_SCENES = 500


class Evaluating:
    def __init__(self, settings: Settings, host: ModelHost, runs: LocalRuns):
        self.host, self._runs = host, OwnRuns(settings, runs, "evaluation")

    def can_evaluate(self) -> bool:
        return self.host.entry.world is not None

    def start(self, actor: Actor, voices: list[str], scenes: int, title: str = "") -> str:
        """Queues an evaluation of `voices` against the baseline on the first `scenes` test scenes; returns its id."""
        actor.require("train")
        self.host.require_world()
        chosen = [self.host.voice(actor, voice) for voice in voices if voice != BASELINE]
        if not chosen:
            raise InvalidData(
                "No adapter was chosen.",
                "An evaluation compares adapters with the baseline.",
                "Choose at least one; train one first if there is none.",
            )
        if not 1 <= scenes <= MAX_SCENES:
            raise InvalidData(
                f"{scenes} scenes were asked for.", f"The test world has {MAX_SCENES}.", "Choose a number between."
            )
        names = {f"voice-{number}": voice for number, voice in enumerate(chosen, start=1)}
        run = self._runs.local.start(
            {
                "kind": "evaluation",
                "title": title or ", ".join(voice.title for voice in chosen),
                "base": self.host.base_config(),
                "evaluation": {
                    "scenes": scenes,
                    "voices": [
                        {"adapter": name, "id": voice.id, "title": voice.title} for name, voice in names.items()
                    ],
                },
                "owner": actor.public_id,
            },
            [],
            Path,
            base_path=self.host.base_path(),
            adapters={name: Path(voice.source) for name, voice in names.items()},
        )
        return run.id

    def runs(self, actor: Actor) -> list[Run]:
        """Evaluations, newest first."""
        return self._runs.list(actor)

    def run(self, actor: Actor, run_id: str) -> Run:
        return self._runs.get(actor, run_id)

    def events(self, actor: Actor, run_id: str, offset: int = 0) -> tuple[list[dict], int]:
        """Events after byte `offset`, and the offset to go on from."""
        return self._runs.folder(actor, run_id).read_events(offset)

    def stop(self, actor: Actor, run_id: str) -> Run:
        return self._runs.local.stop(self.run(actor, run_id).id)

    def resume(self, actor: Actor, run_id: str) -> Run:
        """Goes on where the evaluation was stopped; answers that are there are not asked again."""
        return self._runs.local.resume(self.run(actor, run_id).id)

    def delete(self, actor: Actor, run_id: str) -> None:
        self._runs.local.delete(self.run(actor, run_id).id)

    def results(self, actor: Actor, run_id: str) -> dict:
        """The figures of a finished evaluation; raises `RunFailed` while there are none."""
        results = self._runs.folder(actor, run_id).read_results()
        if results is None:
            raise RunFailed(
                f"The evaluation {run_id} has no results yet.", "It has not ended.", "Wait for it or read its log."
            )
        return results
