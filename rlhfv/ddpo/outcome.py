"""What a run was estimated to take and what it took, side by side: in its events, its figures and in words (no torch
here)."""

import re
import resource
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from rlhfv.units import human_seconds

FAR = 2.0
"""A factor by which an estimate may miss before it is called wrong, if it misses by `NEAR` seconds at least."""
NEAR = 15


def find_estimate(events: Iterable[dict]) -> dict:
    """The figures that the first attempt at a run froze, {} while there are none."""
    return next((event["estimate"] for event in events if "estimate" in event), {})


def earlier_seconds(events: Iterable[dict]) -> float:
    """Seconds that the attempts before the last one worked, each from its start to the last thing it said."""
    spent, began, last = 0.0, None, None
    for event in events:
        if event.get("state") == "starting":
            spent += (last - began).total_seconds() if began else 0.0
            began = last = datetime.fromisoformat(event["time"])
        elif event["kind"] in ("step", "log"):
            last = datetime.fromisoformat(event["time"])
    return spent


def own_peak() -> int:
    """Bytes of memory that this process has held at most."""
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage gives is at least what the process held that started this one
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def describe_estimate(seconds: float, memory: float, on_gpu: bool) -> str:
    return f"Estimated: about {human_seconds(seconds)}, and {_size(memory)} at the peak{_where(on_gpu)}."


def describe_outcome(results: dict | None) -> str:
    """What the run took beside what was estimated, with a word where that was far off; "" where it is not known."""
    figures = (results or {}).get("figures") or {}
    if not all(figures.get(name) for name in ("seconds", "memory", "estimated_seconds", "estimated_memory")):
        return ""
    took = f"It took {human_seconds(figures['seconds'])}, and {_size(figures['memory'])} at the peak"
    estimated = (
        f"estimated were {human_seconds(figures['estimated_seconds'])} and {_size(figures['estimated_memory'])}"
    )
    wrong = [
        f"the {what} came out {_factor(figures[name] / figures[f'estimated_{name}'])}"
        for what, name in (("time", "seconds"), ("memory", "memory"))
        if not 1 / FAR <= figures[name] / figures[f"estimated_{name}"] <= FAR
        and abs(figures[name] - figures[f"estimated_{name}"]) > NEAR
    ]
    far = f" The estimate was far off: {' and '.join(wrong)}." if wrong else ""
    return f"{took}{_where(bool((results or {}).get('on_gpu')))}; {estimated}.{far}"


def _factor(ratio: float) -> str:
    return f"{ratio:.1f} times as much" if ratio > 1 else f"{1 / ratio:.1f} times less"


def _where(on_gpu: bool) -> str:
    return " of one GPU" if on_gpu else " of the process, libraries included"


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
