"""Worker processes that outlive the studio: started in a session of their own, known again by pid and start time."""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# The worker waits for one byte before it becomes the command: whoever starts it first notes its pid on disk. A studio
# that is killed in between closes the pipe and no worker runs that nobody knows of.
_GATE = """
import os, sys
if not os.read(0, 1):
    sys.exit("the studio ended while it started this run")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Process:
    """A session leader. `started` tells it from another process that got the same pid later, also after a reboot."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        """True while the leader or any process of its group lives: on SIGTERM the launcher may go at once, while the
        trainer below it still writes its checkpoint."""
        started = start_mark(self.pid)
        if started is not None:
            return started == self.started
        return _boot() == self.started.partition("/")[0] and _group_lives(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole group. A group that is gone is no error."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class Gate:
    """A worker that is started but waits. `process` can be noted; then `open` lets it run."""

    def __init__(self, command: list[str], folder: Path, log: Path, environment: dict[str, str]):
        with open(log, "ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GATE, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        self.process = Process(self.popen.pid, start_mark(self.popen.pid) or "")

    def open(self) -> subprocess.Popen:
        with contextlib.suppress(BrokenPipeError):  # it died already; its state will say so
            self.popen.stdin.write(b"\n")
            self.popen.stdin.close()
        return self.popen


def start_mark(pid: int) -> str | None:
    """When the process of this pid started, as text that is only compared; None when there is none or a zombie."""
    if sys.platform == "linux":
        fields = _linux_stat(pid)
        return f"{_boot()}/{fields[19]}" if fields and fields[0] not in "ZX" else None
    answer = _ps("-o", "stat=,lstart=", "-p", str(pid)).split(None, 1)
    return f"{_boot()}/{answer[1].strip()}" if len(answer) == 2 and not answer[0].startswith("Z") else None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _group_lives(group: int) -> bool:
    if sys.platform == "linux":
        for name in os.listdir("/proc"):
            if name.isdigit():
                fields = _linux_stat(int(name))
                if fields and fields[0] not in "ZX" and int(fields[2]) == group == int(fields[3]):
                    return True
        return False
    rows = [line.split() for line in _ps("-A", "-o", "pgid=,stat=").splitlines()]
    return any(len(row) == 2 and int(row[0]) == group and not row[1].startswith("Z") for row in rows)


def _linux_stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat after the command's name: state, ppid, pgrp, session, …, start time at [19]."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}).stdout
