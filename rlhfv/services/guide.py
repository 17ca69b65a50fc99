"""The guided first run: ask about a drawn scene, correct what is wrong in the answer, train on it and ask again.

Every step is taken by the visitor, in the places where it is always taken; the guide reads from the store what has
truly happened. It is there where the model's world is known, because only then is it known what is wrong.
"""

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from rlhfv.corrections.conversation import ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import CorrectedAnswer, normalise_generated
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import PreferencePair, Provenance
from rlhfv.corrections.store import Store
from rlhfv.ddpo.config import RECIPES
from rlhfv.errors import InvalidData, NotFound, StudioError
from rlhfv.runs.local import Run
from rlhfv.services.actor import Actor
from rlhfv.services.bases import identify
from rlhfv.services.chat import Chat
from rlhfv.services.chat_state import SIDES, ChatState
from rlhfv.services.model_host import ModelHost
from rlhfv.services.recorded import RecordedComparisons
from rlhfv.services.terms import now
from rlhfv.services.training import ORACLE, SCENES_AT_ONCE, Training
from rlhfv.settings import Settings

ORACLE_PAIRS = 200
"""What the recipe needs to change the demo model; one correction alone changes nothing that can be seen."""
NEEDS = frozenset({"chat", "correct", "train"})
OVER = ("done", "failed", "stopped")


@dataclass(frozen=True)
class Guided:
    """How far a visitor is. `stage`: "offer", "ask", "correct", "train", "training", "again" or "done"; `note` is why
    it did not go on where one might expect it. `answer` is the one to correct, and `wrong` what it says that is not
    so; `before` and `after` are the false claims of the corrected answer and of what their own model says to the same
    question; `said` is that text. `closed` by the visitor.
    """

    stage: str
    note: str = ""
    answer: str = ""
    side: str = ""
    wrong: tuple[str, ...] = ()
    run: Run | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    said: str = ""
    closed: bool = False


class Guide:
    def __init__(
        self,
        settings: Settings,
        store: Store,
        shelf: ImageShelf,
        host: ModelHost,
        chat: Chat,
        training: Training,
        recorded: RecordedComparisons,
    ):
        self.settings, self.store, self.shelf, self.host = settings, store, shelf, host
        self.chat, self.training, self.recorded = chat, training, recorded
        self._making = threading.Lock()

    def look(self, actor: Actor) -> Guided | None:
        """How far the visitor truly is; None where there is no guide: another model than that of drawn scenes, a
        team, or somebody who may not correct or train."""
        actor.require("chat")
        if self.host.world is None or self.settings.team or not actor.rights >= NEEDS:
            return None
        memory = self._recall(actor)
        return replace(self._find_stage(actor, memory), closed=bool(memory.get("closed")))

    def begin(self, actor: Actor) -> str:
        """Puts a scene into the chat that the model is known to describe wrongly; returns the question to ask."""
        self._require(actor)
        world, base = self.host.require_world(), self.host.world_base
        question = self.recorded.put_scene_into_chat(actor, world.first_scene, world.description_question)
        if base is not self.host.first:  # nobody knows how another model describes that scene
            voices = [voice.id for voice in self.host.voices(actor) if voice.base == base.key]
            self.chat.choose(actor, *(voices * 2)[:2], Sampling())
        self._keep(actor, {"begun": now()})
        return question

    def train(self, actor: Actor, stop: threading.Event | None = None) -> Iterator[tuple[int, int]]:
        """Queues a run on the visitor's correction and pairs of the oracle; yields how many of these are there of how
        many. Ends without a run when it is stopped.

        Raises `InvalidData` without a correction, and as `Training.start_with`.
        """
        self._require(actor)
        self.look(actor)  # notes the correction that was made
        memory = self._recall(actor)
        own = self._pair(memory)
        if own is None:
            raise InvalidData("There is no correction yet.", "It is what is trained on.", "Correct an answer first.")
        folder = self._oracle_folder()
        with self._making:  # the second visitor takes what was made for the first
            for made in self._make_pairs(folder):
                yield made, ORACLE_PAIRS
                if stop is not None and stop.is_set():
                    return
        pairs = [PreferencePair.from_row(json.loads(line)) for line in _lines(folder)]

        def picture(name: str) -> Path:
            path = folder / "images" / name
            return path if path.is_file() else self.shelf.path(name)

        title = f"First run: 1 correction of mine, {len(pairs)} by the oracle"
        base = self.host.world_base
        run = self.training.start_with(actor, [own, *pairs], RECIPES["demo"], picture, title, base=base)
        self._keep(actor, {**memory, "run": run})

    def ask_again(self, actor: Actor) -> str:
        """The baseline and the visitor's own adapter, and the corrected answer's picture in a new conversation;
        returns its question."""
        self._require(actor)
        memory = self._recall(actor)
        pair = self._pair(memory)
        if pair is None or not memory.get("run"):
            raise InvalidData("Nothing was trained yet.", "It is asked what it has learnt.", "Train first.")
        voice = self.training.voice_of(actor, memory["run"])
        question = self.recorded.put_scene_into_chat(actor, pair.provenance.source, pair.prompt.question)
        self.chat.choose(actor, self.host.world_base.key, voice, Sampling())
        return question

    def set_closed(self, actor: Actor, closed: bool) -> None:
        self._require(actor)
        self._keep(actor, {**self._recall(actor), "closed": closed})

    def begin_anew(self, actor: Actor) -> str:
        """From the first step again; what was made stays where it is."""
        self._require(actor)
        self._keep(actor, {})
        return self.begin(actor)

    # ---- what happened

    def _find_stage(self, actor: Actor, memory: dict) -> Guided:
        if not memory.get("begun"):
            return Guided("offer")
        if memory.get("run"):
            try:
                return self._after_training(actor, memory, self.training.run(actor, memory["run"]))
            except NotFound:  # deleted
                self._keep(actor, memory := {**memory, "run": ""})
        if (pair := self._pair(memory)) is not None:
            return Guided("train", before=self._wrong(pair, pair.rejected))
        return self._in_chat(actor, memory, self.chat.open(actor))

    def _in_chat(self, actor: Actor, memory: dict, state: ChatState) -> Guided:
        """The newest answer about a drawn scene, and what became of it."""
        world, note = self.host.require_world(), ""
        for turn in reversed(state.turns):
            pictures = [name for each in state.turns[: state.turns.index(turn) + 1] for name in each.images]
            source = self.store.image_source(pictures[-1]) if pictures else ""
            if not source:
                note = note or "That picture is no drawn scene, so nobody knows here what is wrong in the answer."
                continue
            for side in SIDES:
                reply = getattr(turn, side)
                pair = self.store.pair_of_answer(reply.answer_id) if reply.answer_id else None
                if pair is None:
                    continue
                if len(self._wrong(pair, pair.chosen)) < len(self._wrong(pair, pair.rejected)):
                    self._keep(actor, {**memory, "pair": pair.id})
                    return Guided("train", before=self._wrong(pair, pair.rejected))
                note = "What you changed was right before. Take a word that is not so."
            for side in SIDES:
                reply = getattr(turn, side)
                wrong = false_claims(world, source, turn.question, reply.text) if reply.answer_id else ()
                if wrong:
                    return Guided("correct", note, reply.answer_id, side, wrong)
            note = note or "Nothing in these answers is wrong. Ask about another scene."
        return Guided("ask", note)

    def _after_training(self, actor: Actor, memory: dict, run: Run) -> Guided:
        pair = self._pair(memory)
        before = self._wrong(pair, pair.rejected) if pair else ()
        if run.state not in OVER:
            return Guided("training", run=run, before=before)
        if run.state != "done" or pair is None:
            return Guided("train", note=run.error or "The run was stopped before it ended.", before=before)
        try:
            voice = self.training.voice_of(actor, run.id)
        except StudioError as error:
            return Guided("train", note=f"{error.what} {error.why}", before=before)
        for turn in reversed(self.chat.open(actor).turns):
            for side in SIDES:
                reply = getattr(turn, side)
                # half an answer, or none, is not yet true
                whole = reply.answer_id and reply.finished and reply.text.strip()
                if not whole or turn.question != pair.prompt.question:
                    continue
                try:
                    answer = self.store.answer(reply.answer_id)
                except NotFound:  # its time was over
                    continue
                if answer.model.adapter == voice and answer.prompt.all_images == pair.prompt.all_images:
                    said = self._wrong(pair, reply.text)
                    return Guided("done", run=run, before=before, after=said, said=reply.text)
        return Guided("again", run=run, before=before)

    def _wrong(self, pair: PreferencePair, text: str) -> tuple[str, ...]:
        return false_claims(self.host.require_world(), pair.provenance.source, pair.prompt.question, text)

    def _pair(self, memory: dict) -> PreferencePair | None:
        try:
            return self.store.pair(memory["pair"]) if memory.get("pair") else None
        except NotFound:  # deleted or erased
            return None

    # ---- what it remembers of a visitor: names of things, none of their texts

    def _require(self, actor: Actor) -> None:
        for right in sorted(NEEDS):
            actor.require(right)
        self.host.require_world()

    def _recall(self, actor: Actor) -> dict:
        known = self.store.recall(_key(actor))
        return known if isinstance(known, dict) else {}

    def _keep(self, actor: Actor, memory: dict) -> None:
        self.store.remember(_key(actor), memory)

    # ---- the oracle's pairs: made once on a machine for all visitors, and no pair of the store

    @property
    def _identity(self) -> ModelIdentity:
        return identify(self.host.bases, self.host.world_base)

    def _oracle_folder(self) -> Path:
        mark = sha256(f"{self._identity} {ORACLE_PAIRS}".encode()).hexdigest()[:12]
        return self.settings.data_dir / "first_run" / mark

    def _make_pairs(self, folder: Path) -> Iterator[int]:
        """Answers of the base about scenes that are always the same, corrected by the oracle; yields how many there
        are. The folder is there when it is whole."""
        if folder.is_dir():
            yield ORACLE_PAIRS
            return
        world = self.host.require_world()
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
        try:
            (place / "images").mkdir()
            rows, first = [], 0
            yield 0
            while len(rows) < ORACLE_PAIRS:
                with self.host.bases.using(self.host.world_base) as model:
                    made = self._answer_scenes(model, world, range(first, first + SCENES_AT_ONCE), place / "images")
                    rows += [json.dumps(pair.to_row(), ensure_ascii=False) for pair in made]
                first += SCENES_AT_ONCE
                yield min(len(rows), ORACLE_PAIRS)
            text = "\n".join(rows[:ORACLE_PAIRS])
            (place / "pairs.jsonl").write_text(text + "\n", encoding="utf-8")
            place.rename(folder)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _answer_scenes(self, model, world, seeds: range, images: Path) -> Iterator[PreferencePair]:
        question, sampling, prompts, sources = world.description_question, Sampling(), [], []
        for seed in seeds:
            data, source = world.draw("pairs", seed)
            name = f"{sha256(data).hexdigest()}.png"
            (images / name).write_bytes(data)
            prompts.append(Prompt(question, (name,)))
            sources.append(source)
        texts = model.answer_many(prompts, None, sampling, images.joinpath, batch_size=len(prompts))
        for prompt, source, text in zip(prompts, sources, map(normalise_generated, texts), strict=True):
            edits = world.annotate(source, question, text)
            if edits:
                corrected = CorrectedAnswer(text, tuple(edits))
                yield PreferencePair(
                    id=sha256(f"{source}\n{text}".encode()).hexdigest()[:32],
                    prompt=prompt,
                    chosen=corrected.corrected,
                    rejected=text,
                    edits=corrected.edits,
                    outcome="corrected",
                    provenance=Provenance(
                        model=self._identity,
                        sampling=sampling,
                        row_layout=("baseline",),
                        created=now(),
                        annotator=ORACLE,
                        licence="CC0-1.0",
                        consent=True,
                        source=source,
                    ),
                )


def false_claims(world, source: str, question: str, text: str) -> tuple[str, ...]:
    """The words of the text that say what is not so, in their order, each once."""
    found = sorted((one for one in world.review(source, question, text) if not one.is_true), key=lambda one: one.start)
    return tuple(dict.fromkeys(text[one.start : one.end].strip() for one in found))


def _lines(folder: Path) -> list[str]:
    return (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()


def _key(actor: Actor) -> str:
    return f"guide of {actor.visitor}"
