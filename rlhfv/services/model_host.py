"""The one base in memory and the voices that can speak with it."""

import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.errors import InvalidData, NotFound
from rlhfv.models.catalog import SHIPPED, Entry, World, adapter_folder, find_entry
from rlhfv.models.identity import adapter_identity, folder_identity
from rlhfv.runs.local import LocalRuns
from rlhfv.services.actor import Actor
from rlhfv.settings import Settings

BASELINE = ""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Voice:
    """Something that can answer: the baseline (id "") or an adapter (its identity). `notice` warns where one must."""

    id: str
    title: str
    notice: str = ""
    source: str = ""


class ModelHost:
    """Loads the studio's base once, on first use, and attaches adapters as columns ask for them.

    What was trained here on this base is offered as soon as its run is done.
    """

    def __init__(self, settings: Settings, runs: LocalRuns):
        self.settings, self._runs = settings, runs
        self.entry: Entry = find_entry(settings.model, settings.revision)
        self._model = None
        self._loading = threading.Lock()

    # ---- the base

    @property
    def loaded(self) -> bool:
        return self._model is not None

    def warm(self) -> threading.Thread:
        """Loads the base in the background, so that the page is there before the weights are."""

        def load():
            try:
                self.model()
            except Exception:
                # The first question tells the visitor the true cause; here it belongs in the log.
                log.exception("The model could not be loaded in advance.")

        thread = threading.Thread(target=load, name="load model", daemon=True)
        thread.start()
        return thread

    def model(self):
        """The `LocalModel`; loads it on first use. Raises `ModelUnavailable`."""
        from rlhfv.models.local import LocalModel

        with self._loading:
            if self._model is None:
                self._model = LocalModel.load(self.entry)
            return self._model

    def model_for(self, actor: Actor, *voices: str):
        """The model with every adapter of `voices` attached."""
        wanted = [self.voice(actor, voice) for voice in voices if voice != BASELINE]
        model = self.model()
        with self._loading:
            for voice in wanted:
                if voice.id not in model.adapters():
                    model.attach(voice.source)
        return model

    def unload(self) -> None:
        """Frees the memory for a run; the next question loads the base again."""
        with self._loading:
            if self._model is not None:
                self._model.unload()
                self._model = None

    def require_world(self) -> World:
        if self.entry.world is None:
            raise InvalidData(
                f"'{self.entry.title}' has no world of drawn scenes.",
                "Only a model whose pictures come with their truth can be checked by the oracle.",
                "Start the studio with the demo model for that.",
            )
        return self.entry.world

    def base_config(self) -> dict:
        """How a run's config names this base: never by a path of this machine."""
        identity = self.identity
        source = identity.base if self.base_path() else self.entry.id
        return {"name": identity.name, "revision": identity.revision, "source": source}

    @property
    def identity(self) -> ModelIdentity:
        """The base's identity; a Hub model has one once its files are here, so this may load it."""
        if self.entry.is_local:
            return replace(folder_identity(Path(self.entry.source)), name=self.entry.id)
        return self.model().identity

    def base_path(self) -> Path | None:
        """Where the base lives when it is a local folder."""
        return Path(self.entry.source) if self.entry.is_local and self.entry.id not in SHIPPED else None

    # ---- the voices

    def voices(self, actor: Actor) -> tuple[Voice, ...]:
        """The baseline first, then the adapters that ship with the model, the owner's, and those trained here."""
        offered = [(adapter.title, str(adapter.source)) for adapter in self.entry.adapters]
        offered += [(Path(source).name, str(adapter_folder(source))) for source in self.settings.adapters]
        offered += self._trained(actor)
        voices = {BASELINE: Voice(BASELINE, "Baseline")}
        for title, source in offered:
            identity = adapter_identity(source)
            voices.setdefault(identity, Voice(identity, title, self._notice(identity), source))
        return tuple(voices.values())

    def voice(self, actor: Actor, voice_id: str) -> Voice:
        """Raises `NotFound` when no voice of that id is offered."""
        for voice in self.voices(actor):
            if voice.id == voice_id:
                return voice
        raise NotFound(
            f"The voice '{voice_id}' is not offered.",
            "Its adapter was deleted or never belonged to this studio.",
            "Choose another voice.",
        )

    def _trained(self, actor: Actor) -> list[tuple[str, str]]:
        return [
            (run.title, str(self._runs.open(run.id).adapter))
            for run in self._runs.list()
            if run.state == "done"
            and run.has_adapter
            and self._is_this_base(run.config["base"])
            and (self.settings.single_user or run.config.get("owner") == actor.public_id)
        ]

    def _is_this_base(self, base: dict) -> bool:
        if not self.entry.is_local and self._model is None:
            # The commit is known once the files are here; attaching checks it before anything is said.
            return base["name"] == self.entry.source
        return (base["name"], base["revision"]) == (self.identity.name, self.identity.revision)

    def _notice(self, identity: str) -> str:
        info = self._model.adapters().get(identity) if self._model is not None else None
        return "This adapter changes nothing." if info is not None and info.changes_nothing else ""
