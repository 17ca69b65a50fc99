"""What the commands print, and what they open."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unicodedata import category

from rlhfv.errors import StudioError
from rlhfv.settings import settings_from_arguments

if TYPE_CHECKING:
    from rlhfv.services import Actor, Services

_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
_HARMLESS = "\t\n\u200d"  # the joiner holds emoji together


def run(act: Callable[[], int | None]) -> int:
    """The exit code of `act`. What a person can mend is told in three parts, never as a traceback."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal may not have every character that a model says
    try:
        return act() or 0
    except StudioError as error:
        tell_error(error)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        tell_error(explain_refusal(error))
        return 2
    except KeyboardInterrupt:
        tell("Interrupted.")
        return 130


def explain_refusal(error: OSError) -> StudioError:
    """What the operating system refused, in three parts."""
    reason = f"The system says: {str(error.strerror or error).rstrip('.')}."
    if error.filename is None:
        return StudioError(
            "That could not be done.", reason, "Free what it names, or choose another (such as --port)."
        )
    return StudioError(
        f"{error.filename} could not be used.",
        reason,
        "Check that the path is right, that you may write there and that the disk has room.",
    )


def read_token(arguments: argparse.Namespace) -> str | None:
    """The token that the flags name: that of `--login`, else what the variable of `--token-env` holds, if anything.
    Raises SignInNeeded for `--login` where nobody has logged in.
    """
    if arguments.login:
        from rlhfv.services.publishing import read_machine_token

        return read_machine_token().secret
    return os.environ.get(arguments.token_env) or None


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


def one_line(text: str) -> str:
    """`text` as a row of a list can show it."""
    return " ".join(text.split())


def count(number: int, thing: str) -> str:
    """ "1 pair", "2 pairs"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


@contextmanager
def progress(title: str, total: int | None, unit: str) -> Iterator:
    """A bar on stderr; `update_to(number)` moves it, and so does every item of `watch(items)`."""
    from tqdm import tqdm

    def watch(items: Iterable) -> Iterator:
        for item in items:
            yield item
            bar.update()

    with tqdm(total=total, desc=one_line(printable(title)), unit=f" {unit}", file=sys.stderr, mininterval=0.5) as bar:
        bar.update_to = lambda number: bar.update(number - bar.n)
        bar.watch = watch
        yield bar


def open_services(arguments: argparse.Namespace) -> "tuple[Services, Actor]":
    from rlhfv.services import build_services, local_actor

    return build_services(settings_from_arguments(arguments)), local_actor()
