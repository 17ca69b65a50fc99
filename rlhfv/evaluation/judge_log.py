"""What a judge was asked and what came back: one file that is only added to, a line an event, synced to the disk.

    {"event": "judge", …, "model", "prompt"}                  before the first request of that judge in those words
    {"event": "copied", … as a reply, "from"}                 it came to the same request for another set, named here
    {"event": "asked", "request", "item", "time"}             written before each request is sent
    {"event": "reply", …, "server", "model", "finish_reason", "text", "left_out"}   it came, raw, whole or not
    {"event": "refused", …, "status", "words"}                the server took the request and gave none
    {"event": "unreached", …, "words"}                        the request never got there
    {"event": "lost", …, "words", "text"}                     the connection or the clock broke off what had begun

`request` is the hash of model, messages and settings. `prompt` is the sha256 of the file whose words were used, of
which a copy lies beside this one, "" for the studio's own: with it can be told again what was asked. A request that
was asked without any of the last four after it was under way when the process ended: whether the server finished it,
and charged for it, cannot be known here.
"""

import fcntl
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from rlhfv.errors import InvalidData
from rlhfv.evaluation.files import sha256_of


@dataclass(frozen=True)
class AskedJudge:
    """Who was asked, by the name that it was asked for, and the sha256 of the prompt's file, "" for the studio's own
    words."""

    model: str
    prompt: str = ""


@dataclass(frozen=True)
class Reply:
    """A reply as it came. `server` is the host that was asked, `model` what it called itself, "" where it did not;
    `left_out` are settings that it does not take.
    """

    request: str
    server: str
    model: str
    finish_reason: str
    text: str
    left_out: tuple[str, ...] = ()


@dataclass
class Kept:
    """What a file holds. `judges` were asked, the first one first; `replies` are those of each request, oldest first;
    `events` how often each event stands there; `unknown` requests, with repeats, ended in neither a reply nor a
    reason; `words` say why a request got no reply; `torn` lines cannot be read.
    """

    judges: list[AskedJudge] = field(default_factory=list)
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    events: Counter = field(default_factory=Counter)
    lost: Counter = field(default_factory=Counter)
    unknown: Counter = field(default_factory=Counter)
    words: dict[str, str] = field(default_factory=dict)
    torn: int = 0

    def perhaps_paid(self, requests: Sequence[str]) -> int:
        """How often one of these was asked without a reply that got here, though the server may have made one."""
        return sum(self.lost[request] + self.unknown[request] for request in set(requests))


def read_log(path: Path) -> Kept:
    """What the file at `path` holds; nothing where there is none. Lines that were torn by a crash are passed over."""
    kept, open_requests = Kept(), Counter()
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return kept
    except OSError as error:
        raise InvalidData(
            f"The judge's replies in {path.name} cannot be read.", f"{error.strerror}.", "Mend the file's rights."
        ) from error
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            event, request = row["event"], row["request"]
            if event == "judge":
                kept.judges.append(AskedJudge(str(row["model"]), str(row["prompt"])))
                continue
            _require_texts(event, request)
            if event in ("reply", "copied"):
                fields = tuple(row[name] for name in ("server", "model", "finish_reason", "text"))
                reply = Reply(request, *fields, tuple(row.get("left_out", ())))
                _require_texts(*fields, *reply.left_out)
        except (ValueError, KeyError, TypeError):
            kept.torn += 1
            continue
        kept.events[event] += 1
        if event == "copied":  # it says nothing of what was asked here
            kept.replies.setdefault(request, []).append(reply)
            continue
        if event == "asked":
            kept.unknown[request] += open_requests[request]
            open_requests[request] = 1
            continue
        open_requests[request] = 0
        kept.words[request] = str(row.get("words", ""))
        if event == "reply":
            kept.replies.setdefault(request, []).append(reply)
        elif event == "lost":
            kept.lost[request] += 1
    kept.unknown += open_requests
    return kept


def _require_texts(*values) -> None:
    if not all(isinstance(value, str) for value in values):
        raise TypeError("a field that is no text")


def judged_together(judge: Callable, logs: Sequence[Path]) -> Callable:
    """What makes a judge for answers that are judged together: what it said in one of these logs counts in all."""
    return lambda log: replace(judge(log), beside=tuple(other for other in logs if other != log))


def kept_prompt(log: Path, prompt: str) -> Path:
    """Where a copy of the prompt's file with that sha256 lies."""
    return log.with_name(f"judge-prompt-{prompt}.txt")


class JudgeLog:
    """The file open for adding. One process at a time asks and adds: two would pay twice for the same item.

    Raises InvalidData where another one has it open, its folder is gone, or it cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = open(path, "ab")  # noqa: SIM115 (closed by __exit__)
        except FileNotFoundError:  # never a folder anew: that of answers which were deleted would hold this file alone
            raise self._gone() from None
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise InvalidData(
                f"The judge is being asked for {path.parent.name}/{path.name} already.",
                "Two that ask at once would pay twice for the same item.",
                "Wait until the other is done; what it got is used here too.",
            ) from None
        if not os.fstat(self._file.fileno()).st_nlink:  # deleted between opening and locking it
            self._file.close()
            raise self._gone()

    def __enter__(self) -> "JudgeLog":
        try:
            if self._file.tell() and not _ends_with_newline(self.path):
                self._file.write(b"\n")  # the line before was torn by a crash
            self._sync()
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self._file.close()
            raise self._unwritable(error) from error
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def name_judge(self, model: str, prompt_file: Path | None) -> None:
        """Writes down who is asked from now on, and keeps the words of that file, unless they are known here."""
        judge = AskedJudge(model, sha256_of(prompt_file) if prompt_file else "")
        if judge in read_log(self.path).judges:
            return
        if prompt_file:
            try:
                kept_prompt(self.path, judge.prompt).write_bytes(prompt_file.read_bytes())
            except OSError as error:
                raise self._unwritable(error) from error
        self.add("judge", "", "", model=judge.model, prompt=judge.prompt)

    def copy(self, reply: Reply, item: str, source: str) -> None:
        """Keeps a reply here too that came to the same request for the answers `source`."""
        fields = {"server": reply.server, "model": reply.model, "finish_reason": reply.finish_reason}
        fields |= {"left_out": list(reply.left_out), "text": reply.text, "from": source}
        self.add("copied", reply.request, item, **fields)

    def add(self, event: str, request: str, item: str, **fields) -> None:
        """Adds a line; it is on the disk when this returns."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        row = {"event": event, "request": request, "item": item, "time": when, **fields}
        try:
            self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            self._sync()
        except OSError as error:
            raise self._unwritable(error) from error

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _gone(self) -> InvalidData:
        return InvalidData(
            f"The answers {self.path.parent.name!r} are gone.",
            "They were deleted, and what a judge says of them would be lost.",
            "Choose other answers, or make these again.",
        )

    def _unwritable(self, error: OSError) -> InvalidData:
        return InvalidData(
            f"The judge's replies cannot be kept in {self.path.name}.",
            f"{error.strerror or error}.",
            "Free some space or mend the folder's rights; nothing is asked that cannot be kept.",
        )


@contextmanager
def unasked(path: Path) -> Iterator[None]:
    """For whoever deletes the file at `path` and what lies beside it: meanwhile no judge is asked for it.

    Raises InvalidData where one is being asked.
    """
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidData(
                f"A judge is being asked about the answers {path.parent.name!r}.",
                "What it replies, and was paid for, would be lost.",
                "Wait until it is done, or stop it.",
            ) from None
        yield


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
