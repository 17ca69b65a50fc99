"""Chatting with two voices at once: one conversation a visitor, kept in the store, restored after a reload."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from rlhfv.corrections.conversation import Answer, Prompt, Sampling
from rlhfv.corrections.edits import normalise_generated
from rlhfv.corrections.images import ImageShelf, StoredImage
from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidData, NoGPU, StudioError
from rlhfv.services.actor import Actor
from rlhfv.services.bases import Base
from rlhfv.services.chat_state import SIDES, ChatState, ChatTurn, Reply, next_prompt, state_from_dict, with_replies
from rlhfv.services.consent import Consent
from rlhfv.services.judging import Judging
from rlhfv.services.limits import Limits
from rlhfv.services.line import Line
from rlhfv.services.locks import VisitorLocks
from rlhfv.services.model_host import ModelHost, Voice
from rlhfv.services.speaking import speak
from rlhfv.services.terms import now

MAX_QUESTION = 4000
MAX_TURNS = 50
MAX_PICTURES = 8
"""Pictures that come with one question."""


@dataclass(frozen=True)
class StudioInfo:
    """What the page needs to know about the model it talks to."""

    title: str
    notice: str
    licence: str
    voices: tuple[Voice, ...]
    questions: tuple[str, ...]
    examples: tuple[tuple[Path, str], ...]
    can_draw: bool
    several_pictures: bool


class Chat(Judging):
    def __init__(self, store: Store, shelf: ImageShelf, host: ModelHost, limits: Limits, consent: Consent):
        self.store, self.shelf, self.host = store, shelf, host
        self.limits, self.consent = limits, consent
        self.line, self._locks = Line(), VisitorLocks()

    # ---- what can be chosen

    def studio(self, actor: Actor) -> StudioInfo:
        actor.require("chat")
        entry, world = self.host.entry, self.host.entry.world
        return StudioInfo(
            title=entry.title,
            notice=entry.notice,
            licence=entry.licence,
            voices=self.host.voices(actor),
            questions=tuple(world.questions) if world else ("Describe this image in detail.",),
            examples=self._examples,
            can_draw=self.host.world is not None,
            several_pictures=self.host.several_pictures,
        )

    def add_image(self, actor: Actor, data: bytes) -> StoredImage:
        """Cleans and stores a picture; raises `InvalidImage`, `TooMany`."""
        actor.require("chat")
        self.limits.take(actor, "picture")
        return self.shelf.intake(data)

    def image_path(self, actor: Actor, name: str) -> Path:
        actor.require("chat")
        return self.shelf.path(name)

    def draw_scene(self, actor: Actor, split: str = "pairs", seed: int | None = None) -> StoredImage:
        """A fresh picture of the model's world, whose truth is known; raises `InvalidData` where there is no world."""
        actor.require("chat")
        world = self.host.require_world()
        self.limits.take(actor, "picture")
        data, source = world.draw(split, world.fresh_seed(split) if seed is None else seed)
        image = self.shelf.intake(data)
        self.store.set_image_source(image.name, source)
        return image

    # ---- the conversation

    def open(self, actor: Actor) -> ChatState:
        """The visitor's conversation, or a new one."""
        actor.require("chat")
        document = self.store.conversation(actor.visitor)
        if document is None:
            return self._fresh(actor)
        state = state_from_dict(document)
        # An adapter of the Hub was named by its source alone until it was fetched.
        voices = self.host.voices(actor)
        known = {voice.source: voice.id for voice in voices if voice.source} | {voice.id: voice.id for voice in voices}
        # A deleted adapter, or a server that is no longer named, must not leave a conversation that cannot be opened.
        left, right = (
            known[voice] if voice in known else self.host.first_two(actor)[0] for voice in (state.left, state.right)
        )
        turns = tuple(
            replace(turn, **{side: self._with_judgement(getattr(turn, side)) for side in SIDES})
            for turn in state.turns
        )
        return replace(state, left=left, right=right, turns=turns, streaming=False)

    def new_conversation(self, actor: Actor, keep_image: bool = False) -> ChatState:
        with self._locks.state(actor.visitor):
            state = self.open(actor)
            fresh = self._fresh_like(actor, state)
            if keep_image and state.shown_image:
                fresh = replace(fresh, pending_images=(state.shown_image,))
            return self._keep(actor, fresh)

    def set_images(self, actor: Actor, names: tuple[str, ...]) -> ChatState:
        """Pictures that join the conversation with the next question; earlier turns keep theirs. One that was asked
        about is in the conversation already. Raises `InvalidData` for more than `MAX_PICTURES`."""
        actor.require("chat")
        if len(names) > MAX_PICTURES:
            raise InvalidData(
                f"These are {len(names)} pictures.",
                f"At most {MAX_PICTURES} come with one question.",
                "Leave some out, or ask about them one after the other.",
            )
        for name in names:
            self.shelf.path(name)
        with self._locks.state(actor.visitor):
            state = self.open(actor)
            return self._keep(
                actor, replace(state, pending_images=tuple(name for name in names if name not in state.images))
            )

    def waits_for_loading(self, actor: Actor) -> bool:
        """Whether the next answer waits until a model on this machine is in memory."""
        return any(base.model is None for base in self._bases_of(actor, self.open(actor)))

    def loading_status(self, actor: Actor) -> str:
        """What is loaded or fetched at the moment, and that models take turns, in a sentence; "" for nothing."""
        actor.require("chat")
        return self.host.bases.status()

    def choose(self, actor: Actor, left: str, right: str, sampling: Sampling) -> ChatState:
        """Names the voice of each column and how they decode; raises `NotFound` for a voice that is not offered."""
        actor.require("chat")
        left, right = (self.host.voice(actor, voice).id for voice in (left, right))
        check_sampling(sampling)
        with self._locks.state(actor.visitor):
            return self._keep(actor, replace(self.open(actor), left=left, right=right, sampling=sampling))

    def swap(self, actor: Actor) -> ChatState:
        actor.require("chat")
        with self._locks.free_turn(actor.visitor) as free, self._locks.state(actor.visitor):
            if not free:
                raise InvalidData(
                    "The models are still answering.",
                    "The columns change places between turns.",
                    "Wait, or press stop.",
                )
            state = self.open(actor)
            turns = tuple(replace(turn, left=turn.right, right=turn.left) for turn in state.turns)
            return self._keep(actor, replace(state, left=state.right, right=state.left, turns=turns))

    def ask(
        self, actor: Actor, question: str, stop: threading.Event, anew: tuple[str, ...] | None = None
    ) -> Iterator[ChatState]:
        """Streams both answers to `question`; the last state carries their ids. A stopped answer is kept as it stands.
        With `anew` it begins a new conversation about those pictures.

        Raises `InvalidData` for an empty or over-long question or a missing picture, and `TooMany`, before anything
        changes or counts.
        """
        actor.require("chat")
        question = normalise_generated(question).strip()
        _check_question(question)
        with self._turn(actor):
            state = self.open(actor)
            if anew is not None:
                state = replace(self._fresh_like(actor, state), pending_images=anew)
            if len(state.turns) >= MAX_TURNS:
                raise InvalidData(
                    f"This conversation has {len(state.turns)} turns.",
                    f"One holds at most {MAX_TURNS}: the model's context is finite.",
                    "Start a new conversation; this one stays in the store.",
                )
            if not state.images and not state.pending_images:
                raise InvalidData(
                    "There is no picture yet.",
                    "The models answer about a picture.",
                    "Upload one, paste one, or choose an example.",
                )
            pictures = len(state.images) + len(state.pending_images)
            one = [base for base in self._bases_of(actor, state) if not base.several_pictures]
            if pictures > 1 and one:
                raise InvalidData(
                    f"This conversation would have {pictures} pictures.",
                    f"{one[0].entry.title} looks at one picture a conversation.",
                    "Begin a new conversation with the new picture, or leave it out.",
                )
            self.limits.take(actor, "answer")
            if anew is not None:
                with self._locks.state(actor.visitor):
                    self._keep(actor, state)
            yield from self._stream(actor, state, question, stop)

    def regenerate(self, actor: Actor, stop: threading.Event, question: str | None = None) -> Iterator[ChatState]:
        """Asks the last question again, or `question` in its place; the earlier answers stay in the store."""
        actor.require("chat")
        if question is not None:
            question = normalise_generated(question).strip()
            _check_question(question)
        with self._turn(actor):
            state = self.open(actor)
            if not state.turns:
                raise InvalidData("There is no question yet.", "Nothing was asked.", "Type a question first.")
            last = state.turns[-1]
            earlier = state.turns[:-1]
            before = replace(
                state,
                turns=earlier,
                images=tuple(name for turn in earlier for name in turn.images),
                pending_images=last.images or state.pending_images,
            )
            self.limits.take(actor, "answer")
            yield from self._stream(actor, before, question or last.question, stop)

    # ---- inside

    @cached_property
    def _examples(self) -> tuple[tuple[Path, str], ...]:
        """Pictures to begin with: where the model has a world, scenes drawn into the shelf, so that their truth is
        known like that of any other scene; else those of the catalogue.
        """
        entry = self.host.entry
        if entry.world is None:
            return tuple(entry.examples)
        drawn = []
        for source in entry.world.example_sources():
            image = self.shelf.intake(entry.world.picture(source))
            self.store.set_image_source(image.name, source)
            drawn.append((self.shelf.path(image.name), entry.world.truth(source).scene_type))
        return tuple(drawn)

    def _fresh(self, actor: Actor) -> ChatState:
        left, right = self.host.first_two(actor)
        known = self.host.entry.known
        return ChatState(uuid.uuid4().hex, left=left, right=right, sampling=known.decoding if known else Sampling())

    def _fresh_like(self, actor: Actor, state: ChatState) -> ChatState:
        """A new conversation with the voices and the decoding of another."""
        return replace(self._fresh(actor), left=state.left, right=state.right, sampling=state.sampling)

    def _bases_of(self, actor: Actor, state: ChatState) -> list[Base]:
        """The bases on this machine that answer in a conversation."""
        voices = {state.left, state.right} - self.host.remotes.keys()
        if not self.host.entry.source:
            return []
        return [self.host.base(key) for key in sorted({self.host.find_base(actor, voice) for voice in voices})]

    def _keep(self, actor: Actor, state: ChatState) -> ChatState:
        self.store.save_conversation(actor.visitor, asdict(state))
        return state

    @contextmanager
    def _turn(self, actor: Actor) -> Iterator[None]:
        """A turn of the actor's conversation, as soon as no other of it is answered."""
        with self.limits.hold(actor), self._locks.turn(actor.visitor):
            yield

    def _with_judgement(self, reply: Reply) -> Reply:
        if not reply.answer_id:
            return reply
        judgements = self.store.judgements(answer=reply.answer_id)
        return replace(reply, judged=judgements[0].outcome if judgements else "")

    def _stream(self, actor: Actor, state: ChatState, question: str, stop: threading.Event) -> Iterator[ChatState]:
        images = state.pending_images
        prompts = {side: next_prompt(state, side, question) for side in SIDES}
        voices = {side: self.host.voice(actor, getattr(state, side)) for side in SIDES}
        state = replace(state, **{side: voice.id for side, voice in voices.items()})
        blank = {side: Reply(voice_title=voices[side].title) for side in SIDES}
        asked = replace(
            state,
            turns=(*state.turns, ChatTurn(question, images, **blank)),
            images=state.images + images,
            pending_images=(),
            streaming=True,
        )
        with ExitStack() as leaving:
            if not self.host.borrows_gpu and {voice.id for voice in voices.values()} - self.host.remotes.keys():
                ticket = leaving.enter_context(self.line.join())
                for place in self.line.wait(ticket, stop):
                    yield replace(asked, place=place.number, wait_seconds=place.seconds)
            yield asked
            outcomes = yield from self._speak(actor, asked, prompts, voices, blank, stop)
        replies = {
            side: self._reply(actor, prompts[side], state.sampling, blank[side], outcome)
            for side, outcome in zip(SIDES, outcomes, strict=True)
        }
        yield self._end_turn(actor, with_replies(asked, replies))

    def _speak(self, actor: Actor, asked: ChatState, prompts, voices, blank, stop) -> Iterator[ChatState]:
        """Streams what both voices say; returns what became of each."""
        stream = speak(
            self.host,
            actor,
            [voices[side].id for side in SIDES],
            [prompts[side] for side in SIDES],
            asked.sampling,
            self.shelf.path,
            stop,
        )
        try:
            while True:
                try:
                    texts = next(stream)
                except StopIteration as end:
                    return end.value
                except NoGPU as error:
                    raise self._offer_stand_ins(actor, error) from error
                else:
                    yield with_replies(
                        asked, {side: replace(blank[side], text=text) for side, text in zip(SIDES, texts, strict=True)}
                    )
        finally:
            stream.close()

    def _offer_stand_ins(self, actor: Actor, error: NoGPU) -> NoGPU:
        """Puts the voices that need no GPU into the columns, and says so in place of what else could be done."""
        voices = [voice.id for voice in self.host.stand_ins]
        with self._locks.state(actor.visitor):
            self._keep(actor, replace(self.open(actor), left=voices[0], right=voices[-1]))
        return NoGPU(
            error.what,
            error.why,
            "Your next question is answered by the demo model, which needs no GPU and knows drawn scenes only, no "
            "photographs. Signing in to Hugging Face gives more GPU time; choose the other voices again to use it.",
        )

    def _reply(self, actor: Actor, prompt: Prompt, sampling: Sampling, blank: Reply, outcome) -> Reply:
        """A column's part of the turn, its answer stored, or why there is none."""
        if isinstance(outcome, StudioError):
            return replace(blank, problem=(outcome.what, outcome.why, outcome.fix))
        answer = Answer(
            id=uuid.uuid4().hex,
            prompt=prompt,
            text=normalise_generated(outcome.text),
            model=outcome.model,
            sampling=sampling,
            visitor=actor.visitor,
            created=now(),
            row_layout=tuple(outcome.row_layout),
            row=outcome.row,
            finished=outcome.finished,
            extra=outcome.extra,
        )
        self.store.add_answer(answer)
        return replace(blank, text=answer.text, answer_id=answer.id, finished=outcome.finished, note=outcome.note)

    def _end_turn(self, actor: Actor, ended: ChatState) -> ChatState:
        """Keeps a turn, and beside it what the visitor chose while it was answered: voices, a new picture, or another
        conversation, into which the turn does not go."""
        with self._locks.state(actor.visitor):
            chosen = self.open(actor)
            if chosen.conversation_id != ended.conversation_id:
                return chosen
            pending = tuple(name for name in chosen.pending_images if name not in ended.images)
            return self._keep(actor, replace(chosen, turns=ended.turns, images=ended.images, pending_images=pending))


def _check_question(question: str) -> None:
    if not question:
        raise InvalidData("The question is empty.", "The models need one.", "Type a question and send it again.")
    if len(question) > MAX_QUESTION:
        raise InvalidData(
            f"The question has {len(question):,} characters.",
            f"At most {MAX_QUESTION:,} fit.",
            "Shorten it; your text is still in the box.",
        )


def check_sampling(sampling: Sampling) -> None:
    bounds = (("temperature", 0, 2), ("top_p", 0.01, 1), ("max_new_tokens", 1, 2048), ("seed", 0, 2**31 - 1))
    for name, low, high in bounds:
        value = getattr(sampling, name)
        if not low <= value <= high:
            raise InvalidData(
                f"{name} is {value}.", f"It must lie between {low} and {high}.", "Choose a value between."
            )
