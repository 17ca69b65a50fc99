"""Small workers that keep the protocol of a run folder and need no model: `workers.py KIND RUN_FOLDER`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rlhfv.run_folder import RunFolder


def train(folder: RunFolder, steps: int, seconds: float) -> None:
    """Counts to `steps`, goes on from its last checkpoint, keeps one on SIGTERM."""
    folder.claim()
    done = [int(path.name.removeprefix("checkpoint-")) for path in folder.list_checkpoints()]
    step = max(done, default=0)
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    folder.append_event("state", state="running")
    while step < steps:
        step += 1
        time.sleep(seconds)
        folder.append_event("step", step=step, total_steps=steps, loss=0.5, eta=1.0)
        print(f"step {step}", flush=True)
        if asked:
            (folder.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
            folder.append_event("state", state="stopped")
            return
    folder.append_event("done")


def main() -> None:
    kind, path = sys.argv[1:3]
    folder = RunFolder(path)
    if kind == "quick":
        train(folder, 2, 0.01)
    elif kind == "slow":
        train(folder, 400, 0.05)
    elif kind == "launched":  # as under accelerate: a launcher that dies of SIGTERM above a trainer that does not
        sys.exit(subprocess.run([sys.executable, __file__, "slow", path], check=False).returncode)
    elif kind == "silent":
        print("about to vanish", flush=True)
        os._exit(3)
    elif kind == "error":
        folder.append_event("state", state="running")
        folder.append_event("error", what="The loss is not a number.", why="The rate is 5.", fix="Lower it.")
        sys.exit(1)
    elif kind == "environment":
        (folder.path / "seen.txt").write_text(os.environ.get("RLHFV_BASE_PATH", "none"))
        folder.append_event("done")
    elif kind == "count":
        with open(Path(path).parent / "starts.txt", "a") as file:
            file.write(f"{folder.id}\n")
        train(folder, 2, 0.05)


if __name__ == "__main__":
    main()
