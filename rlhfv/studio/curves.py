"""A run's events as curves: read as they grow, thinned before they travel to a page."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import gradio as gr
import pandas as pd

# Of each plot: title, what its axis says, and its lines as (field of a step, name in the legend).
PLOTS = (
    ("Loss", "loss", (("loss", "train"), ("eval_loss", "held out"))),
    ("Reward margin", "margin", (("rewards/margins", "train"), ("eval_rewards/margins", "held out"))),
    ("Log-probability of the answers", "log p", (("logps/chosen", "corrected"), ("logps/rejected", "original"))),
    ("Pairs ranked right", "share", (("rewards/accuracies", "train"), ("eval_rewards/accuracies", "held out"))),
)
MAX_POINTS = 300
COLUMNS = ("step", "value", "line")
COLOURS = {"train": "#6366f1", "held out": "#f59e0b", "corrected": "#059669", "original": "#e11d48"}
# Of runs that are compared each has a hue, its two lines a shade each.
SHADES = (
    ("#4f46e5", "#a5b4fc"),
    ("#d97706", "#fbbf24"),
    ("#059669", "#6ee7b7"),
    ("#e11d48", "#fda4af"),
    ("#0284c7", "#7dd3fc"),
    ("#7e22ce", "#d8b4fe"),
)


def build_plots() -> tuple[gr.LinePlot, ...]:
    """The four plots, each hidden while it has no point: an empty one has an axis of zeros."""
    return tuple(
        gr.LinePlot(
            None,
            x="step",
            y="value",
            color="line",
            title=name,
            y_title=axis,
            x_title="step",
            color_title=" ",
            height=220,
            min_width=280,
            tooltip="axis",
            visible=False,
            elem_id=f"plot-{number}",
            buttons=["fullscreen", "export"],
        )
        for number, (name, axis, _) in enumerate(PLOTS)
    )


@dataclass
class Record:
    """What a page needs of a run's events. `version` changes whenever there is something new."""

    offset: int = 0
    version: int = 0
    steps: list[dict] = field(default_factory=list)
    notes: list[dict] = field(default_factory=list)


class Records:
    """The events of the runs that were looked at last, each line read once for all pages."""

    def __init__(self, keep: int = 16):
        self._keep = keep
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, run_id: str, read: Callable[[str, int], tuple[list[dict], int]]) -> Record:
        """What is known of a run after `read(run_id, offset)`, which also checks that the caller may see it."""
        with self._lock:
            record = self._records.setdefault(run_id, Record())
            self._records.move_to_end(run_id)
            while len(self._records) > self._keep:
                self._records.popitem(last=False)
            events, offset = read(run_id, record.offset)
            if offset < record.offset:
                record = self._records[run_id] = Record()
                events, offset = read(run_id, 0)
            record.offset = offset
            for event in events:
                (record.steps if event["kind"] == "step" else record.notes).append(event)
            record.version += bool(events)
            return record

    def forget(self, run_id: str) -> None:
        with self._lock:
            self._records.pop(run_id, None)


def colour_map(titles: Sequence[str], lines: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The colour of each line of a plot, by its name in the legend, for at most as many runs as there are `SHADES`."""
    if len(titles) == 1:
        return {name: COLOURS[name] for _, name in lines}
    return {
        _label(title, name): shade
        for title, shades in zip(titles, SHADES, strict=False)
        for (_, name), shade in zip(lines, shades, strict=True)
    }


def frame(runs: dict[str, list[dict]], lines: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    """The points of one plot, columns `step`, `value`, `line`. With several runs the legend names the run too.

    Each line begins with a row without a value: Gradio's plot fixes its colours when it is drawn, and a line whose
    name it did not see then would never appear.
    """
    rows, names = [], []
    for title, steps in runs.items():
        for key, name in lines:
            points = [(step["step"], step[key]) for step in steps if step.get(key) is not None and "step" in step]
            label = name if len(runs) == 1 else _label(title, name)
            names.append(label)
            rows += [(step, value, label) for step, value in thin(points)]
    first = min((step for step, _, _ in rows), default=0)
    rows = [(first, None, label) for label in names] + rows
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"step": float, "value": float, "line": str})


def _label(title: str, name: str) -> str:
    return f"{title} · {name}"


def thin(points: list, limit: int = MAX_POINTS) -> list:
    """At most `limit` points, evenly spread, with the first and the last."""
    if len(points) <= limit:
        return points
    stride = (len(points) - 1) / (limit - 1)
    return [points[round(i * stride)] for i in range(limit)]
