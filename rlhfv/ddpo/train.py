"""A training run from a frozen folder: `python -m rlhfv.ddpo.train RUN_FOLDER`, also under `accelerate launch`.

Started again on a folder with checkpoints, it goes on from the last one and ends with the weights of an uninterrupted
run.
"""

import argparse
import contextlib
import importlib.metadata
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from rlhfv.corrections.pairs import PreferencePair
from rlhfv.ddpo.attempt import Attempt, Stopped, TrainingResult
from rlhfv.ddpo.base import base_identity
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.devices import Together, join_processes
from rlhfv.errors import StudioError
from rlhfv.models.catalog import Entry, find_entry
from rlhfv.run_folder import RunFolder, now


def train(
    pairs: Iterable[PreferencePair],
    config: TrainingConfig | None = None,
    *,
    images: Path | str | Callable[[str], Path],
    output: Path | str,
    model: str = "demo",
    revision: str | None = None,
    title: str = "",
) -> TrainingResult:
    """Freeze a run folder at `output` and train it in this process.

    Args:
        images: folder of the pairs' images, or a function from an image's name to its path.
        model: "demo", a Hub id or a folder.

    Raises:
        StudioError: with what was wrong, why, and what to do.
    """
    config = config or TrainingConfig()
    entry = find_entry(model, revision)
    base = base_identity(entry)
    folder = RunFolder(output)
    folder.create(
        {
            "kind": "training",
            "title": title or config.recipe,
            "created": now(),
            "base": {
                "name": base.name,
                "revision": base.revision,
                "source": base.base if entry.is_local else entry.source,
            },
            "training": config.to_dict(),
            "versions": versions(),
            "parent": None,
        },
        [pair.to_row() for pair in pairs],
        images if callable(images) else lambda name: Path(images) / name,
    )
    return run(folder, entry)


def versions() -> dict[str, str]:
    """The versions that decide what a run computes."""
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft", "accelerate")}


def run(folder: RunFolder | Path | str, entry: Entry | None = None) -> TrainingResult:
    """Train what the run folder asks for, from its last whole checkpoint when it has one.

    Args:
        entry: the base; without it the environment variable RLHFV_BASE_PATH or the run's config names it.

    Raises:
        StudioError: it is also written to the run's events.
    """
    folder = folder if isinstance(folder, RunFolder) else RunFolder(folder)
    settings = folder.read_config()
    main = join_processes().is_main_process
    emit = folder.append_event if main else lambda *_, **__: None
    with contextlib.ExitStack() as stack:
        together = stack.enter_context(Together(emit))
        if main:
            try:
                stack.callback(os.close, folder.claim())
            except StudioError:
                together.leave()  # the folder's events are another process's
                raise
        should_stop = stack.enter_context(_listen_for_stop(folder, emit, main))
        try:
            emit("state", state="starting", message="Loading the base.")
            return Attempt(folder, settings, emit, should_stop, main).go(entry)
        except Stopped:
            message = "Stopped before the first step; nothing was learnt yet."
            together.leave("state", state="stopped", message=message)
            return TrainingResult("stopped", None, {})
        except StudioError as error:
            together.leave("error", what=error.what, why=error.why, fix=error.fix)
            raise
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            together.leave(
                "error",
                what=f"Training ended with {type(error).__name__}: {str(error)[:500]}",
                why=f"It came from {Path(last.filename).name}, line {last.lineno}; the whole trace is in the log.",
                fix=_advice(error),
            )
            raise


def _advice(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower():
        return "Switch on gradient checkpointing, or shorten max_length, then resume."
    return "Resume the run; if it fails again, start it with fewer pairs to find the one that causes it."


@contextlib.contextmanager
def _listen_for_stop(folder: RunFolder, emit, main: bool) -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM, SIGINT or, to the main process, a file named `stop` in the run folder
    asked to stop."""
    asked = []
    file = folder.stop_file
    if main:
        file.unlink(missing_ok=True)

    def note(number, frame):
        if not asked:
            asked.append(number)
            emit("state", state="stopping", message="A checkpoint is kept at the end of this step.")

    before = {}
    with contextlib.suppress(ValueError):  # only the main thread may listen; a thread is stopped by the file
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, note)
    try:
        yield lambda: bool(asked) or (main and file.exists())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if main:
            file.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m rlhfv.ddpo.train", description="Train a frozen run folder.")
    parser.add_argument("folder", type=Path, help="the run folder")
    try:
        run(parser.parse_args(arguments).folder)
    except StudioError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
