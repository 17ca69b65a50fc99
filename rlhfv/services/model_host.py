"""The one base in memory and the voices that can speak with it."""

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.errors import InvalidData, ModelUnavailable, NotFound, RunFailed
from rlhfv.models.catalog import SHIPPED, Entry, World, adapter_folder, find_entry, local_adapter
from rlhfv.models.identity import adapter_identity, folder_identity
from rlhfv.runs.local import LocalRuns
from rlhfv.services.actor import Actor
from rlhfv.settings import DEMO_MODEL, Settings, on_zero_gpu

if TYPE_CHECKING:
    from rlhfv.models.local import LocalModel
    from rlhfv.models.remote import RemoteModel

BASELINE = ""
FETCHED_WHEN_CHOSEN = "This adapter is fetched from the Hub when it is chosen."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Voice:
    """Something that can answer: the baseline (id ""), an adapter (its identity) or a model on a server
    (`model@server`). `notice` warns where one must, `source` is the adapter's folder or Hub id, `server` where a model
    is that is not here."""

    id: str
    title: str
    notice: str = ""
    source: str = ""
    server: str = ""


class GaveRoom(ModelUnavailable):
    """The base is not loaded because a run has its memory."""


class ModelHost:
    """Loads the studio's base once, on first use, and attaches adapters as columns ask for them.

    What was trained here on this base is offered as soon as its run is done. Beside it, or in its place, are models on
    servers.
    """

    def __init__(self, settings: Settings, runs: LocalRuns):
        self.settings, self._runs = settings, runs
        self.entry: Entry = find_entry(settings.model, settings.revision)
        self.remotes: dict[str, RemoteModel] = {}
        if settings.remotes:
            from rlhfv.models.remote import open_remotes

            self.remotes = open_remotes(settings.remotes, settings.remote_at_once)
        self.stand_ins: tuple[Voice, ...] = ()
        if self.borrows_gpu:
            from rlhfv.models.zero import StandIn

            demo = SHIPPED[DEMO_MODEL]()
            adapters = (None, *demo.adapters)
            self.stand_ins = tuple(
                Voice(
                    f"{DEMO_MODEL}-{number}",
                    f"{demo.title}: {adapter.title if adapter else 'baseline'}",
                    f"Needs no GPU. {demo.notice}",
                    server="this machine's processor",
                )
                for number, adapter in enumerate(adapters)
            )
            self.remotes |= {
                voice.id: StandIn(demo, adapter) for voice, adapter in zip(self.stand_ins, adapters, strict=True)
            }
        self._model = None
        self._known: ModelIdentity | None = None
        self._loading = threading.Lock()
        self._gave_room = False

    # ---- the base

    @property
    def loaded(self) -> bool:
        return self._model is not None

    @property
    def several_pictures(self) -> bool:
        """Whether a conversation may hold more than one picture, as far as is known before the base is loaded."""
        return not self.entry.one_picture if self._model is None else self._model.takes_several_images

    @property
    def held(self) -> int:
        """Bytes that the weights in memory take."""
        module = getattr(self._model, "model", None)
        return 0 if module is None else sum(weights.nbytes for weights in module.parameters())

    @property
    def borrows_gpu(self) -> bool:
        """Whether the base answers on a GPU that is lent by the call; the demo model does not need one."""
        return on_zero_gpu() and self.entry.id not in SHIPPED

    def hand_over(self) -> None:
        """On ZeroGPU: loads the base with all adapters that are named, in this thread, which must be the main one, and
        before the page is served. Elsewhere nothing. Raises `ModelUnavailable`."""
        if self.borrows_gpu:
            from rlhfv.models.zero import ZeroModel

            adapters = [*(adapter.source for adapter in self.entry.adapters), *self.settings.adapters]
            self._model = ZeroModel.load(self.entry, adapters)

    def require_own_machine(self, what: str) -> None:
        """Raises `RunFailed` where the base has a GPU for seconds at a time only."""
        if self.borrows_gpu:
            raise RunFailed(
                f"{what} of '{self.entry.title}' cannot start on this Space.",
                "It borrows a GPU for seconds at a time, and its processor is too slow for that model.",
                "Start it as a Job, on your own account, or run the studio on a machine with a GPU.",
            )

    def warm(self) -> threading.Thread | None:
        """Loads the base in the background, so that the page is there before the weights are; not where the columns
        begin with voices on servers: then it is loaded when somebody chooses it."""
        if all(voice in self.remotes for voice in self._first_two([BASELINE])):
            return None

        def load():
            try:
                with suppress(GaveRoom):
                    self.model()
            # The first question tells the visitor the true cause; here it belongs in the log.
            except ModelUnavailable as error:
                log.warning("The model could not be loaded in advance. %s", error)
            except Exception:
                log.exception("The model could not be loaded in advance.")

        thread = threading.Thread(target=load, name="load model", daemon=True)
        thread.start()
        return thread

    def model(self):
        """The `LocalModel`; loads it on first use. Raises `ModelUnavailable`; `GaveRoom` while a run has its place."""
        from rlhfv.models.local import LocalModel

        with self._loading:
            if self._model is None:
                self._check_room()
                self._model = LocalModel.load(self.entry)
            return self._model

    def model_for(self, actor: Actor, *voices: str) -> "LocalModel | RemoteModel":
        """The model with every adapter of `voices` attached; a voice on a server is a model by itself."""
        if len(voices) == 1 and voices[0] in self.remotes:
            return self.remotes[voices[0]]
        wanted = [self.voice(actor, voice) for voice in voices if voice != BASELINE]
        model = self.model()
        with self._loading:
            for voice in wanted:
                if voice.id not in model.adapters():
                    model.attach(voice.source)
        return model

    def make_room(self) -> None:
        """Takes the base out of memory while a run works that was given its room, and loads it again afterwards. To be
        called whenever a run may have begun or ended."""
        if self._runs.find_alone() is not None:
            with self._loading:
                if self._model is not None:
                    self._model.unload()
                    self._model = None
            self._gave_room = True
        elif self._gave_room:
            self._gave_room = False
            self.warm()

    def _check_room(self) -> None:
        run = self._runs.find_alone()
        if run is None:
            return
        self._gave_room = True
        left = f"step {run.step} of {run.total_steps}" if run.total_steps else run.state
        raise GaveRoom(
            f"The model is out of memory for the run “{run.title}” ({left}).",
            "There is no room for both, so its owner chose to unload the chat.",
            "Wait until the run ends, or stop it in Train; the model then comes back by itself.",
        )

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
        """The base's identity; a Hub model has one once its files are here, so this may load it, once."""
        if self.entry.is_local:
            return replace(folder_identity(Path(self.entry.source)), name=self.entry.id)
        self._known = self._known or self.model().identity
        return self._known

    def base_path(self) -> Path | None:
        """Where the base lives when it is a local folder."""
        return Path(self.entry.source) if self.entry.is_local and self.entry.id not in SHIPPED else None

    # ---- the voices

    def voices(self, actor: Actor) -> tuple[Voice, ...]:
        """The baseline first, then the adapters that ship with the model, the owner's, those trained here, and the
        models on servers. Without a base here there are only these."""
        remote = tuple(Voice(one.id, one.name, f"on {one.server}", server=one.server) for one in self.settings.remotes)
        remote += self.stand_ins
        if not self.entry.source:
            return remote
        offered = [(adapter.title, str(adapter.source)) for adapter in self.entry.adapters]
        offered += [(Path(source).name, source) for source in self.settings.adapters]
        offered += self._trained(actor)
        here = f"{self.entry.title}, on this machine" if self.settings.remotes else ""
        voices = {BASELINE: Voice(BASELINE, "Baseline", here)}
        for title, source in offered:
            identity = _identity(source)
            notice = FETCHED_WHEN_CHOSEN if identity == source else self._notice(identity)
            voices.setdefault(identity, Voice(identity, title, notice, source))
        return (*voices.values(), *remote)

    def local_voices(self, actor: Actor) -> tuple[Voice, ...]:
        """Those whose weights are here: what can be read, evaluated and trained."""
        return tuple(voice for voice in self.voices(actor) if not voice.server)

    def first_two(self, actor: Actor) -> tuple[str, str]:
        """The voices with which the columns begin: those on servers come before the adapters of the base."""
        return self._first_two([voice.id for voice in self.local_voices(actor)])

    def _first_two(self, local: list[str]) -> tuple[str, str]:
        local = local if self.entry.source else []
        remote = [voice.id for voice in self.settings.remotes]
        wanted = remote[:2] if len(remote) > 1 else [*local[:1], *remote, *local[1:2]]
        return (*wanted, *wanted)[:2] if wanted else (BASELINE, BASELINE)

    def voice(self, actor: Actor, voice_id: str) -> Voice:
        """The voice of that id, its adapter fetched from the Hub when it is not here yet: it has its true id then.

        Raises `NotFound` when no such voice is offered, `ModelUnavailable` when it cannot be fetched.
        """
        for voice in self.voices(actor):
            if voice.server and voice_id != voice.id:
                continue
            if voice_id == voice.id == voice.source != BASELINE:
                adapter_folder(voice.source)
                return replace(voice, id=_identity(voice.source), notice="")
            if voice_id in (voice.id, voice.source):
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


def _identity(source: str) -> str:
    """The identity that attaching `source` will give it: one of the Hub is named by its id, and by that alone until it
    is here. Asks no network, so that no page waits for it."""
    folder = local_adapter(source)
    if folder is None:
        return source
    return adapter_identity(folder, name=None if Path(source).expanduser().is_dir() else source)
