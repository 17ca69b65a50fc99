"""`leaderboard`: every adapter with where it comes from, beside the figures of every evaluation that is here."""

import argparse
from collections.abc import Callable

from rlhfv.commands.terminal import open_services, show, show_json
from rlhfv.settings import (
    add_adapter_argument,
    add_bases_arguments,
    add_benchmarks_argument,
    add_data_argument,
    add_model_arguments,
)

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
    from rlhfv.evaluation.leaderboard import render_table, to_rows

    if arguments.json:
        return show_json(to_rows(board))
    show(render_table(board))
