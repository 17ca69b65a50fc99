"""Work that waits for people: prompts that need an answer first, and answers that need a judgement.

A task is one prompt. Its answer is written in advance or comes with it; then it belongs to everybody who annotates.
The same work never comes in twice: neither the same prompt, nor the same answer to it, whichever model gave it, nor an
answer that somebody corrected before.
"""

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rlhfv.corrections.answers import keep_answer
from rlhfv.corrections.conversation import Answer, Prompt, fingerprint
from rlhfv.corrections.database import Database, dump, storable
from rlhfv.corrections.edits import CorrectedAnswer, Edit, edits_from_rows, edits_to_rows, require_text
from rlhfv.corrections.images import IMAGE_NAME
from rlhfv.corrections.pairs import MAX_NOTE_CHARS, MAX_QUESTION_CHARS
from rlhfv.errors import InvalidData, NotFound

EVERYBODY = ""
"""The visitor of an answer of the queue."""
CHUNK = 500  # rows a transaction: nobody waits long for the lock


@dataclass(frozen=True)
class NewTask:
    """A prompt to be corrected, with the answer where there is one already, and its known corrections where it is a
    gold item (none: nothing is wrong). `source` says where the image is from, `batch` names the lot it came in, `row`
    is its number in the file it was read from.
    """

    prompt: Prompt
    source: str = ""
    batch: str = ""
    answer: Answer | None = None
    gold: tuple[Edit, ...] | None = None
    row: int = 0


@dataclass(frozen=True)
class Task:
    """A stored task. `due` is what it waits for: "answer", "first" (a judgement), "second" (another annotator's, for
    the share that gets one), or "" when nothing is left to do. Of a gold item nothing is ever due.
    """

    id: str
    prompt: Prompt
    source: str
    batch: str
    created: str
    answer_id: str
    gold: tuple[Edit, ...] | None
    due: str


@dataclass(frozen=True)
class Duplicate:
    """Work that was not taken in: its row, or else its place among the new tasks from 1, and the task that it is, or
    the pair that was made of it elsewhere.
    """

    row: int
    task_id: str = ""
    pair_id: str = ""


@dataclass(frozen=True)
class AddedTasks:
    ids: tuple[str, ...]
    duplicates: tuple[Duplicate, ...]


@dataclass(frozen=True)
class TaskCounts:
    """`total` tasks without gold items: `unanswered` wait for an answer, `first` for a judgement, `second` for another
    annotator's; the rest is done.
    """

    total: int
    unanswered: int
    first: int
    second: int
    gold: int

    @property
    def done(self) -> int:
        return self.total - self.unanswered - self.first - self.second


class TaskStore(Database):
    def add_tasks(self, tasks: Iterable[NewTask]) -> AddedTasks:
        """Takes in what is new and tells what is here already.

        Raises InvalidData or InvalidCorrection for a task that does not hold; whole chunks before it are kept.
        """
        ids, duplicates, chunk = [], [], []
        for number, task in enumerate(tasks, 1):
            validate_task(task)
            chunk.append((task.row or number, task))
            if len(chunk) == CHUNK:
                self._add_chunk(chunk, ids, duplicates)
                chunk = []
        self._add_chunk(chunk, ids, duplicates)
        return AddedTasks(tuple(ids), tuple(duplicates))

    def _add_chunk(self, chunk: list[tuple[int, NewTask]], ids: list[str], duplicates: list[Duplicate]) -> None:
        with self._transaction() as connection:
            for row, task in chunk:
                mark = fingerprint(task.prompt, task.answer.text if task.answer else None)
                known = connection.execute(
                    "SELECT id, '' FROM tasks WHERE fingerprint = ?1 OR work = ?1"
                    " UNION ALL SELECT '', id FROM pairs WHERE work = ?1 AND NOT deleted",
                    (mark,),
                ).fetchone()
                if known:
                    duplicates.append(Duplicate(row, *known))
                    continue
                ids.append(uuid.uuid4().hex)
                gold = None if task.gold is None else dump(edits_to_rows(task.answer.text, task.gold))
                document = {"prompt": task.prompt.to_dict(), "source": task.source, "batch": task.batch}
                created = datetime.now(UTC).isoformat(timespec="milliseconds")
                answer, work, due = None, None, "answer"
                if task.answer:
                    keep_answer(connection, replace(task.answer, visitor=EVERYBODY))
                    answer, work, due = task.answer.id, mark, None if gold else "first"
                connection.execute(
                    "INSERT INTO tasks (id, fingerprint, created, document, answer, work, gold, lot, due)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(ids[-1], mark, created, dump(document), answer, work, gold),
                        *(share_of("second", mark), due),
                    ),
                )

    def attach_answers(self, answers: Iterable[tuple[str, Answer]]) -> dict[str, str]:
        """Keeps answers that were written in advance, for the tasks with the given ids, in one transaction.

        Says of each task what came of it: "attached"; "answered", when it has an answer already, so that of several
        processes the first wins; "duplicate", when that answer to that prompt waits in another task, whose answer it
        then shares and where the work is done, or when it was corrected already, in the chat or in an import.

        Raises:
            NotFound: there is no such task.
            InvalidData: an answer is to another prompt.
        """
        results = {}
        with self._transaction() as connection:
            for id, answer in answers:
                results[id] = _attach(connection, id, replace(answer, visitor=EVERYBODY))
        return results

    def unanswered(self, limit: int = CHUNK, after: str = "") -> list[Task]:
        """The oldest tasks that wait for an answer, those behind the task `after`."""
        return self._tasks(
            "due = 'answer' AND seq > coalesce((SELECT seq FROM tasks WHERE id = ?), 0)", (storable(after),), 0, limit
        )

    def task(self, id: str) -> Task:
        """Raises NotFound for an id that was not given here."""
        return read_task(self._connection, id)

    def task_of_answer(self, answer_id: str) -> Task | None:
        """The task whose work this answer is, or None: then it is somebody's own."""
        found = self._tasks("answer = ? AND work IS NOT NULL", (storable(answer_id),), 0, 1)
        return found[0] if found else None

    def tasks(self, due: str | None = None, offset: int = 0, limit: int = 50, second_share: float = 1.0) -> list[Task]:
        """Oldest first; those that wait for `due`, as in `Task`. Gold items are not among them. Of the tasks that had
        one judgement, `second_share` wait for a second; the others are done.
        """
        wanted = "1" if due is None else f"{_DUE} IS :due"
        values = {"due": None if due is None else storable(due) or None, "share": second_share}
        rows = self._connection.execute(
            f"SELECT {_COLUMNS}, {_DUE} FROM tasks WHERE gold IS NULL AND {wanted} ORDER BY seq"
            " LIMIT :limit OFFSET :offset",
            values | {"limit": limit, "offset": max(offset, 0)},
        )
        return [_task_from_row(row) for row in rows]

    def gold_tasks(self) -> list[Task]:
        return self._tasks("gold IS NOT NULL", (), 0, -1)

    def count_tasks(self, second_share: float = 0.0) -> TaskCounts:
        """Of the tasks that had one judgement, `second_share` wait for a second."""
        total, gold = self._connection.execute("SELECT count(*), count(gold) FROM tasks").fetchone()
        due = dict(
            self._connection.execute(
                "SELECT due, count(*) FROM tasks WHERE due IS NOT NULL AND (due <> 'second' OR lot < ?) GROUP BY due",
                (second_share,),
            )
        )
        return TaskCounts(total - gold, due.get("answer", 0), due.get("first", 0), due.get("second", 0), gold)

    def _tasks(self, condition: str, values: tuple, offset: int, limit: int) -> list[Task]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS}, due FROM tasks WHERE {condition} ORDER BY seq LIMIT ? OFFSET ?",
            (*values, limit, max(offset, 0)),
        )
        return [_task_from_row(row) for row in rows]


def share_of(purpose: str, *names: str | int) -> float:
    """A number from 0 to 1 that looks drawn by lot and is always the same for the same names."""
    digest = hashlib.sha256(json.dumps([purpose, *names]).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def validate_task(task: NewTask) -> None:
    """Raises InvalidData or InvalidCorrection unless it can be stored, asked and judged."""
    require_text(task.prompt.question, "question", MAX_QUESTION_CHARS)
    for text in (task.source, task.batch):
        require_text(text, "note", MAX_NOTE_CHARS)
    if not task.prompt.question.strip():
        raise InvalidData("The question is empty.", "The model is asked it.", "Give a question with the image.")
    for name in task.prompt.all_images:
        if not IMAGE_NAME.fullmatch(name):
            raise InvalidData(
                f"The image is named {name!r:.80}.",
                "A stored image is named by the sha256 of its bytes.",
                "Take the images in first.",
            )
    if task.answer is None and task.gold is not None:
        raise InvalidData(
            "A gold item has no answer.", "Its known corrections are places in an answer.", "Give the answer with it."
        )
    if task.answer is not None:
        _require_same_prompt(task.prompt, task.answer)
        CorrectedAnswer(task.answer.text, task.gold or ()).validate()


def read_task(connection: sqlite3.Connection, id: str) -> Task:
    row = connection.execute(f"SELECT {_COLUMNS}, due FROM tasks WHERE id = ?", (storable(id),)).fetchone()
    if row is None:
        raise NotFound(
            f"There is no task with the id {id!r:.80}.",
            "Tasks are known by the id they get when they come in, and none was given that one.",
            "Choose a task from the list.",
        )
    return _task_from_row(row)


def _attach(connection: sqlite3.Connection, id: str, answer: Answer) -> str:
    task = read_task(connection, id)
    if task.answer_id:
        return "answered"
    _require_same_prompt(task.prompt, answer)
    work = fingerprint(task.prompt, answer.text)
    twin = connection.execute("SELECT answer FROM tasks WHERE work = ?", (work,)).fetchone()
    if twin:
        connection.execute("UPDATE tasks SET answer = ?, due = NULL WHERE id = ?", (twin[0], task.id))
        return "duplicate"
    keep_answer(connection, answer)
    query = "SELECT 1 FROM pairs WHERE work = ? AND NOT deleted"
    corrected = connection.execute(query, (work,)).fetchone() is not None
    due = None if corrected else "first"
    connection.execute("UPDATE tasks SET answer = ?, work = ?, due = ? WHERE id = ?", (answer.id, work, due, task.id))
    return "duplicate" if corrected else "attached"


def _require_same_prompt(prompt: Prompt, answer: Answer) -> None:
    if answer.prompt != prompt:
        raise InvalidData(
            f"The answer {answer.id} is to another prompt than the task's.",
            "Whoever corrects it sees the task's question and picture.",
            "Give the answer to this prompt.",
        )


_COLUMNS = "id, document, created, answer, gold"
_DUE = "iif(due = 'second' AND lot >= :share, NULL, due)"


def _task_from_row(row: tuple) -> Task:
    id, document, created, answer, gold, due = row
    document = json.loads(document)
    return Task(
        id=id,
        prompt=Prompt.from_dict(document["prompt"]),
        source=document["source"],
        batch=document["batch"],
        created=created,
        answer_id=answer or "",
        gold=None if gold is None else edits_from_rows(json.loads(gold)),
        due=due or "",
    )
