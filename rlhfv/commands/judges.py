"""The judge of a verb: that of its flags, and whether what it said before is asked again."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.judge_flags import add_judge_arguments, find_judge

if TYPE_CHECKING:
    from rlhfv.evaluation.judge import Judge


def add_judge_flags(parser: argparse.ArgumentParser) -> None:
    add_judge_arguments(parser).add_argument(
        "--judge-again",
        action="store_true",
        help="ask, and pay, once more where the kept reply was cut, is of another model or cannot be read",
    )


def judge_of(
    arguments: argparse.Namespace, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> "Callable[[Path], Judge] | None":
    """What makes the judge that the flags name, given the file that keeps its replies; None where they name none.

    Raises InvalidData where its key is not where the flags say, or a flag says how to ask a judge that none names.
    """
    named = find_judge(arguments)
    if named is None:
        return None

    def judge(log: Path) -> "Judge":
        from rlhfv.evaluation.judge import Judge

        how = {"prompt_file": named.prompt, "at_once": named.at_once, "again": arguments.judge_again}
        return Judge(named.voice, log, on_progress=on_progress, **how)

    return judge
