"""One run as a folder that anyone can read: on this machine, on eight GPUs or in a job (standard library only).

    config.json     what was asked for: {"v": 1, "kind", "title", "created", "base", "versions", "parent", and
                    "training" or "evaluation" with its settings}
    pairs.jsonl     the frozen pairs, one row a line, in the order in which they were given
    images/         their pictures
    adapters/       adapters that the run needs (an evaluation's voices), copied
    events.jsonl    what happened, appended by the process that does the work
    log.txt         its output as it came; it may name places of the machine and stays here when a run is given away
    checkpoints/    checkpoint-<step>/, newest last
    adapter/        what a training run made; after full tuning model/, a whole model
    results.json    what an evaluation found, or a training run's last figures
    answers.jsonl   the answers of an evaluation
    stop            while it is there, the worker is asked to keep a checkpoint and end

No other file holds a path of the machine or a token: the environment tells the process where a local base lives.
"""

import fcntl
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from rlhfv.errors import InvalidData, NotFound, RunFailed, StudioError

EVENT_KINDS = ("state", "step", "skip", "warn", "log", "error", "done")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_CONTENT_ADDRESS = re.compile(r"([0-9a-f]{64})\.[a-z]+")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")


class RunFolder:
    """The paths of one run and how its files are read and written. Making this object touches nothing."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.id = self.path.name
        self.config_file = self.path / "config.json"
        self.pairs_file = self.path / "pairs.jsonl"
        self.images = self.path / "images"
        self.adapters = self.path / "adapters"
        self.events_file = self.path / "events.jsonl"
        self.log_file = self.path / "log.txt"
        self.adapter = self.path / "adapter"
        self.model = self.path / "model"
        self.checkpoints = self.path / "checkpoints"
        self.stop_file = self.path / "stop"
        self.results_file = self.path / "results.json"
        self.answers_file = self.path / "answers.jsonl"

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def create(
        self,
        config: dict,
        rows: Iterable[dict],
        image_path: Callable[[str], Path],
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        """Freeze config, rows, their pictures and adapters. The folder appears whole and synced to disk or not at all.

        A picture that `image_path` cannot give is left out; the check before training names the rows that miss it.
        `adapters` maps a plain name to the folder copied to `adapters/<name>`.

        Raises:
            InvalidData: a row that is no object, has no id of its own or a picture name that is no plain file name; a
                picture whose bytes are not those of its name; a config with a path or a token in it.
            RunFailed: the folder is already there.
        """
        check_name(self.id, "run id")
        if self.path.exists():
            raise RunFailed(f"The run {self.id!r} exists already.", "A run is frozen once.", "Choose another id.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".new-", dir=self.path.parent))
        try:
            new = RunFolder(building)
            _replace(new.config_file, _dump(_checked_config(config), indent=2))
            new.images.mkdir()
            with open(new.pairs_file, "x", encoding="utf-8") as file:
                for row in _checked_rows(rows):
                    file.write(_dump(row) + "\n")
                    for name in row_images(row):
                        _copy_image(name, image_path, new.images / name)
                _sync(file)
            for name, source in (adapters or {}).items():
                shutil.copytree(source, new.adapters / check_name(name, "adapter name"))
            for copy in [*new.images.iterdir(), *new.adapters.rglob("*")]:
                _sync_path(copy)
            for folder in (new.images, building):
                _sync_path(folder)
            os.chmod(building, 0o755)
            try:
                os.rename(building, self.path)
            except OSError as error:
                raise RunFailed(
                    f"The run {self.id!r} exists already.", "A run is frozen once.", "Choose another id."
                ) from error
            _sync_path(self.path.parent)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def read_config(self) -> dict:
        """The frozen config. Raises NotFound when this is no run folder, InvalidData when the file is damaged."""
        try:
            config = json.loads(self.config_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(
                f"There is no run {self.id!r}.", "Its folder has no config.json.", "Pick a run from the list of runs."
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._damaged("config.json", str(error)) from error
        if not isinstance(config, dict) or config.get("v") != 1:
            raise self._damaged("config.json", 'it has no "v": 1')
        if wrong := _wrong_field(config):
            raise self._damaged("config.json", f"its {wrong} is none")
        return config

    def read_rows(self) -> list[dict]:
        """The frozen rows, verified as `create` verifies them."""
        rows = []
        try:
            with open(self.pairs_file, "rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        try:
                            rows.append(json.loads(line.decode("utf-8")))
                        except ValueError as error:
                            raise self._damaged(f"pairs.jsonl, line {number}", str(error)) from error
        except FileNotFoundError:
            return []
        return list(_checked_rows(rows))

    def image_path(self, name: str) -> Path:
        """The path of a picture of this run; a `name` that would reach outside `images/` is refused."""
        return self.images / check_name(name, "picture name")

    def adapter_path(self, name: str) -> Path:
        """The folder of an adapter that was frozen into this run."""
        return self.adapters / check_name(name, "adapter name")

    def list_checkpoints(self) -> list[Path]:
        """The folders `checkpoint-<step>`, by step, newest last."""
        found = []
        if self.checkpoints.is_dir():
            for folder in self.checkpoints.iterdir():
                step = folder.name.removeprefix("checkpoint-")
                if step.isdigit() and folder.is_dir():
                    found.append((int(step), folder))
        return [folder for _, folder in sorted(found)]

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that was written to its end; its `trainer_state.json` is written last."""
        for folder in reversed(self.list_checkpoints()):
            try:
                state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(state, dict) and folder.name == f"checkpoint-{state.get('global_step')}":
                return folder
        return None

    def append_event(self, kind: str, **fields) -> None:
        """Append one event as one whole line in one write. Figures that are not finite are written as null."""
        if kind not in EVENT_KINDS:
            raise ValueError(f"{kind!r} is no kind of event; the kinds are {', '.join(EVENT_KINDS)}")
        line = _dump({"v": 1, "time": now(), "kind": kind, **fields}) + "\n"
        descriptor = os.open(self.events_file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if _ends_torn(descriptor):  # a killed writer's half line must not swallow this one
                line = "\n" + line
            os.write(descriptor, line.encode())
            if kind != "step":
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def append_error(self, error: BaseException) -> None:
        """Append the "error" event with which a run ends: a StudioError's three parts, else type and message."""
        if isinstance(error, StudioError):
            self.append_event("error", what=error.what, why=error.why, fix=error.fix)
        else:
            self.append_event(
                "error",
                what=f"{type(error).__name__}: {error}",
                why="The run met something it was not made for.",
                fix="Read the end of its log.",
            )

    def read_events(self, offset: int = 0) -> tuple[list[dict], int]:
        """The events after byte `offset` and the offset to go on from. A last line still being written waits there;
        a line torn by a kill is passed over."""
        try:
            with open(self.events_file, "rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], offset
        whole = data.rfind(b"\n") + 1
        events = []
        for line in data[:whole].splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "kind" in event:
                events.append(event)
        return events, offset + whole

    def claim(self) -> int:
        """Taken by the process that does the work, held until it ends however it ends: no two may work on one run.
        Returns the descriptor that holds the claim; closing it gives the claim back.

        Raises:
            RunFailed: another process works on this run.
        """
        descriptor = os.open(self.events_file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        for _ in range(20):  # a look of is_claimed may be in the way for a moment
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                time.sleep(0.05)
        os.close(descriptor)
        raise RunFailed(
            f"The run {self.id!r} is at work already.",
            "Another process has claimed its folder.",
            "Follow that one, or stop it first.",
        )

    def is_claimed(self) -> bool:
        """Whether a process works on this run now, whoever started it."""
        try:
            descriptor = os.open(self.events_file, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)

    def read_log(self, lines: int = 20) -> list[str]:
        """The last lines of log.txt, a redrawn progress bar as its last state only."""
        try:
            with open(self.log_file, "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 400 * lines))
                text = file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return []
        shown = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
        return [line for line in shown if line][-lines:]

    def write_results(self, results: dict) -> None:
        """Replace results.json in one step."""
        _replace(self.results_file, _dump(results, indent=2))

    def read_results(self) -> dict | None:
        """The results, or None while there are none."""
        try:
            results = json.loads(self.results_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._damaged("results.json", str(error)) from error
        if not isinstance(results, dict):
            raise self._damaged("results.json", "it is no object")
        return results

    def _damaged(self, file: str, reason: str) -> InvalidData:
        return InvalidData(
            f"{file} of the run {self.id!r} cannot be read.", f"It is damaged: {reason}.", "Start the run again."
        )


def now() -> str:
    """The time as stored everywhere in a run: ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def row_images(row: dict) -> list[str]:
    """The picture names of a row, those of earlier turns first, as the chat template places them."""
    earlier = [name for turn in row.get("history", ()) for name in turn.get("images", ())]
    return earlier + list(row.get("images", ()))


def check_name(name: str, what: str) -> str:
    """`name` if it is a plain file name (letters, digits, `.`, `_`, `-`; no folder, not hidden), else InvalidData."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        shown = repr(name) if len(repr(name)) < 80 else repr(name)[:77] + "…"
        raise InvalidData(
            f"The {what} {shown} is not a plain file name.",
            "Only letters, digits, '.', '_' and '-' are taken, so that nothing outside the run is reached.",
            f"Rename it and correct the {what}.",
        )
    return name


def _wrong_field(config: dict) -> str:
    """The first field of those that every reader takes as they are that is of another kind; "" where none is."""
    base = config.get("base", {"name": "", "revision": ""})
    texts = {name: config.get(name, "") for name in ("kind", "title", "created")}
    if isinstance(base, dict):
        texts |= {f"base's {name}": base.get(name) for name in ("name", "revision")}
    objects = {"base": base, **{name: config.get(name, {}) for name in ("training", "evaluation")}}
    wrong = [name for name, text in texts.items() if not isinstance(text, str)]
    return next(iter(wrong + [name for name, value in objects.items() if not isinstance(value, dict)]), "")


def _checked_rows(rows: Iterable[dict]) -> Iterator[dict]:
    seen = set()
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InvalidData(
                f"Row {number} is {type(row).__name__}, not an object.",
                "A pair has named fields.",
                "Export the pairs again.",
            )
        row_id = row.get("id")
        if not isinstance(row_id, str) or not row_id or row_id in seen:
            raise InvalidData(
                f"Row {number} has the id {row_id!r}.",
                "Each row needs a text as id that no other row of the run has.",
                "Give it an id of its own.",
            )
        seen.add(row_id)
        try:
            for name in row_images(row):
                check_name(name, "picture name")
        except InvalidData as error:
            raise InvalidData(f"Row {number} ({row_id}): {error.what}", error.why, error.fix) from error
        except (TypeError, AttributeError) as error:
            raise InvalidData(
                f"Row {number} ({row_id}) has a history or images of another shape.",
                "history is a list of {question, answer, images}, images a list of names.",
                "Export the pairs again.",
            ) from error
        yield row


def _checked_config(config: dict) -> dict:
    def walk(value, where: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{where}.{key}" if where else str(key))
        elif isinstance(value, (list, tuple)):
            for inner in value:
                walk(inner, where)
        elif isinstance(value, str) and (_TOKEN.search(value) or (os.path.isabs(value) and os.path.exists(value))):
            raise InvalidData(
                f"The field {where!r} of the run's config holds a path of this machine or a token.",
                "A run folder is made to be given away.",
                "Name the model by its identity and give path or token by the environment.",
            )

    walk(config, "")
    return {"v": 1, **config}


def _copy_image(name: str, image_path: Callable[[str], Path], target: Path) -> None:
    if target.exists():
        return
    try:
        data = Path(image_path(name)).read_bytes()
    except (StudioError, FileNotFoundError):
        return
    address = _CONTENT_ADDRESS.fullmatch(name)
    if address and sha256(data).hexdigest() != address[1]:
        raise InvalidData(
            f"The picture {name} was changed on disk.",
            "Its bytes are no longer those it is named after.",
            "Add the picture again, or leave out the pairs that use it.",
        )
    target.write_bytes(data)


def _finite(value):
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value


def _dump(value, indent: int | None = None) -> str:
    """JSON that reads well, in ASCII where a lone surrogate leaves no other way, null for what is not finite."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
        text.encode()
        return text
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, indent=indent)


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            _sync(file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_path(path.parent)


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
