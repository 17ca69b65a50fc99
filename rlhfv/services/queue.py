"""The shared queue: what comes in, who does what next, and how far the work is."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from rlhfv.corrections.agreement import Agreement, measure_agreement
from rlhfv.corrections.assignments import Elsewhere
from rlhfv.corrections.conversation import Answer, Turn
from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.store import Store
from rlhfv.corrections.task_files import read_tasks
from rlhfv.corrections.tasks import AddedTasks, Duplicate, NewTask, Task, TaskCounts
from rlhfv.corrections.uploads import lay_out
from rlhfv.errors import InvalidData
from rlhfv.services.actor import Actor, worker_id
from rlhfv.services.queue_settings import QueueSettings, read_queue_settings, write_queue_settings
from rlhfv.settings import Settings


@dataclass(frozen=True)
class Item:
    """What an annotator does next; the editor opens it by `answer_id`. `reason` is "returned" (with the reviewer's
    `comment` and the pair), "reserved", "second" or "open". In a `blind` item neither what somebody else made of the
    answer nor hints may be shown. `until` is the end of the reservation in seconds since 1970, 0 for a returned pair.
    """

    answer_id: str
    question: str
    images: tuple[str, ...]
    history: tuple[Turn, ...]
    original: str
    model: str
    reason: str
    blind: bool
    until: float
    task_id: str = ""
    pair_id: str = ""
    comment: str = ""
    reviewer: str = ""


@dataclass(frozen=True)
class Idle:
    """There is no next item: why, in a `sentence`, with its figures. `until` is when the last reservation of the
    others ends, in seconds since 1970.
    """

    sentence: str
    counts: TaskCounts
    waiting_review: int
    open_elsewhere: int
    until: float


@dataclass(frozen=True)
class Status:
    """How far the queue is: tasks, and pairs by state."""

    counts: TaskCounts
    pairs: dict[str, int]
    open_elsewhere: int
    settings: QueueSettings


@dataclass(frozen=True)
class Intake:
    """What came of a file or folder: the ids of new tasks, rows that were here already, rows that do not hold."""

    added: tuple[str, ...]
    duplicates: tuple[Duplicate, ...]
    problems: tuple[RowProblem, ...]


@dataclass(frozen=True)
class GoldScore:
    """How well one annotator did on gold items, against their known edits."""

    annotator: str
    agreement: Agreement


class Queue:
    def __init__(self, settings: Settings, store: Store, shelf: ImageShelf, clock: Callable[[], float] = time.time):
        self.studio, self.store, self.shelf, self.clock = settings, store, shelf, clock

    # ---- what is next

    def next_item(self, actor: Actor, after: str | None = None) -> Item | Idle:
        """What the actor does next, reserved for them, or a sentence that says why there is nothing.

        Own returned pairs come first, then what they have reserved, then second corrections, then open items; gold
        items are mixed in and look like the others. `after` is the id of the answer that they leave: younger ones come
        before it goes round, and it is given back unless there is a draft of it.
        """
        actor.require("annotate")
        settings, now, me = self._effective(), self.clock(), worker_id(self.studio, actor)
        until = now + 60 * settings.reserve_minutes
        work = self.store.next_work(me, now, until, after, settings.second_share, settings.gold_share)
        if work is None:
            return self._idle(me, now, settings)
        answer = self.store.answer(work.answer_id)
        returned = [review for review in self.store.reviews(work.pair_id) if review.action == "returned"]
        return Item(
            answer_id=answer.id,
            question=answer.prompt.question,
            images=answer.prompt.all_images,
            history=answer.prompt.history,
            original=answer.text,
            model=str(answer.model),
            reason=work.reason,
            blind=work.blind,
            until=work.until,
            task_id=work.task_id,
            pair_id=work.pair_id,
            comment=returned[-1].comment if returned else "",
            reviewer=returned[-1].name if returned else "",
        )

    def release(self, actor: Actor, answer_id: str) -> None:
        """Gives a reserved item back to the others; a draft of it stays."""
        actor.require("annotate")
        self.store.release(answer_id, worker_id(self.studio, actor))

    def reopen(self, actor: Actor, answer_id: str) -> None:
        """Takes back that the actor found nothing wrong in an answer, or skipped it; it is theirs to do again.

        Raises `NotFound` when they did neither.
        """
        actor.require("correct")
        until = self.clock() + 60 * self._effective().reserve_minutes
        self.store.reopen(answer_id, worker_id(self.studio, actor), until)

    def is_blind(self, actor: Actor, answer_id: str) -> bool:
        """Whether the actor must see neither hints about an answer nor what somebody else made of it."""
        actor.require("correct")
        return self.store.is_blind(answer_id, worker_id(self.studio, actor))

    # ---- how it works

    def settings(self, actor: Actor) -> QueueSettings:
        actor.require("annotate")
        return read_queue_settings(self.store)

    def change_settings(self, actor: Actor, **changes) -> QueueSettings:
        """Raises `InvalidData` for a name that is no setting and a value out of its bounds."""
        actor.require("manage")
        unknown = set(changes) - set(QueueSettings.__dataclass_fields__)
        if unknown:
            raise InvalidData(
                f"'{min(unknown)}' is no setting of the queue.",
                f"The settings are {', '.join(QueueSettings.__dataclass_fields__)}.",
                "Choose one of them.",
            )
        return write_queue_settings(self.store, replace(read_queue_settings(self.store), **changes))

    # ---- what comes in

    def add(self, actor: Actor, tasks: Iterable[NewTask]) -> AddedTasks:
        """Takes in what is new, and tells what is here already before any work is spent on it."""
        actor.require("manage")
        return self.store.add_tasks(tasks)

    def add_files(
        self,
        actor: Actor,
        path: Path,
        questions: tuple[str, ...] = (),
        batch: str = "",
        progress: Callable[[int], None] = lambda tasks: None,
    ) -> Intake:
        """Makes tasks of a folder of pictures (each with every question) or of a JSONL file, as `read_tasks` says.
        `progress` hears how many were read.
        """
        actor.require("manage")
        return self._take_in(read_tasks(path, self.shelf, questions, batch), progress)

    def add_uploads(
        self,
        actor: Actor,
        files: Sequence[Path],
        questions: tuple[str, ...] = (),
        batch: str = "",
        progress: Callable[[int], None] = lambda tasks: None,
    ) -> Intake:
        """`add_files` of what came through the page: pictures, a JSONL file with its pictures, or zip files."""
        actor.require("manage")
        with lay_out(files) as folder:
            return self._take_in(read_tasks(folder, self.shelf, questions, batch), progress)

    def add_dataset(
        self,
        actor: Actor,
        repo: str,
        questions: tuple[str, ...] = (),
        batch: str = "",
        limit: int | None = None,
        token: str | None = None,
        progress: Callable[[int], None] = lambda tasks: None,
    ) -> Intake:
        """Makes tasks of a dataset on the Hub, as `read_hub_tasks` says; without a token it is read as nobody."""
        from rlhfv.publishing.intake import read_hub_tasks

        actor.require("manage")
        return self._take_in(read_hub_tasks(repo, self.shelf, questions, batch, limit, token), progress)

    def attach(self, actor: Actor, answers: Iterable[tuple[str, Answer]]) -> dict[str, str]:
        """Keeps answers that were written in advance; of each task: "attached", "answered" or "duplicate"."""
        actor.require("manage")
        return self.store.attach_answers(answers)

    def unanswered(self, actor: Actor, limit: int = 100, after: str = "") -> list[Task]:
        """The oldest tasks that wait for a model's answer, those behind the task `after`."""
        actor.require("manage")
        return self.store.unanswered(limit, after)

    def tasks(self, actor: Actor, due: str | None = None, offset: int = 0, limit: int = 50) -> list[Task]:
        """Oldest first; those that wait for `due`: "answer", "first", "second", or "" for nothing. No gold items."""
        actor.require("review")
        return self.store.tasks(due, offset, limit, self._effective().second_share)

    def status(self, actor: Actor) -> Status:
        actor.require("annotate")
        settings, states = self._effective(), dict(self.store.count_states())
        counts = self._counts(settings)
        if "manage" in actor.rights:
            counts = replace(counts, gold=len(self.store.gold_tasks()))
        else:
            states.pop("gold", None)
        elsewhere = self.store.elsewhere(worker_id(self.studio, actor), self.clock())
        return Status(counts, states, elsewhere.count, settings)

    # ---- how well

    def agreement(self, actor: Actor, answer_id: str | None = None) -> Agreement:
        """Between the two people who judged the same answer without seeing each other's work: over all such answers,
        or of one.
        """
        actor.require("review")
        return measure_agreement((each.text, *each.edits) for each in self.store.double_work(answer_id))

    def gold_scores(self, actor: Actor) -> tuple[GoldScore, ...]:
        """The accuracy of each annotator on the gold items, by name. For the studio's owner only."""
        actor.require("manage")
        work: dict[str, list] = {}
        names: dict[str, str] = {}
        for each in self.store.gold_work():
            names[each.visitor] = each.annotator
            work.setdefault(each.visitor, []).append((each.text, each.edits, each.known))
        scores = [GoldScore(names[visitor], measure_agreement(items)) for visitor, items in work.items()]
        return tuple(sorted(scores, key=lambda score: score.annotator))

    # ---- inside

    def _take_in(self, found: Iterable[NewTask | RowProblem], progress: Callable[[int], None]) -> Intake:
        tasks: list[NewTask] = []
        problems: list[RowProblem] = []
        for number, each in enumerate(found, 1):
            (problems if isinstance(each, RowProblem) else tasks).append(each)
            progress(number)
        for task in tasks:
            if task.source:
                self.store.set_image_source(task.prompt.all_images[-1], task.source)
        added = self.store.add_tasks(tasks)
        return Intake(added.ids, added.duplicates, tuple(problems))

    def _effective(self) -> QueueSettings:
        """On a machine of one person there is nobody to give a second correction."""
        settings = read_queue_settings(self.store)
        return settings if self.studio.team else replace(settings, second_share=0.0)

    def _counts(self, settings: QueueSettings) -> TaskCounts:
        """Without the gold items, of which only the owner knows."""
        return replace(self.store.count_tasks(settings.second_share), gold=0)

    def _idle(self, me: str, now: float, settings: QueueSettings) -> Idle:
        counts, elsewhere = self._counts(settings), self.store.elsewhere(me, now)
        waiting = self.store.count_states().get("submitted", 0)
        sentence = idle_sentence(counts, waiting, elsewhere)
        return Idle(sentence, counts, waiting, elsewhere.count, elsewhere.until)


def idle_sentence(counts: TaskCounts, waiting_review: int, elsewhere: Elsewhere) -> str:
    """Why nothing is next, with figures. The time is the server's local time."""
    if counts.total == 0:
        return "There are no tasks yet."
    if counts.done < counts.total:
        parts = [f"{counts.done} of {counts.total} {'is' if counts.done == 1 else 'are'} done"]
    else:
        parts = ["the only task is done" if counts.total == 1 else f"all {counts.total} are done"]
    if waiting_review:
        parts.append(f"{_verb(waiting_review, 'waits', 'wait')} for a reviewer")
    if counts.unanswered:
        parts.append(f"{_verb(counts.unanswered, 'waits', 'wait')} for the model's answer")
    if elsewhere.count:
        until = datetime.fromtimestamp(elsewhere.until).strftime("%H:%M")
        parts.append(f"{_verb(elsewhere.count, 'is', 'are')} open at other annotators until {until}")
    if (others := counts.first + counts.second - elsewhere.count) > 0:
        parts.append(f"{_verb(others, 'needs', 'need')} another annotator than you")
    return "; ".join(parts)


def _verb(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
