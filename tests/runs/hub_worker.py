"""A worker process whose trainer is a small one: `hub_worker.py KIND REPO FOLDER NAME [LEASE [RUN]]`, HF_TOKEN set.

As a trainer: `hub_worker.py train STEPS SECONDS RUN_FOLDER`; it counts, keeps a checkpoint at every second step, goes
on from the last one, and stops when the file `stop` is there. `hub_worker.py learn SECONDS RUN_FOLDER` is the true
trainer, which takes so many seconds more a step and keeps a checkpoint at every second one.
"""

import json
import os
import sys
import time
from pathlib import Path

from rlhfv.publishing.hub import Hub
from rlhfv.publishing.token import Token
from rlhfv.run_folder import RunFolder
from rlhfv.runs import leash
from rlhfv.runs.hub_runs import HubRuns
from rlhfv.runs.worker import Worker

STEPS = {"quick": (4, 0.02), "slow": (400, 0.05), "middling": (60, 0.1)}


def train(steps: int, seconds: float, folder: RunFolder) -> None:
    folder.claim()
    checkpoint = folder.last_checkpoint()
    step = int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0
    folder.append_event("state", state="running", resumed=bool(step))
    print(f"working in {folder.path}", flush=True)
    if steps == STEPS["quick"][0]:  # no file that this leaves behind may hold the token
        print(os.environ.get("HF_TOKEN"), flush=True)
    while step < steps:
        step += 1
        time.sleep(seconds)
        folder.append_event("step", step=step, total_steps=steps, loss=1 / step)
        stop = folder.stop_file.exists()
        if step % 2 == 0 or stop:
            keep_checkpoint(folder, step)
        if stop:
            folder.append_event("state", state="stopped", step=step)
            return
    folder.adapter.mkdir()
    (folder.adapter / "adapter_config.json").write_text("{}")
    (folder.adapter / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 40)
    folder.write_results({"figures": {"steps": steps}})
    folder.append_event("done", made="adapter")


def keep_checkpoint(folder: RunFolder, step: int) -> None:
    place = folder.checkpoints / f"checkpoint-{step}"
    place.mkdir(parents=True)
    (place / "optimizer.pt").write_bytes(bytes([step % 256]) * 2000)
    (place / "trainer_state.json").write_text(json.dumps({"global_step": step}))


def learn(seconds: float, folder: str) -> int:
    from rlhfv.ddpo import attempt, trainer
    from rlhfv.ddpo.train import main

    step = trainer.DDPOTrainer.training_step

    def slow_step(self, *arguments, **named):
        time.sleep(seconds)
        print(f"step {self.state.global_step + 1}", flush=True)
        return step(self, *arguments, **named)

    trainer.DDPOTrainer.training_step = slow_step
    trainer.EVENTS_A_SECOND = float("inf")
    attempt.LOOKS = 4
    return main([folder])


def command(kind: str, folder: Path) -> list[str]:
    if kind == "true":
        return [sys.executable, __file__, "learn", "0.4", str(folder)]
    if kind == "error":
        what = "folder.append_event('error', what='The loss is not a number.', why='The rate is 5.', fix='Lower it.')"
        code = f"import sys; from rlhfv.run_folder import RunFolder; folder = RunFolder(sys.argv[1]); {what}"
        return [sys.executable, "-c", f"{code}; sys.exit(1)", str(folder)]
    if kind == "vanish":
        return [sys.executable, "-c", "import os; print('about to vanish', flush=True); os.kill(os.getpid(), 9)"]
    return [sys.executable, __file__, "train", *map(str, STEPS[kind]), str(folder)]


def work(kind: str, repo: str, folder: str, name: str, lease: str = "600", run_id: str = "") -> None:
    leash.build_command = lambda _, path, config=None: command(kind, path)
    runs = HubRuns(
        Hub(Token(os.environ["HF_TOKEN"])), repo, float(lease), wait=lambda seconds: time.sleep(seconds / 10)
    )
    worker = Worker(runs, Path(folder), name, beat=0.2, poll=0.1, tell=lambda text: print(text, flush=True))
    print("here", flush=True)
    worker.work(once=True, run_id=run_id)


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(int(sys.argv[2]), float(sys.argv[3]), RunFolder(sys.argv[4]))
    elif sys.argv[1] == "learn":
        sys.exit(learn(float(sys.argv[2]), sys.argv[3]))
    else:
        work(*sys.argv[1:])
