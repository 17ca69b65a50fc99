"""The loop of test_loop.py in a network namespace of its own, where nothing but this machine can be reached."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.apps import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ISOLATE = ("unshare", "--net", "--map-root-user")


def can_isolate() -> bool:
    return (
        shutil.which("unshare") is not None and subprocess.run([*ISOLATE, "true"], capture_output=True).returncode == 0
    )


@pytest.mark.skipif(not can_isolate(), reason="this system does not let a process leave the network (unshare --net)")
def test_the_loop_with_the_network_cut():
    loop = f"{sys.executable} -m pytest -p no:cacheprovider tests/browser/test_loop.py"
    reach = f"{sys.executable} -c \"import socket; socket.create_connection(('1.1.1.1', 443), 3)\""
    ended = subprocess.run(
        [*ISOLATE, "sh", "-c", f"ip link set lo up && ! {reach} 2>/dev/null && exec {loop}"],
        cwd=ROOT,
        env={**os.environ, "CI": "true"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
    assert "1 passed" in ended.stdout and "skipped" not in ended.stdout
