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
from rlhfv.services.actor import Actor
from rlhfv.services.chat import check_sampling
from rlhfv.services.model_host import BASELINE, ModelHost
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
        model = self.host.model_for(actor, voice)
        while tasks := self.store.unanswered(batch_size, last):
            last = tasks[-1].id
            texts, failures = self._answer(model, tasks, voice, sampling, stop)
            if stop is not None and stop.is_set():
                return
            identity = replace(model.identity, adapter=voice or None)
            layout = (voice or BASELINE_ROW,) * len(tasks)
            written = [
                (task.id, self._to_answer(task, text, identity, sampling, layout, row))
                for row, (task, text) in enumerate(zip(tasks, texts, strict=True))
                if text is not None
            ]
            results = self.store.attach_answers(written)
            state = Written(
                done=state.done + len(tasks),
                total=max(total, state.done + len(tasks)),
                written=state.written + sum(result != "answered" for result in results.values()),
                failures=(*state.failures, *failures),
            )
            yield state

    def _answer(self, model, tasks: list[Task], voice: str, sampling: Sampling, stop) -> tuple[list, list[Failure]]:
        """The text of each task, None where it failed: then each was asked alone, to know which one it is."""

        def ask(some: list[Task], seed: int) -> list[str]:
            return model.answer_many(
                [task.prompt for task in some],
                voice or None,
                replace(sampling, seed=seed),
                self.shelf.path,
                len(some),
                stop=stop,
            )

        try:
            return ask(tasks, sampling.seed), []
        except StudioError as error:
            if len(tasks) == 1:
                return [None], [Failure(tasks[0].id, error)]
        texts, failures = [], []
        for place, task in enumerate(tasks):
            try:
                texts += ask([task], sampling.seed + place)
            except StudioError as error:
                texts.append(None)
                failures.append(Failure(task.id, error))
            if stop is not None and stop.is_set():
                break
        return texts, failures

    def _to_answer(self, task: Task, text: str, model, sampling: Sampling, layout: tuple, row: int) -> Answer:
        return Answer(
            id=uuid.uuid4().hex,
            prompt=task.prompt,
            text=normalise_generated(text),
            model=model,
            sampling=replace(sampling, seed=sampling.seed + row),
            visitor=EVERYBODY,
            created=now(),
            row_layout=layout,
            row=row,
        )
