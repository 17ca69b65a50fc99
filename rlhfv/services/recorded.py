"""The comparisons that the page opens on: recorded beforehand, by this program, and shown as that."""

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import rlhfv
from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.corrections.edits import normalise_generated
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.recorded import FOLDER, Recorded, Saying, Source, find_recorded, read_recorded, write_recorded
from rlhfv.corrections.store import Store
from rlhfv.errors import GenerationFailed, NotFound, StudioError
from rlhfv.services.actor import Actor
from rlhfv.services.chat import Chat, check_sampling
from rlhfv.services.model_host import ModelHost
from rlhfv.services.speaking import speak
from rlhfv.settings import Settings

PACKAGE = Path(rlhfv.__file__).resolve().parent
BESIDE = PACKAGE.parent / FOLDER
"""Where `spaces/deploy.py` puts those of a Space."""
SHIPPED = PACKAGE / "models" / "demo" / "recorded"
DRAWN = Source("a scene drawn by this program", "Apache-2.0")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """A recorded comparison as the page shows it. `can_ask` says whether the model here was made for such pictures."""

    number: int
    recorded: Recorded
    can_ask: bool


class RecordedComparisons:
    def __init__(self, settings: Settings, store: Store, shelf: ImageShelf, host: ModelHost, chat: Chat):
        self.settings, self.store, self.shelf, self.host, self.chat = settings, store, shelf, host, chat

    def shown(self, actor: Actor) -> tuple[Shown, ...]:
        """All of them, the first first. Raises `InvalidData` for a folder that `--recorded` named and that holds
        none, or one that cannot be shown."""
        actor.require("chat")
        here = self.host.entry.world is None
        return tuple(
            Shown(number, recorded, here or bool(recorded.scene))
            for number, (_, recorded) in enumerate(self._recorded)
        )

    def picture_path(self, actor: Actor, name: str) -> Path | None:
        """The file of a recorded comparison's picture; None for any other name."""
        actor.require("chat")
        return next((folder / name for folder, recorded in self._recorded if recorded.picture == name), None)

    def put_into_chat(self, actor: Actor, number: int) -> str:
        """Begins a conversation about the picture of a recorded comparison; returns what was asked about it.

        Raises `NotFound` for a number that there is not.
        """
        actor.require("chat")
        if not 0 <= number < len(self._recorded):
            raise NotFound("There is no such recording.", "The page is older than the studio.", "Reload the page.")
        folder, recorded = self._recorded[number]
        return self._put(actor, (folder / recorded.picture).read_bytes(), recorded.scene, recorded.question)

    def put_scene_into_chat(self, actor: Actor, scene: str, question: str) -> str:
        """The same with a drawn scene. Raises `InvalidData` where the model has no world."""
        actor.require("chat")
        return self._put(actor, self.host.require_world().picture(scene), scene, question)

    def record(
        self,
        actor: Actor,
        folder: Path,
        picture: bytes,
        question: str,
        voices: tuple[str, str],
        source: Source = DRAWN,
        scene: str = "",
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        stop: threading.Event | None = None,
    ) -> Recorded:
        """Asks two voices and writes what they say into a new `folder`. Nothing of it goes into the store.

        Raises:
            Forbidden: the actor may not manage the studio.
            GenerationFailed: a voice did not answer, or its answer did not come to its end.
            InvalidData, InvalidImage: as `write_recorded`.
        """
        actor.require("manage")
        check_sampling(sampling)
        chosen = [self.host.voice(actor, voice) for voice in voices]
        image = self.shelf.intake(picture)
        prompt = Prompt(question, (image.name,))
        stream = speak(
            self.host,
            actor,
            [voice.id for voice in chosen],
            [prompt, prompt],
            sampling,
            self.shelf.path,
            stop or threading.Event(),
        )
        said = None
        while said is None:
            try:
                next(stream)
            except StopIteration as end:
                said = end.value
        for voice, outcome in zip(chosen, said, strict=True):
            if isinstance(outcome, StudioError):
                raise outcome
            if not outcome.finished:
                raise GenerationFailed(
                    f"The answer of {voice.title!r} did not come to its end.",
                    "It was stopped, or reached the token limit, and half an answer is no comparison.",
                    "Allow it more tokens with --max-new-tokens.",
                )
        left, right = (
            Saying(self._name(voice), str(outcome.model), normalise_generated(outcome.text).strip())
            for voice, outcome in zip(chosen, said, strict=True)
        )
        day = datetime.now(UTC).date().isoformat()
        written = Recorded(image.name, question, left, right, day, source, scene, sampling)
        return read_recorded(write_recorded(written, picture, folder))

    # ---- inside

    @cached_property
    def _recorded(self) -> tuple[tuple[Path, Recorded], ...]:
        if self.settings.recorded is not None:
            return tuple((folder, read_recorded(folder)) for folder in find_recorded(self.settings.recorded))
        if BESIDE.is_dir():
            try:
                return tuple((folder, read_recorded(folder)) for folder in find_recorded(BESIDE))
            except StudioError as error:  # a page that opens on something else is better than none
                log.warning("The recorded comparisons beside the program are not shown. %s", error)
        return tuple((folder, read_recorded(folder)) for folder in find_recorded(SHIPPED))

    def _put(self, actor: Actor, picture: bytes, scene: str, question: str) -> str:
        image = self.chat.add_image(actor, picture)
        if scene and self.host.world is not None:
            self.store.set_image_source(image.name, scene)
        self.chat.new_conversation(actor)
        self.chat.set_images(actor, (image.name,))
        return question

    def _name(self, voice) -> str:
        return (
            voice.title
            if voice.server or voice.base
            else f"{self.host.entry.title}: {voice.title[0].lower()}{voice.title[1:]}"
        )
