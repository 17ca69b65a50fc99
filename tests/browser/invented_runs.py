"""Run folders with a course, made by hand: what a page draws of a run needs no training."""

import math
from pathlib import Path

from rlhfv.run_folder import RunFolder

CONFIG = {
    "kind": "training",
    "created": "2026-01-01T00:00:00.000+00:00",
    "base": {"name": "scripted", "revision": "0" * 40, "source": "scripted"},
    "training": {"recipe": "demo"},
}


def make_run(data_dir: Path, name: str, **config) -> RunFolder:
    """A frozen run folder of the studio at `data_dir`, without pairs."""
    folder = RunFolder(data_dir / "runs" / name)
    folder.create({**CONFIG, "title": name, **config}, [], Path)
    return folder


def add_steps(folder: RunFolder, first: int, last: int, total: int, slope: float = 0.01) -> None:
    """The steps of a run that learns, held-out figures every tenth."""
    for step in range(first, last + 1):
        loss = math.log(2) * math.exp(-slope * step)
        figures = {
            "loss": loss,
            "rewards/margins": slope * step,
            "rewards/accuracies": min(1.0, 0.5 + slope * step),
            "logps/chosen": -40.0 + slope * step,
            "logps/rejected": -40.0 - slope * step,
        }
        if step % 10 == 0:
            figures |= {f"eval_{name}": figures[name] * 1.1 for name in ("loss", "rewards/margins")}
            figures["eval_rewards/accuracies"] = figures["rewards/accuracies"] - 0.1
        folder.append_event("step", step=step, total_steps=total, eta=1.0, **figures)


def make_finished(data_dir: Path, name: str, slope: float = 0.01, **config) -> RunFolder:
    folder = make_run(data_dir, name, **config)
    folder.append_event("state", state="running")
    add_steps(folder, 1, 40, 40, slope)
    folder.append_event("done")
    return folder
