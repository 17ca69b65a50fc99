"""Processes of a script each, which say "ready", wait, and go on together."""

import os
import subprocess
import sys

from tests.apps import ROOT


def start_process(script: str, *words) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def let_go(*processes: subprocess.Popen) -> None:
    """Once all are ready."""
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
