"""A trainer on a leash: the local trainer below a small process that ends it when the one who started it is gone,
however it went. So no run is trained twice on one GPU, and nothing computes for nobody."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import rlhfv
from rlhfv.errors import RunFailed
from rlhfv.run_folder import RunFolder
from rlhfv.runs.bundle import find_base_files, find_runs, warn_of_version
from rlhfv.runs.local import LAUNCH_ENVIRONMENT, build_command
from rlhfv.runs.state import Tail

SECONDS_TO_END = 60.0
_LEASH = """
import os, signal, subprocess, sys, threading, time
signal.signal(signal.SIGTERM, lambda *_: None)
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
def watch():
    os.read(0, 1)
    os.killpg(0, signal.SIGTERM)
    time.sleep(float(sys.argv[1]))
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
os._exit(code if code >= 0 else 128 - code)
"""


class LeashedTrainer:
    """The process that works on `folder`. When this process ends, or `close` is called, it is asked to end, and killed
    after `seconds_to_end`.

    Args:
        base: the folder of the base, when it came along with the run.
        accelerate_config: as of `build_command`.
    """

    def __init__(
        self,
        folder: RunFolder,
        base: Path | None,
        seconds_to_end: float = SECONDS_TO_END,
        accelerate_config: Path | None = None,
    ):
        root = str(Path(rlhfv.__file__).resolve().parents[1])
        environment = {**os.environ, **LAUNCH_ENVIRONMENT}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        environment.pop("RLHFV_BASE_PATH", None)
        if base is not None:
            environment["RLHFV_BASE_PATH"] = str(Path(base).resolve())
        command = build_command(folder.read_config()["kind"], folder.path.resolve(), accelerate_config)
        self.folder = folder
        self.begin = folder.events_file.stat().st_size if folder.events_file.exists() else 0
        with open(folder.log_file, "ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LEASH, str(seconds_to_end), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=root,
                env=environment,
                start_new_session=True,
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask_stop(self) -> None:
        """It keeps a checkpoint and ends. Asked before it listens, it does not hear: ask until it ended."""
        self.folder.stop_file.touch()

    def close(self) -> None:
        """End it, and wait until it ended."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def read(self) -> Tail:
        """What the events of this attempt say so far."""
        tail = Tail(self.begin)
        events, tail.offset = self.folder.read_events(self.begin)
        for event in events:
            tail.take(event)
        return tail

    def outcome(self) -> tuple[str, str]:
        """ "done", "stopped" or "failed", and what was wrong; one that died without a word gets its error event."""
        code, tail = self._process.wait(), self.read()
        if not tail.ended:
            lines = self.folder.read_log(1)
            last = f"Its last line: {lines[-1]}" if lines else "It said nothing; perhaps memory ran out."
            how = f"was killed by signal {code - 128}" if code > 128 else f"ended without a word, with code {code}"
            error = RunFailed(f"The trainer {how}.", last, "Resume the run: it goes on from its last checkpoint.")
            self.folder.append_error(error)
            return "failed", str(error)
        return tail.ended, tail.error


def work_folder(folder: Path, tell: Callable[[dict], None], seconds: float = 0.3) -> list[tuple[RunFolder, str]]:
    """Train each run of a bundle in place, from its last checkpoint when it has one, until one fails or SIGTERM or
    Ctrl-C stops it; `tell` gets the events.

    Returns:
        each run with the state in which it ended.

    Raises:
        NotFound: the folder is no bundle.
    """
    ended, wheel = [], next((file.name for file in Path(folder).glob("rlhfv-*.whl")), "")
    for run in find_runs(folder):
        asked, before = threading.Event(), run.events_file.stat().st_size if run.events_file.exists() else 0
        warn_of_version(run, wheel, Path(folder).name)
        with listen_for_end(asked.set):
            trainer = LeashedTrainer(run, find_base_files(folder, run.read_config()))
            offset, alive = before, True
            try:
                while alive:
                    alive = trainer.is_alive
                    if asked.is_set():
                        trainer.ask_stop()
                    events, offset = run.read_events(offset)
                    for event in events:
                        tell(event)
                    time.sleep(seconds if alive else 0)
            finally:
                trainer.close()
        run.stop_file.unlink(missing_ok=True)
        ended.append((run, trainer.outcome()[0]))
        if ended[-1][1] != "done":
            break
    return ended


@contextlib.contextmanager
def listen_for_end(end: Callable[[], None]) -> Iterator[None]:
    """`end` is called on SIGTERM and Ctrl-C; only the main thread of a process can listen."""
    before = {}
    with contextlib.suppress(ValueError):
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda *_: end())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
