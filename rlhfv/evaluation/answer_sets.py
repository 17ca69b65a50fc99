"""Sets of answers on the disk: who said what to the questions of a benchmark.

<data folder>/evaluations/<id>/
  stamp.json      title, when, whose, how many answers there are to be, and the stamp
  answers.jsonl   {"id", "answer"} and what else is known, a line an answer; only added to
  judge.jsonl     what a judge was asked and what it said
  scores/         figures that were counted, by the hash of what they were counted from
"""

import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from rlhfv.errors import InvalidData, NotFound
from rlhfv.evaluation.judge_log import unasked
from rlhfv.evaluation.score import Measure, Score, from_row, to_row
from rlhfv.evaluation.stamp import Stamp

_log = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_GONE = ".gone-"
STAMP, ANSWERS, JUDGE, SCORES = "stamp.json", "answers.jsonl", "judge.jsonl", "scores"


@dataclass(frozen=True)
class AnswerSet:
    """A set of answers: `done` of `total` items have one. `voice` is the id of the studio's voice that gave them, ""
    for the baseline; `owner` is whose it is, "" on a machine of one person; `notes` say what its import told. One to
    `keep` does not go when visitors' imports do."""

    id: str
    title: str
    stamp: Stamp
    done: int
    total: int
    created: str
    voice: str = ""
    owner: str = ""
    notes: tuple[str, ...] = ()
    keep: bool = False


class AnswerFolder:
    """The folder of one set."""

    def __init__(self, path: Path):
        self.path = Path(path)

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def judge_log(self) -> Path:
        return self.path / JUDGE

    def begin(
        self,
        title: str,
        stamp: Stamp,
        total: int,
        voice: str = "",
        owner: str = "",
        notes: Sequence[str] = (),
        keep: bool = False,
    ) -> None:
        """Makes the folder with its stamp, unless it is there. `keep`: it does not go when its time is over."""
        if (self.path / STAMP).is_file():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        row = {
            "v": 1,
            "title": title,
            "created": datetime.now(UTC).isoformat(timespec="microseconds"),  # the newest of one second counts
            "total": total,
            "voice": voice,
            "owner": owner,
            "keep": keep,
            "notes": list(notes),
            "stamp": stamp.to_dict(),
        }
        _replace(self.path / STAMP, json.dumps(row, indent=1))

    def owner(self) -> str:
        """Whose it is by its stamp alone, "" too where that is damaged; no answer is read."""
        try:
            return str(json.loads((self.path / STAMP).read_bytes())["owner"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def read(self) -> AnswerSet:
        """The set, with the names that a server gave its model in the place of the one that was asked for.

        Raises:
            InvalidData: its stamp cannot be read.
        """
        try:
            row = json.loads((self.path / STAMP).read_bytes())
            stamp, facts = Stamp.from_dict(row["stamp"]), {name: row[name] for name in ("title", "created", "total")}
            rest = {"voice": row["voice"], "owner": row["owner"], "notes": tuple(row["notes"])}
            rest["keep"] = row.get("keep") is True
            texts = (row["title"], row["created"], row["voice"], row["owner"], *row["notes"])
            if not all(isinstance(text, str) for text in texts) or not isinstance(row["total"], int):
                raise TypeError("a field of another kind")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidData(
                f"The set of answers {self.id!r} cannot be read.",
                f"Its {STAMP} is damaged: {type(error).__name__}.",
                "Delete its folder and make or import the answers again.",
            ) from error
        done, served, left_out = self._told()
        if served:
            stamp = replace(stamp, model=replace(stamp.model, name=" and ".join(served)))
        if left_out:
            names = " and ".join(left_out).replace("_", "-")
            rest["notes"] += (f"The server did not take {names} and used its own: the answers may not be greedy.",)
        return AnswerSet(self.id, stamp=stamp, done=done, **facts, **rest)

    def _told(self) -> tuple[int, list[str], list[str]]:
        try:
            facts = (self.path / ANSWERS).stat()
        except FileNotFoundError:
            return 0, [], []
        return _tell(str(self.path), facts.st_mtime_ns, facts.st_size)

    def rows(self) -> dict[str, dict]:
        """Item id → its row, the last where there are several. Lines that a kill has torn are passed over."""
        rows = {}
        try:
            lines = (self.path / ANSWERS).read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        for line in lines:
            try:
                row = json.loads(line)
                if isinstance(row["id"], str) and isinstance(row["answer"], str):
                    rows[row["id"]] = row
            except (ValueError, KeyError, TypeError):
                continue
        return rows

    def answers(self) -> dict[str, str]:
        return {id: row["answer"] for id, row in self.rows().items()}

    def add(self, rows: Sequence[Mapping]) -> None:
        """Adds rows with `id` and `answer`; they are in the file when this returns. The newline before them closes a
        line that a kill may have torn."""
        if rows:
            text = "\n" + "\n".join(json.dumps(dict(row)) for row in rows) + "\n"
            with open(self.path / ANSWERS, "ab") as file:
                file.write(text.encode())

    @contextmanager
    def working(self) -> Iterator[None]:
        """For whoever adds answers: one process and one thread at a time; the system frees it when a process dies.

        Raises:
            InvalidData: another one is at it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InvalidData(
                    f"The answers {self.id!r} are being written already.",
                    "Two that write them would ask every question twice.",
                    "Wait until the other is done, or stop it; its answers are kept.",
                ) from None
            yield

    def delete(self) -> None:
        """All of it. It is out of the way in one step: a judge that starts meanwhile cannot make a part of it anew.
        What a crash left of an earlier deletion goes with it.

        Raises:
            InvalidData: answers are being added to it, or judged.
        """
        with self.working(), unasked(self.judge_log):
            os.replace(self.path, self.path.with_name(f"{_GONE}{uuid4().hex}"))
            _clear(self.path.parent)

    def state(self) -> tuple[int, ...]:
        """Changes when an answer comes or a judge says something, and when the set is deleted and made anew."""
        found = [path.stat() for path in (self.path / ANSWERS, self.judge_log) if path.is_file()]
        return tuple(fact for one in found for fact in (one.st_ino, one.st_mtime_ns, one.st_size))

    # ---- figures that were counted

    def keep_score(self, key: str, score: Score) -> None:
        try:
            (self.path / SCORES).mkdir(exist_ok=True)
            _replace(self.path / SCORES / f"{key}.json", json.dumps(to_row(score)))
        except FileNotFoundError:
            return  # the set was deleted while it was counted

    def kept_score(self, key: str, measures: tuple[Measure, ...]) -> Score | None:
        """The score that was counted from the same, None where there is none that can be read."""
        try:
            return from_row(json.loads((self.path / SCORES / f"{key}.json").read_bytes()), measures)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None


@lru_cache(maxsize=2000)
def _tell(path: str, changed: int, size: int) -> tuple[int, list[str], list[str]]:
    """Of the answers of a folder, as they are since `changed`: how many, the names that a server gave its model, and
    what it did not take."""
    rows = AnswerFolder(Path(path)).rows().values()
    served = {row["served"] for row in rows if isinstance(row.get("served"), str)} - {""}
    left_out = [row["left_out"] for row in rows if isinstance(row.get("left_out"), list)]
    return len(rows), sorted(served), sorted({name for names in left_out for name in names if isinstance(name, str)})


def open_set(root: Path, id: str) -> AnswerFolder:
    """The folder of the set `id` below `root`. Raises `NotFound` where there is none."""
    folder = AnswerFolder(Path(root) / id) if _ID.fullmatch(id) else None
    if folder is None or not (folder.path / STAMP).is_file():
        raise no_set(id)
    return folder


def no_set(id: str) -> NotFound:
    return NotFound(
        f"There is no set of answers {id!r:.80}.",
        "It was deleted, or the id is another.",
        "Choose from the list; in a terminal `benchmark sets` prints it.",
    )


def forget_imports(root: Path, before: float) -> int:
    """Deletes imported sets that belong to somebody, are not to be kept and came before that time (seconds since
    1970); how many."""
    gone = 0
    for folder in list_sets(root):
        try:
            one = folder.read() if folder.owner() else None
            if not one or one.keep or not one.stamp.imported:
                continue
            if datetime.fromisoformat(one.created).timestamp() < before:
                folder.delete()
                gone += 1
        except (InvalidData, ValueError):
            continue  # damaged, or it is being written or judged this moment
        except OSError as error:  # one that cannot be opened keeps no other here
            _log.warning("The answers %s could not be deleted: %s", folder.id, error)
    _clear(Path(root))
    return gone


def list_sets(root: Path) -> list[AnswerFolder]:
    """All sets below `root`, in the order of their ids."""
    return [AnswerFolder(file.parent) for file in sorted(Path(root).glob(f"[!.]*/{STAMP}"))]


def name_set(stamp: Stamp, *more: object) -> str:
    """The id of a set: the same stamp gives the same one, so that who asks again goes on where it was."""
    known = json.dumps([stamp.to_dict(), *more], sort_keys=True)
    return f"{stamp.benchmark}-{sha256(known.encode()).hexdigest()[:12]}"


def _clear(root: Path) -> None:
    """What is left of sets that were deleted."""
    for gone in root.glob(f"{_GONE}*"):
        shutil.rmtree(gone, ignore_errors=True)  # another one may be at it


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new-{os.getpid()}")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
