"""Answers written in advance: what the chosen voice says to every task that waits for it."""

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rlhfv.corrections.conversation import Answer, Sampling
from rlhfv.corrections.edits import normalise_generated
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.store import Store
from rlhfv.corrections.tasks import EVERYBODY, Task
from rlhfv.errors import InvalidData, StudioError
from rlhfv.models.generated import Generated
from rlhfv.services.actor import Actor
from rlhfv.services.chat import check_sampling
from rlhfv.services.model_host import BASELINE, ModelHost, Voice
from rlhfv.services.terms import now

BATCH = 16
BASELINE_ROW = "baseline"


@dataclass(frozen=True)
class Failure:
    """A task that the model could not answer; it goes on waiting."""

    task_id: str
    error: StudioError


@dataclass(frozen=True)
class Written:
    """How far a run over the waiting tasks is: `done` of `total` were dealt with, `written` answers are stored."""

    done: int
    total: int
    written: int
    failures: tuple[Failure, ...]


class Answering:
    def __init__(self, store: Store, shelf: ImageShelf, host: ModelHost):
        self.store, self.shelf, self.host = store, shelf, host

    def write(
        self,
        actor: Actor,
        voice: str = BASELINE,
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        batch_size: int = BATCH,
        stop: threading.Event | None = None,
    ) -> Iterator[Written]:
        """Answers the tasks that wait, oldest first; yields first and after every batch, whose answers are on the disk
        then. Stopped or killed, it goes on where it was when it is called again: a task has one answer, whoever writes
        it. A task that fails is told and left waiting; the others of its batch are answered.

        Raises:
            Forbidden: the actor may not manage the studio.
            InvalidData: a setting is out of its bounds.
            NotFound, ModelUnavailable: the voice is not offered, or the model does not load.
        """
        actor.require("manage")
        check_sampling(sampling)
        if batch_size < 1:
            raise InvalidData(
                f"The batch has {batch_size} tasks.", "One at least is answered at a time.", "Choose 1 or more."
            )
        total = self.store.count_tasks().unanswered
        state, last = Written(0, total, 0, ()), ""
        yield state
        if not total:
            return
        voice = self.host.voice(actor, voice or self.host.voices(actor)[0].id).id
        while tasks := self.store.unanswered(batch_size, last):
            last = tasks[-1].id
            # By batches: whoever chats with a base that takes turns with this one gets in between.
            with self.host.using(actor, voice) as model:
                outcomes = self._answer(model, tasks, self.host.voice(actor, voice), sampling, stop)
            if stop is not None and stop.is_set():
                return
            written = [
                (task.id, self._to_answer(task, outcome, sampling, number))
                for number, (task, outcome) in enumerate(zip(tasks, outcomes, strict=True))
                if not isinstance(outcome, StudioError)
            ]
            failures = [
                Failure(task.id, outcome)
                for task, outcome in zip(tasks, outcomes, strict=True)
                if isinstance(outcome, StudioError)
            ]
            results = self.store.attach_answers(written)
            state = Written(
                done=state.done + len(tasks),
                total=max(total, state.done + len(tasks)),
                written=state.written + sum(result != "answered" for result in results.values()),
                failures=(*state.failures, *failures),
            )
            yield state

    def _answer(self, model, tasks: list[Task], voice: Voice, sampling, stop) -> list[Generated | StudioError]:
        """What the voice says to each task, or why nothing. Where a batch fails here, each task is asked alone, to
        know which one it is; a server is asked for each by itself in any case.
        """
        prompts = [task.prompt for task in tasks]
        if voice.id in self.host.remotes:
            return model.answer_each(prompts, sampling, self.shelf.path, stop)
        identity = replace(model.identity, adapter=voice.adapter)
        layout = (voice.adapter or BASELINE_ROW,) * len(tasks)

        def ask(first: int, count: int) -> list[Generated]:
            texts = model.answer_many(
                prompts[first : first + count],
                voice.adapter,
                replace(sampling, seed=sampling.seed + first),
                self.shelf.path,
                count,
                stop=stop,
            )
            return [
                Generated(text, True, (), layout, row, model=identity) for row, text in enumerate(texts, start=first)
            ]

        try:
            return ask(0, len(tasks))
        except StudioError as error:
            if len(tasks) == 1:
                return [error]
        outcomes: list[Generated | StudioError] = []
        for place in range(len(tasks)):
            try:
                outcomes += ask(place, 1)
            except StudioError as error:
                outcomes.append(error)
            if stop is not None and stop.is_set():
                break
        return outcomes

    def _to_answer(self, task: Task, said: Generated, sampling: Sampling, number: int) -> Answer:
        return Answer(
            id=uuid.uuid4().hex,
            prompt=task.prompt,
            text=normalise_generated(said.text),
            model=said.model,
            sampling=replace(sampling, seed=sampling.seed + number),
            visitor=EVERYBODY,
            created=now(),
            row_layout=said.row_layout,
            row=said.row,
            finished=said.finished,
            extra=said.extra,
        )
