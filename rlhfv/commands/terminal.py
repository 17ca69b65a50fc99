"""What the commands print, and what they open."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unicodedata import category

from rlhfv.errors import StudioError
from rlhfv.settings import settings_from_arguments

if TYPE_CHECKING:
    from rlhfv.runs.local import LocalRuns
    from rlhfv.services import Actor, Services

_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
_HARMLESS = "\t\n\u200d"  # the joiner holds emoji together


def tell(*lines: str) -> None:
    """Messages for the person, on stderr."""
    for line in lines:
        print(printable(line), file=sys.stderr, flush=True)


def tell_error(error: StudioError) -> None:
    """The three parts of an error."""
    tell(f"Error: {error.what}", f"  {error.why}", f"  {error.fix}")


def show(*lines: str) -> None:
    """Data for the person, on stdout."""
    for line in lines:
        print(printable(line), flush=True)


def show_json(value) -> None:
    """One JSON value on one line of stdout. ASCII, so that no text in it acts on a terminal."""
    print(json.dumps(value, default=str), flush=True)


def printable(text: str) -> str:
    """`text` with control and direction marks made visible: what a model says must not steer the terminal."""
    return "".join(
        f"\\u{{{ord(mark):x}}}" if category(mark) in _STEERING and mark not in _HARMLESS else mark for mark in text
    )


@contextmanager
def progress(title: str, total: int | None, unit: str) -> Iterator:
    """A bar on stderr; `update_to(number)` moves it."""
    from tqdm import tqdm

    with tqdm(total=total, desc=title, unit=f" {unit}", file=sys.stderr, mininterval=0.5) as bar:
        bar.update_to = lambda number: bar.update(number - bar.n)
        yield bar


def open_services(arguments: argparse.Namespace) -> "tuple[Services, Actor]":
    from rlhfv.services import build_services, local_actor

    return build_services(settings_from_arguments(arguments)), local_actor(getattr(arguments, "name", "") or "")


def open_runs(arguments: argparse.Namespace) -> "LocalRuns":
    from rlhfv.runs.local import LocalRuns

    return LocalRuns(settings_from_arguments(arguments).data_dir)
