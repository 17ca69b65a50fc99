"""Experiments as cells: a plan with its estimate, and a loop that does what is not done yet.

    <work>/cells/<name>-<key>/   one cell; the key is a hash of its settings, so that a cell with other settings is
                                 another folder and a stale one is never taken for it. A cell that trains is a run
                                 folder (see rlhfv.run_folder) with adapter/ and answers.jsonl
    <work>/cells/…/done.json     {"v", "cell", "settings", "seconds", "finished"}, written last: the cell is done
    <work>/cells/…/score.json    what was counted in its answers (see `write_score`); cells that make pairs have none
    <work>/locks/                which cells are being worked on: several processes may share a work folder
    <work>/timing.json           what the estimate was made of (see `Timing`)

What a cell does is the business of the plan that made it: `run_cells` takes a function for it. Nothing here knows of a
model, a benchmark or a world.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rlhfv.errors import InvalidData, StudioError
from rlhfv.evaluation.score import Measure, Score, from_row, to_row
from rlhfv.run_folder import now

_LOOK_SECONDS = 2
_Kept = TypeVar("_Kept")


@dataclass(frozen=True)
class Cell:
    """One piece of work of a plan.

    Args:
        name: a plain file name, of its own within the plan.
        parts: the letters of the experiments that read it, such as ("a", "b").
        what: one line for people.
        settings: all that its result depends on, as JSON data; the keys of cells that it needs among them.
        arm, seed: cells of one arm differ in their seed only and are pooled; "" where nothing is measured.
        needs: names of the cells that have to be done before.
        work: how much of what it does, by unit, such as {"visits": 800, "answers": 500, "starts": 1}.
    """

    name: str
    parts: tuple[str, ...]
    what: str
    settings: dict
    arm: str = ""
    seed: int = 0
    needs: tuple[str, ...] = ()
    work: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        text = json.dumps(self.settings, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def folder(self, work: Path) -> Path:
        return Path(work) / "cells" / f"{self.name}-{self.key}"

    def is_done(self, work: Path) -> bool:
        return (self.folder(work) / "done.json").is_file()

    def seconds_taken(self, work: Path) -> float | None:
        """Seconds of all attempts at it, None while it is not done."""
        if not self.is_done(work):
            return None
        return read_kept(self.folder(work) / "done.json", lambda row: float(row["seconds"]))


@dataclass(frozen=True)
class Timing:
    """Seconds for one unit of work of each kind, measured on this machine: name → seconds."""

    seconds: Mapping[str, float]

    def of(self, cell: Cell) -> float:
        return sum(self.seconds.get(unit, 0.0) * amount for unit, amount in cell.work.items())

    def total(self, cells: Iterable[Cell]) -> float:
        return sum(map(self.of, cells))


def kept_timing(work: Path, about: dict, measure: Callable[[], dict[str, float]]) -> Timing:
    """The timing that was taken in this work folder for `about` (machine, base, versions), or `measure()` now."""
    file = Path(work) / "timing.json"
    if file.is_file():
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept["about"] == about:
                return Timing({unit: float(seconds) for unit, seconds in kept["seconds"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            pass  # damaged: it is measured again
    timing = Timing(measure())
    write_json(file, {"about": about, "seconds": dict(timing.seconds)})
    return timing


def choose_cells(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that are named, by part, name or the beginning of a name, with all that they need; in the order
    of the plan. All of them where nothing is named.

    Raises:
        InvalidData: nothing is called so.
    """
    by_name = {cell.name: cell for cell in cells}
    wanted = set() if only else set(by_name)
    for text in only:
        found = {cell.name for cell in cells if text in cell.parts}
        found = found or {cell.name for cell in cells if cell.name.startswith(text)}
        if not found:
            raise InvalidData(
                f"No cell is called {text!r}.",
                f"The plan has {len(cells)} cells, such as {', '.join(list(by_name)[:3])}.",
                "Give a name from the plan, the beginning of one, or the letter of a part.",
            )
        wanted |= found
    while missing := {need for name in wanted for need in by_name[name].needs} - wanted:
        wanted |= missing
    return [cell for cell in cells if cell.name in wanted]


def run_cells(
    cells: Sequence[Cell],
    work: Path,
    act: Callable[[Cell, Path], bool],
    tell: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, StudioError]:
    """Does every cell that is not done, in order; waits for cells that other processes work on.

    Args:
        act: does a cell in its folder, going on with what is there, and returns False when it was stopped before the
            end.
        stopped: asked between two cells.

    Returns:
        The errors of the cells that failed, by name; what needs them is not done.
    """
    failed: dict[str, StudioError] = {}
    done = {cell.name for cell in cells if cell.is_done(work)}
    while True:
        waiting = worked = False
        for cell in cells:
            if cell.name in done or cell.name in failed:
                continue
            if cell.is_done(work):
                done.add(cell.name)
                continue
            if stopped():
                return failed
            if any(need in failed for need in cell.needs):
                failed[cell.name] = failed[next(need for need in cell.needs if need in failed)]
                continue
            if not set(cell.needs) <= done:
                waiting = True
                continue
            with _claimed(cell, work) as mine:
                if not mine:
                    waiting = True
                    continue
                if not cell.is_done(work):
                    tell(f"{cell.name}: {cell.what}")
                    try:
                        if not _timed(cell, work, act):
                            return failed
                    except StudioError as error:
                        failed[cell.name] = error
                        tell(f"{cell.name} failed: {error}")
                        continue
                    tell(f"{cell.name}: done in {cell.seconds_taken(work):.0f} s")
                done.add(cell.name)
                worked = True  # what it was needed for may stand earlier in the plan
                break
        if worked:
            continue
        if not waiting:
            return failed
        if not any(_is_free(cell, work, done, failed) for cell in cells):
            time.sleep(_LOOK_SECONDS)


def _is_free(cell: Cell, work: Path, done: set[str], failed: dict) -> bool:
    if cell.name in done or cell.name in failed or not set(cell.needs) <= done:
        return False
    with _claimed(cell, work) as mine:
        return mine


def _timed(cell: Cell, work: Path, act: Callable[[Cell, Path], bool]) -> bool:
    folder, began = cell.folder(work), time.monotonic()
    spent = Path(work) / "locks" / f"{folder.name}.seconds"
    before = _read_seconds(spent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    ended = False
    try:
        ended = act(cell, folder)
        return ended
    finally:
        seconds = round(before + time.monotonic() - began, 1)
        _replace(spent, str(seconds))
        if ended:
            row = {"v": 1, "cell": cell.name, "settings": cell.settings, "seconds": seconds, "finished": now()}
            write_json(folder / "done.json", row)


def _read_seconds(file: Path) -> float:
    """What was spent before, 0 where nobody wrote it down: the time of a cell is not worth the cell."""
    try:
        return float(file.read_text())
    except (FileNotFoundError, ValueError):
        return 0.0


@contextmanager
def _claimed(cell: Cell, work: Path) -> Iterator[bool]:
    """Whether this process may work on the cell; until the end of the block, or of the process, none else may."""
    locks = Path(work) / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / cell.folder(work).name, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def read_kept(file: Path, understand: Callable[[dict], _Kept]) -> _Kept:
    """What `understand` makes of a JSON file that a cell has left.

    Raises:
        InvalidData: the file is damaged.
    """
    try:
        return understand(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidData(
            f"{file.name} in {file.parent} cannot be read.",
            f"It is damaged: {type(error).__name__} {error}.",
            "Delete that folder and start again: only what was in it is done anew.",
        ) from error


def write_score(folder: Path, score: Score) -> None:
    """`score-<benchmark>.json` of a cell, as `to_row` has it; one file for each benchmark."""
    write_json(_score_file(folder, score.benchmark), to_row(score))


def read_score(folder: Path, benchmark: str, measures: Sequence[Measure]) -> Score:
    """What `write_score` wrote, with the measures that its benchmark has."""
    return read_kept(_score_file(folder, benchmark), lambda row: from_row(row, measures))


def _score_file(folder: Path, benchmark: str) -> Path:
    return Path(folder) / f"score-{benchmark}.json"


def write_json(path: Path, value) -> None:
    """Replace the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def _replace(path: Path, text: str) -> None:
    building = path.with_name(f".{path.name}")
    building.write_text(text, encoding="utf-8")
    os.replace(building, path)
