"""Starting the app as a person does: a process of its own on a free port."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_app(
    data_dir: Path, port: int, root: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.Popen:
    """`python app.py` of the project at `root`; its output goes to app.log beside the data folder. Without an
    `environment` it has this process's own and no Hub.
    """
    environment = {**(environment or {**os.environ, "HF_HUB_OFFLINE": "1"}), "GRADIO_ANALYTICS_ENABLED": "False"}
    with (data_dir.parent / "app.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), "--data-dir", str(data_dir)],
            cwd=root,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def wait_until_ready(port: int, process: subprocess.Popen, seconds: float = 120) -> float:
    """Seconds until the page was served."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        assert process.poll() is None, "the app ended before it served a page"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                if answer.status == 200:
                    return time.monotonic() - begun
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"no page within {seconds} s")
