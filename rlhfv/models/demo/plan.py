"""What a build of the demo model does: its sizes and steps in one place, and what both stages need to run."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

PICTURE_SIDE = 144  # pixels the tower sees; 6×6 patches, so a cell of the layout is exactly 2×2 patches
PATCH = 24
GRID = PICTURE_SIDE // PATCH


@dataclass(frozen=True)
class Plan:
    """Sizes and steps of one build. The default is the build in the repository."""

    tower_hidden: int = 192
    tower_layers: int = 4
    tower_heads: int = 6
    tower_scenes: int = 32_000
    tower_steps: int = 2_000
    tower_batch: int = 64
    tower_rate: float = 1.2e-3
    language_hidden: int = 192
    language_layers: int = 4
    language_heads: int = 6
    language_scenes: int = 48_000
    language_steps: int = 1_600
    language_batch: int = 32
    language_rate: float = 1.5e-3
    vocabulary: int = 1_280
    checkpoint_every: int = 100
    test_scenes: int = 500

    def part(self, stage: str) -> dict:
        """The sizes of one stage: "tower" or "language"."""
        return {key: value for key, value in asdict(self).items() if key.startswith(stage)}


FULL = Plan()
TINY = Plan(
    tower_hidden=32,
    tower_layers=1,
    tower_heads=2,
    tower_scenes=64,
    tower_steps=6,
    tower_batch=16,
    language_hidden=32,
    language_layers=3,
    language_heads=2,
    language_scenes=64,
    language_steps=6,
    language_batch=8,
    vocabulary=700,
    checkpoint_every=2,
    test_scenes=6,
)


class Log:
    """Appends what happens to build_log.jsonl and tells it to whoever watches."""

    def __init__(self, path: Path, progress: Callable[[str], None]):
        self.path, self.progress, self.started = path, progress, time.monotonic()

    def write(self, kind: str, **fields) -> None:
        """One line: the kind, seconds since this process started building, and the fields."""
        line = {"kind": kind, "seconds": round(time.monotonic() - self.started, 1), **fields}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.progress(" ".join([kind, *(f"{key}={value}" for key, value in fields.items())]))


def machine() -> dict:
    """What the build ran on: no host name, no path."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "bfloat16_training": use_bfloat16(),
    }


def use_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware: there it halves the time, elsewhere it is slower."""
    return torch.cpu._is_avx512_bf16_supported()


def rate_at(step: int, steps: int, warm_up: int = 150) -> float:
    """The share of the top learning rate at a step: linear warm-up, then a cosine down to 2 %."""
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def choose(seed: int, step: int, among: int, wanted: int) -> list[int]:
    """The scenes of a step. They depend on seed and step alone, so a resumed build sees what it would have seen."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    return torch.randint(among, (wanted,), generator=generator).tolist()


def mark_of(*parts) -> str:
    """Twelve hexadecimal digits that change when the parts (JSON data) change."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def save_checkpoint(path: Path, **state) -> None:
    """Replace a checkpoint in one step: a kill leaves the old one or the new one, never half of one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)
