"""All that the studio can do, without a browser: `python -m rlhfv <verb>`.

Data goes to stdout (`--json` for machines), progress and messages to stderr. Exit codes: 0 done, 1 a run failed, 2 a
request that cannot work, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from rlhfv import __version__
from rlhfv.commands import chat, demo, pairs, runs
from rlhfv.commands.terminal import tell, tell_error
from rlhfv.corrections.edits import KINDS
from rlhfv.corrections.pairs import PAIR_OUTCOMES
from rlhfv.ddpo.config import RECIPES
from rlhfv.errors import StudioError
from rlhfv.evaluation.demo_world import MAX_SCENES
from rlhfv.settings import add_model_arguments


def main(argv: list[str] | None = None) -> int:
    """Runs one verb and returns its exit code. What a person can mend is told in three parts, never as a traceback."""
    try:
        arguments = build_parser().parse_args(argv)
        return arguments.act(arguments) or 0
    except StudioError as error:
        tell_error(error)
        return 2
    except KeyboardInterrupt:
        tell("Interrupted.")
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rlhfv", description="The RLHF-V correction studio, in a terminal."
    )
    parser.add_argument("--version", action="version", version=f"rlhfv {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_chat(verbs)
    _add_pairs(_group(verbs, "pairs", "the corrections made so far"))
    _add_train(verbs)
    _add_runs(_group(verbs, "runs", "training runs and evaluations"))
    _add_evaluate(verbs)
    _add_demo(_group(verbs, "demo", "the demo model's own world of drawn scenes"))
    return parser


def _group(verbs, name: str, help: str):
    return verbs.add_parser(name, help=help, description=help).add_subparsers(metavar="VERB", required=True)


def _verb(verbs, name: str, act: Callable, help: str, model: bool = True) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=help, description=help)
    if model:
        add_model_arguments(parser)
    else:
        parser.add_argument("--data-dir", type=Path, default=None, help="folder for answers, pairs, images and runs")
        parser.set_defaults(model="demo", revision=None, adapter=[])
    parser.add_argument("--json", action="store_true", help="data as JSON on stdout")
    parser.set_defaults(act=act)
    return parser


def _add_chat(verbs) -> None:
    verb = _verb(verbs, "chat", chat.chat, "ask two voices about a picture; without a question, line by line")
    verb.add_argument("question", nargs="?", help="one question; without it, lines are read until an empty one")
    verb.add_argument("--image", type=Path, action="append", default=[], help="a picture: begins a new conversation")
    verb.add_argument("--scene", action="store_true", help="draw a fresh scene: begins a new conversation")
    verb.add_argument("--left", help="voice of the left answer, by id or title")
    verb.add_argument("--right", help="voice of the right answer, by id or title")
    verb.add_argument("--temperature", type=float, default=0.0, help="0, the default, is greedy")
    verb.add_argument("--top-p", type=float, default=1.0)
    verb.add_argument("--max-new-tokens", type=int, default=256)
    verb.add_argument("--seed", type=int, default=0)


def _add_pairs(verbs) -> None:
    verb = _verb(verbs, "list", pairs.list_pairs, "search the pairs, newest first", model=False)
    verb.add_argument("--text", default="", help="words of the question or the answers")
    verb.add_argument("--kind", choices=list(KINDS), help="kind of a correction")
    verb.add_argument("--annotator")
    verb.add_argument("--by-model", help="the model whose answer was corrected")
    verb.add_argument("--outcome", choices=PAIR_OUTCOMES)
    verb.add_argument("--offset", type=int, default=0)
    verb.add_argument("--limit", type=int, default=50)
    verb = _verb(verbs, "show", pairs.show_pair, "one pair with its history", model=False)
    verb.add_argument("id")
    verb = _verb(verbs, "export", pairs.export, "write pairs.jsonl and images/ to a folder", model=False)
    verb.add_argument("folder", type=Path)
    verb.add_argument("--datasets", action="store_true", help="a folder for datasets.load_from_disk instead")
    verb = _verb(verbs, "import", pairs.take_in, "take in an export; good rows are kept, bad ones named", model=False)
    verb.add_argument("path", type=Path, help="a JSONL file or a folder with pairs.jsonl")


def _add_train(verbs) -> None:
    verb = _verb(verbs, "train", runs.train, "train an adapter on the pairs and follow it to its end")
    verb.add_argument("--data", type=Path, help="a JSONL file or a folder with pairs.jsonl, instead of the own pairs")
    verb.add_argument("--recipe", default="demo", choices=list(RECIPES), help="settings to start from (default: demo)")
    _add_run_options(verb)
    settings = verb.add_argument_group("settings", "left out: as in the recipe")
    for field in runs.training_fields():
        read = {"bool": _read_bool, "int": int, "float": float, "str": str}[field["type"]]
        optional = {"nargs": "?", "const": True} if field["type"] == "bool" else {}
        settings.add_argument(
            f"--{field['name'].replace('_', '-')}",
            type=read,
            default=None,
            choices=field["choices"],
            metavar=None if field["choices"] else field["type"].upper(),
            help=field["help"].replace("%", "%%"),
            **optional,
        )


def _add_evaluate(verbs) -> None:
    verb = _verb(verbs, "evaluate", runs.evaluate, "measure adapters against the baseline in a world of known truth")
    verb.add_argument("--voice", action="append", default=[], help="an adapter by id or title (default: all on offer)")
    verb.add_argument("--scenes", type=int, default=MAX_SCENES, help=f"how many test scenes (default: {MAX_SCENES})")
    _add_run_options(verb)


def _add_run_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--title", default="", help="name of the run")
    verb.add_argument("--detach", action="store_true", help="print the run's id and return at once")


def _add_runs(verbs) -> None:
    _verb(verbs, "list", runs.list_runs, "all runs, newest first", model=False)
    for name, act, help in (
        ("show", runs.show_run, "state, settings and last lines of a run"),
        ("follow", runs.follow_run, "show a run until it ends; with --json its events, one a line"),
        ("stop", runs.stop, "end a run; a checkpoint is kept"),
        ("resume", runs.resume, "go on with a stopped or failed run"),
        ("export", runs.export, "write the adapter, or the whole model, for other software"),
    ):
        verb = _verb(verbs, name, act, help, model=False)
        verb.add_argument("id")
        if name == "resume":
            verb.add_argument("--detach", action="store_true", help="return at once")
        if name == "export":
            verb.add_argument("folder", type=Path)
            verb.add_argument("--merge", action="store_true", help="the whole model with the adapter merged into it")


def _add_demo(verbs) -> None:
    verb = _verb(verbs, "build", demo.build, "make the demo model from nothing (about an hour)", model=False)
    verb.add_argument("--work-dir", type=Path, help="folder for checkpoints; an interrupted build goes on from there")
    verb.add_argument("--output", type=Path, help="folder for the model (default: the one in the package)")
    verb.add_argument("--seed", type=int, default=0)
    verb = _verb(verbs, "scene", demo.scene, "draw a scene and print its truth", model=False)
    verb.add_argument("seed", type=int, nargs="?", default=0)
    verb.add_argument("--split", default="validation", help="base, pairs, validation (default) or test")
    verb.add_argument("--output", type=Path, help="write the picture to this PNG file")
    verb = _verb(verbs, "annotate", demo.annotate, "let the oracle correct an answer about a scene", model=False)
    verb.add_argument("source", help="a scene such as demo:validation/3")
    verb.add_argument("answer")
    verb.add_argument("--question", help="what was asked (default: for a detailed description)")
    verb = _verb(
        verbs, "evaluate", demo.evaluate, "the figures of the demo model and its aligned adapter", model=False
    )
    verb.add_argument("--scenes", type=int, default=MAX_SCENES, help=f"how many test scenes (default: {MAX_SCENES})")
    verb.add_argument("--with-adapter", metavar="PATH", help="an adapter to measure (default: the one that ships)")


def _read_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"
