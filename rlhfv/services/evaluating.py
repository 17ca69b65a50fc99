"""Is a voice better than the baseline, and at what price: evaluations are runs like any other."""

from pathlib import Path

from rlhfv.errors import InvalidData, RunFailed
from rlhfv.models.catalog import adapter_folder
from rlhfv.runs.local import Run
from rlhfv.services.actor import Actor
from rlhfv.services.memory import ANYWAY
from rlhfv.services.model_host import BASELINE
from rlhfv.services.own_runs import OwnRuns

MAX_SCENES = 500


class Evaluating(OwnRuns):
    kind = "evaluation"

    def can_evaluate(self) -> bool:
        return self.host.world is not None

    def start(self, actor: Actor, voices: list[str], scenes: int, title: str = "", room: str = ANYWAY) -> str:
        """Queues an evaluation of `voices` against the baseline on the first `scenes` test scenes; returns its id.

        Raises `MemoryShort` when `room` is to be asked and there is none.
        """
        actor.require("train")
        self.host.require_world()
        base = self.host.world_base or self.host.first
        chosen = [self.host.voice(actor, voice) for voice in voices if voice != BASELINE]
        for voice in chosen:
            if voice.server:
                raise InvalidData(
                    f"'{voice.title}' answers on {voice.server}.",
                    "An evaluation is a run with the weights of its voices, and a server gives none.",
                    "Compare it in Chat, or let it answer a queue of tasks: `python -m rlhfv answer --voice …`.",
                )
            if voice.base != base.key:
                raise InvalidData(
                    f"'{voice.title}' speaks with another model.",
                    f"The drawn scenes are the world of {base.entry.title}.",
                    "Choose adapters of that model.",
                )
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
        asked = [{"adapter": name, "id": voice.id, "title": voice.title} for name, voice in names.items()]
        return self._start(
            actor,
            title or ", ".join(voice.title for voice in chosen),
            {"scenes": scenes, "voices": asked},
            [],
            Path,
            self._place(room, self._need),
            {name: adapter_folder(voice.source) for name, voice in names.items()},
            base=base,
        )

    def results(self, actor: Actor, run_id: str) -> dict:
        """The figures of a finished evaluation; raises `RunFailed` while there are none."""
        results = self.folder(actor, run_id).read_results()
        if results is None:
            raise RunFailed(
                f"The evaluation {run_id} has no results yet.", "It has not ended.", "Wait for it or read its log."
            )
        return results

    def picture(self, source: str) -> str:
        """The name of the stored picture of a scene; the scene is drawn when it is not on the shelf."""
        image = self.shelf.intake(self.host.require_world().picture(source))
        self.store.set_image_source(image.name, source)
        return image.name

    def _need_of(self, actor: Actor, run: Run) -> tuple[int, int]:
        return self._need()

    def _need(self) -> tuple[int, int]:
        """An evaluation holds a model of its own, in the smallest precision that it may take."""
        import torch

        from rlhfv.models import catalog

        device, config = catalog.choose_device(), catalog.fetch_config(self.host.world_base.entry)
        full = catalog.estimate_memory(config, torch.float32)
        smallest = catalog.possible_dtypes(config, device, full.parameters)[-1]
        return catalog.estimate_memory(config, smallest).total, catalog.available_memory(device)
