"""`leaderboard`: every adapter with where it comes from, beside the figures of every evaluation that is here."""

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rlhfv.commands.terminal import one_line, open_services, printable, show, show_json, tell
from rlhfv.errors import InvalidData
from rlhfv.settings import (
    add_adapter_argument,
    add_bases_arguments,
    add_benchmarks_argument,
    add_data_argument,
    add_model_arguments,
)

if TYPE_CHECKING:
    from rlhfv.evaluation.leaderboard import Column

SHARED = (
    *(add_data_argument, add_benchmarks_argument),
    *(add_model_arguments, add_adapter_argument, add_bases_arguments),
)


def add_verb(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """`verb(name, act, help, *shared)` makes it, with `--json` and the shared flags."""
    one = verb("leaderboard", leaderboard, "every adapter with its lineage, beside what it scored anywhere", *SHARED)
    one.add_argument(
        "--sort",
        default="",
        metavar="COLUMN",
        help="the key of a column, as --json prints it (default: the first figure that most voices have)",
    )


def leaderboard(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    board = services.reporting.leaderboard(actor, arguments.sort)
    tell(*board.notes)
    if arguments.sort not in ("", board.sorted_by):
        raise _no_column(arguments.sort, board.columns)
    from rlhfv.evaluation.leaderboard import render_table, to_rows

    if arguments.json:
        return show_json(to_rows(board))
    show(render_table(board, lambda text: printable(one_line(text))))


def _no_column(key: str, columns: "Sequence[Column]") -> InvalidData:
    named = [f"{one.key} ({one.benchmark}, {one.items:,} items: {one.measure.title})" for one in columns]
    return InvalidData(
        f"There is no column {key!r}.",
        f"The columns that are here are {'; '.join(named)}." if named else "Nothing is counted yet: there is none.",
        "Name one by its key, or leave --sort out." if named else "Leave --sort out.",
    )
