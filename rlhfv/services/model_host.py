"""The bases of this studio and the voices that can speak with them."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.errors import InvalidData, ModelUnavailable, NotFound, RunFailed
from rlhfv.models.catalog import SHIPPED, Entry, World, adapter_folder, choose_device, find_entry, local_adapter
from rlhfv.models.identity import adapter_identity
from rlhfv.runs.local import LocalRuns
from rlhfv.services.actor import Actor
from rlhfv.services.bases import Base, Bases, identify
from rlhfv.services.pins import Pins
from rlhfv.settings import DEMO_MODEL, Settings, on_zero_gpu

if TYPE_CHECKING:
    from rlhfv.models.local import LocalModel
    from rlhfv.models.remote import RemoteModel

BASELINE = ""
BESIDE = "base:"
"""How the id of the baseline of a second base begins; its entry's id follows."""
FETCHED_WHEN_CHOSEN = "This adapter is fetched from the Hub when it is chosen."
IDLE_LOOK_SECONDS = 15.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Voice:
    """Something that can answer: the baseline (id ""), that of a second base (`base:…`), an adapter (its identity) or
    a model on a server (`model@server`). `notice` warns where one must, `source` is the adapter's folder or Hub id,
    `server` where a model is that is not here, `base` the key of the base that it speaks with."""

    id: str
    title: str
    notice: str = ""
    source: str = ""
    server: str = ""
    base: str = ""

    @property
    def adapter(self) -> str | None:
        """What a row of its base calls it: None for a baseline."""
        return None if self.id == self.base else self.id


class GaveRoom(ModelUnavailable):
    """The base is not loaded because a run has its memory."""


class ModelHost:
    """Loads the studio's bases on first use, and attaches adapters as columns ask for them.

    The first base is the one that the studio was started with; a second may stand beside it. What was trained here on
    a base is offered as soon as its run is done. Beside them, or in their place, are models on servers.
    """

    def __init__(self, settings: Settings, runs: LocalRuns):
        self.settings, self._runs = settings, runs
        self._pins = Pins(settings.data_dir / "models.json")
        self.bases = Bases(self._pins, self._check_room)
        self.first = self._open(find_entry(settings.model, settings.revision), BASELINE)
        self.bases.all.append(self.first)
        self.remotes: dict[str, RemoteModel] = {}
        if settings.remotes:
            from rlhfv.models.remote import open_remotes

            self.remotes = open_remotes(settings.remotes, settings.remote_at_once)
        beside = settings.beside or getattr(self.entry, "beside", "")
        if self.borrows_gpu:
            self.put_beside(DEMO_MODEL)  # for whoever has no GPU time left
        elif beside:
            self.put_beside(beside)
        self._gave_room = False
        self._ending = threading.Event()

    # ---- the bases

    @property
    def entry(self) -> Entry:
        """That of the first base."""
        return self.first.entry

    @property
    def others(self) -> list[Base]:
        """The bases that stand beside the first."""
        return [base for base in self.bases.all if base is not self.first]

    @property
    def second(self) -> Base | None:
        return next(iter(self.others), None)

    @property
    def loaded(self) -> bool:
        """Whether the first base is in memory."""
        return self.first.model is not None

    @property
    def several_pictures(self) -> bool:
        """Whether a conversation with the first base may hold more than one picture."""
        return self.first.several_pictures

    @property
    def held(self) -> int:
        """Bytes that the weights in memory take."""
        return sum(base.held for base in self.bases.all)

    @property
    def borrows_gpu(self) -> bool:
        """Whether the first base answers on a GPU that is lent by the call; the demo model does not need one."""
        return on_zero_gpu() and self.entry.id not in SHIPPED

    def put_beside(self, name: str, check: Callable[[Base], None] = lambda base: None) -> Base:
        """Puts a base beside the first, and with it the one that it is compared with where it has such; both in the
        place of others, whose answers are completed first; they stay where `check` raises. Nothing is loaded yet.
        Raises `ModelUnavailable` where it cannot stand there."""
        entry = find_entry(name)
        if not entry.source or entry.id == self.entry.id or not self.entry.source:
            raise ModelUnavailable(
                f"{entry.title} cannot stand beside the chat's model.",
                "Two different models are compared, and both have to be on this machine.",
                "Name another one.",
            )
        if self.borrows_gpu and entry.id not in SHIPPED:
            raise ModelUnavailable(
                f"{entry.title} cannot stand beside the chat's model on this Space.",
                "Its GPU is lent by the call, to one model that was put there before the page was served.",
                "Duplicate the Space with that model, or give it a GPU of its own.",
            )
        base = self._open(entry, f"{BESIDE}{entry.id}")
        check(base)
        self.take_away()
        self.bases.all.append(base)
        if entry.beside and (counterpart := find_entry(entry.beside)).id != self.entry.id:
            self.bases.all.append(self._open(counterpart, f"{BESIDE}{counterpart.id}"))
        return base

    def take_away(self) -> None:
        """Only the first base is left, once the answers of the others are complete."""
        for base in self.others:
            self.bases.remove(base)

    def base(self, key: str) -> Base:
        """The base of that key. Raises `NotFound` where it is no longer here."""
        for base in self.bases.all:
            if base.key == key:
                return base
        raise NotFound(
            "That model is not here any more.", "It was taken from beside the chat's model.", "Choose another one."
        )

    def base_of_identity(self, model: ModelIdentity) -> Base:
        """The base that gave an answer; the first for what another model said."""
        for base in self.bases.all:
            if model.name in (base.entry.id, base.entry.source):
                return base
        return self.first

    def hand_over(self) -> None:
        """On ZeroGPU: loads the base with all adapters that are named, in this thread, which must be the main one, and
        before the page is served. Elsewhere nothing. Raises `ModelUnavailable`."""
        if self.borrows_gpu and self.settings.base_weights == "4-bit":
            raise ModelUnavailable(
                f"{self.entry.title} was to be held in 4 bits on a Space whose GPU is lent by the call.",
                "It is put there from the processor's memory, where 4-bit layers do not work.",
                "Leave --base-weights out, or give the Space a GPU of its own.",
            )
        if self.borrows_gpu:
            from rlhfv.models.zero import ZeroModel

            adapters = [*(adapter.source for adapter in self.entry.adapters), *self.settings.adapters]
            self.first.model, self.first.stays = ZeroModel.load(self.entry, adapters), True
            self.bases.settle(self.first, self.first.model.identity)

    def require_own_machine(self, what: str, base: Base) -> None:
        """Raises `RunFailed` where the base has a GPU for seconds at a time only."""
        if self.borrows_gpu and base is self.first:
            raise RunFailed(
                f"{what} of '{self.entry.title}' cannot start on this Space.",
                "It borrows a GPU for seconds at a time, and its processor is too slow for that model.",
                "Start it as a Job, on your own account, or run the studio on a machine with a GPU.",
            )

    def warm(self) -> threading.Thread | None:
        """Loads the first base in the background, so that the page is there before the weights are; not where the
        columns begin with voices on servers: then it is loaded when somebody chooses it."""
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

    def model(self) -> "LocalModel":
        """The first base's model; loads it on first use. For whoever shares this process with nobody: others may take
        it out, see `using`. Raises `ModelUnavailable`; `GaveRoom` while a run has its place."""
        with self.bases.using(self.first) as model:
            return model

    @contextmanager
    def using(
        self, actor: Actor, *voices: str, given_up: Callable[[], bool] = lambda: False
    ) -> "Iterator[LocalModel | RemoteModel]":
        """The model with every adapter of `voices`, which are of one base, attached; it stays in memory as long as the
        context lasts, see `Bases.using`. A voice on a server is a model by itself."""
        if len(voices) == 1 and voices[0] in self.remotes:
            yield self.remotes[voices[0]]
            return
        wanted = [self.voice(actor, voice) for voice in voices]
        base = self.base(wanted[0].base) if wanted else self.first
        with self.bases.using(base, given_up) as model:
            with base.attaching:
                for voice in wanted:
                    if voice.adapter and voice.id not in model.adapters():
                        model.attach(voice.source)
            yield model

    def make_room(self) -> None:
        """Takes all bases out of memory while a run works that was given their room, and loads the first again
        afterwards. To be called whenever a run may have begun or ended."""
        if self._runs.find_alone() is not None:
            self.bases.unload_all()
            self._gave_room = True
        elif self._gave_room:
            self._gave_room = False
            self.warm()

    def unload_idle(self, minutes: float) -> bool:
        """Takes out what answered nobody for so many minutes; the next question loads it again. True if anything went.
        Answers under way, and whoever waits for one, keep their base."""
        gone = self.bases.unload_idle(60 * minutes)
        for base in gone:
            log.info("%s was taken out of memory: nobody asked it for %g minutes.", base.entry.title, minutes)
        return bool(gone)

    def watch_idle(self, look_seconds: float = IDLE_LOOK_SECONDS) -> threading.Thread | None:
        """Starts to take out what nobody uses, where the settings say so."""
        if not self.settings.unload_after:
            return None

        def watch() -> None:
            while not self._ending.wait(look_seconds):
                self.unload_idle(self.settings.unload_after)

        thread = threading.Thread(target=watch, name="idle models", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Ends the watch."""
        self._ending.set()

    @property
    def world_base(self) -> Base | None:
        """The first base with a world of drawn scenes, if any."""
        return next((base for base in self.bases.all if base.entry.world is not None), None)

    @property
    def world(self) -> World | None:
        return self.world_base.entry.world if self.world_base else None

    def require_world(self) -> World:
        if self.world is None:
            raise InvalidData(
                f"'{self.entry.title}' has no world of drawn scenes.",
                "Only a model whose pictures come with their truth can be checked by the oracle.",
                "Start the studio with the demo model for that.",
            )
        return self.world

    def base_config(self, base: Base | None = None) -> dict:
        """How a run's config names a base, the first by default: never by a path of this machine."""
        base = base or self.first
        identity = identify(self.bases, base)
        source = identity.base if base.path else base.entry.id
        return {"name": identity.name, "revision": identity.revision, "source": source}

    @property
    def identity(self) -> ModelIdentity:
        """The first base's identity; a Hub model has one once its files are here, so this may load it, once."""
        return identify(self.bases, self.first)

    def base_path(self, base: Base | None = None) -> Path | None:
        """Where the base, the first by default, lives when it is a local folder."""
        return (base or self.first).path

    # ---- the voices

    def voices(self, actor: Actor) -> tuple[Voice, ...]:
        """The baseline first, then the adapters that ship with the model, the owner's, those trained here, then all of
        a second base, and the models on servers. Without a base here there are only these."""
        remote = tuple(Voice(one.id, one.name, f"on {one.server}", server=one.server) for one in self.settings.remotes)
        voices: dict[str, Voice] = {}
        for base in self.bases.all:
            for voice in self._voices_of(base, actor) if base.entry.source else ():
                voices.setdefault(voice.id, voice)
        return (*voices.values(), *remote)

    def _voices_of(self, base: Base, actor: Actor) -> Iterator[Voice]:
        entry, is_first = base.entry, base is self.first
        offered = [(adapter.title, str(adapter.source)) for adapter in entry.adapters]
        offered += [(Path(source).name, source) for source in self.settings.adapters if is_first]
        offered += self._trained(base, actor)
        where = f"{entry.title}, on this machine" if self.settings.remotes else entry.title if self.second else ""
        if is_first:
            yield Voice(BASELINE, "Baseline", where)
        else:
            yield Voice(base.key, f"{entry.title}: baseline", self._other_notice(base), base=base.key)
        for title, source in offered:
            identity = _identity(source)
            notice = FETCHED_WHEN_CHOSEN if identity == source else self._notice(base, identity)
            if is_first:
                yield Voice(identity, title, notice, source)
            else:
                notice = notice or self._other_notice(base)
                yield Voice(identity, f"{entry.title}: {title}", notice, source, base=base.key)

    def _other_notice(self, base: Base) -> str:
        return f"Needs no GPU. {base.entry.notice}" if self.borrows_gpu else base.entry.notice

    @property
    def stand_ins(self) -> tuple[Voice, ...]:
        """Where a GPU is lent by the call: the baseline and the aligned voice that need none."""
        if not self.borrows_gpu:
            return ()
        return tuple(self._voices_of(self.second, Actor("")))[:2]

    def local_voices(self, actor: Actor) -> tuple[Voice, ...]:
        """Those whose weights are here: what can be read, evaluated and trained."""
        return tuple(voice for voice in self.voices(actor) if not voice.server)

    def world_adapters(self, actor: Actor) -> tuple[Voice, ...]:
        """The adapters of the base whose pictures come with their truth: what can be measured here."""
        base = self.world_base or self.first
        return tuple(voice for voice in self.local_voices(actor) if voice.base == base.key and voice.adapter)

    def first_two(self, actor: Actor) -> tuple[str, str]:
        """The voices with which the columns begin: those on servers, and a second base that was asked for, come before
        the adapters of the base."""
        return self._first_two([voice.id for voice in self.local_voices(actor) if voice.base == self.first.key])

    def _first_two(self, local: list[str]) -> tuple[str, str]:
        local = local if self.entry.source else []
        second = [self.second.key] if self.second is not None and not self.borrows_gpu else []
        remote = [voice.id for voice in self.settings.remotes]
        wanted = remote[:2] if len(remote) > 1 else [*local[:1], *remote, *second, *local[1:2]]
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

    def find_base(self, actor: Actor, voice_id: str) -> str:
        """The key of the base of a voice; the first one's for what is not offered any more. Fetches nothing."""
        return next((voice.base for voice in self.voices(actor) if voice_id in (voice.id, voice.source)), BASELINE)

    def _open(self, entry: Entry, key: str) -> Base:
        return Base(self._pins.pin(entry), key, self._load_options)

    def _load_options(self, entry: Entry) -> dict:
        """How a base is loaded; on ZeroGPU the second one stays on the processor."""
        if self.settings.base_weights != "4-bit" or entry.id in SHIPPED:
            return {}
        from rlhfv.models.quantised import four_bit_chat

        return four_bit_chat(entry, choose_device())

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

    def _trained(self, base: Base, actor: Actor) -> list[tuple[str, str]]:
        return [
            (run.title, str(self._runs.open(run.id).adapter))
            for run in self._runs.list()
            if run.state == "done"
            and run.has_adapter
            and _is_of(run.config["base"], base)
            and (self.settings.single_user or run.config.get("owner") == actor.public_id)
        ]

    def _notice(self, base: Base, identity: str) -> str:
        info = base.model.adapters().get(identity) if base.model is not None else None
        return "This adapter changes nothing." if info is not None and info.changes_nothing else ""

    # The first base's model, as those say it who put one in its place.
    @property
    def _model(self) -> "LocalModel | None":
        return self.first.model

    @_model.setter
    def _model(self, model) -> None:
        self.first.model = model


def _is_of(named: dict, base: Base) -> bool:
    """Whether a run's config names this base."""
    identity = base.identity
    if identity is None:
        # The commit is known once the files are here; attaching checks it before anything is said.
        return named["name"] == base.entry.source
    return (named["name"], named["revision"]) == (identity.name, identity.revision)


def _identity(source: str) -> str:
    """The identity that attaching `source` will give it: one of the Hub is named by its id, and by that alone until it
    is here. Asks no network, so that no page waits for it."""
    folder = local_adapter(source)
    if folder is None:
        return source
    return adapter_identity(folder, name=None if Path(source).expanduser().is_dir() else source)
