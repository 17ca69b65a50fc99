"""The loop of the studio without a browser: `python -m rlhfv <verb>`.

Data goes to stdout (`--json` for machines), progress and messages to stderr. Exit codes: 0 done, 1 a run failed, 2 a
request that cannot work, 130 interrupted.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rlhfv import __version__
from rlhfv.commands import (
    benchmarks,
    chat,
    convert,
    demo,
    doctor,
    erase,
    evaluations,
    leaderboard,
    models,
    pairs,
    publish,
    reask,
    record,
    reproduce,
    reviews,
    runs,
    tasks,
    users,
    workers,
)
from rlhfv.commands.terminal import run
from rlhfv.corrections.edits import KINDS
from rlhfv.corrections.pairs import PAIR_OUTCOMES
from rlhfv.corrections.reviews import STATES
from rlhfv.ddpo.config import RECIPES
from rlhfv.evaluation.demo_world import MAX_SCENES
from rlhfv.publishing.formats import FORMATS
from rlhfv.services.people import ROLES
from rlhfv.settings import (
    add_adapter_argument,
    add_bases_arguments,
    add_benchmarks_argument,
    add_data_argument,
    add_model_arguments,
    add_remote_arguments,
)

_MODEL_OF_CHAT = (add_data_argument, add_model_arguments, add_adapter_argument)
_VOICES = (*_MODEL_OF_CHAT, add_bases_arguments, add_remote_arguments)


def main(argv: list[str] | None = None) -> int:
    """Runs one verb and returns its exit code."""

    def act() -> int | None:
        arguments = build_parser().parse_args(argv)
        return arguments.act(arguments)

    return run(act)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rlhfv", description="The RLHF-V correction studio, in a terminal."
    )
    parser.add_argument("--version", action="version", version=f"rlhfv {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_chat(verbs)
    _add_answer(verbs)
    _add_record(verbs)
    _add_tasks(_group(verbs, "tasks", "the queue of answers to be corrected"))
    of_pairs = _group(verbs, "pairs", "the corrections made so far")
    _add_pairs(of_pairs)
    _add_reviews(of_pairs)
    _add_train(verbs)
    of_runs = _group(verbs, "runs", "training runs and evaluations")
    _add_runs(of_runs)
    _add_workers(of_runs)
    _add_evaluate(verbs)
    of_benchmarks = _group(verbs, "benchmark", "the field's benchmarks, from files of yours, answered by any voice")
    benchmarks.add_verbs(partial(_verb, of_benchmarks))
    leaderboard.add_verb(partial(_verb, verbs))
    _add_publish(_group(verbs, "publish", "the data set and the adapters on the Hub"))
    _add_erase(verbs)
    _add_users(_group(verbs, "users", "who may sign in to a shared studio"))
    _add_doctor(verbs)
    _add_models(verbs)
    _add_demo(_group(verbs, "demo", "the demo model's own world of drawn scenes"))
    return parser


def _group(verbs, name: str, help: str):
    return verbs.add_parser(name, help=help, description=help).add_subparsers(metavar="VERB", required=True)


def _verb(verbs, name: str, act: Callable, help: str, *shared: Callable) -> argparse.ArgumentParser:
    """A verb with `--json` and the flags that the functions `shared` add."""
    parser = verbs.add_parser(name, help=help, description=help)
    for add_flags in shared:
        add_flags(parser)
    parser.add_argument("--json", action="store_true", help="data as JSON on stdout")
    parser.set_defaults(act=act)
    return parser


def _add_chat(verbs) -> None:
    verb = _verb(
        verbs,
        "chat",
        chat.chat,
        "ask two voices about a picture; without a question, line by line; Ctrl-C ends an answer",
        *_VOICES,
    )
    verb.add_argument("question", nargs="?", help="one question; without it, lines are read until an empty one")
    verb.add_argument(
        "--image",
        type=Path,
        action="append",
        default=[],
        help="a picture to begin a new conversation with; may be repeated. Without it the last conversation goes on",
    )
    verb.add_argument("--scene", action="store_true", help="draw a fresh scene: begins a new conversation")
    verb.add_argument("--left", help="voice of the left answer, by id or title")
    verb.add_argument("--right", help="voice of the right answer, by id or title")
    verb.add_argument("--temperature", type=float, default=0.0, help="0, the default, is greedy; up to 2")
    verb.add_argument(
        "--top-p", type=float, default=1.0, help="sample from the likeliest tokens of this total (default: 1)"
    )
    verb.add_argument("--max-new-tokens", type=int, help="longest answer, in tokens (default: the model's own)")
    verb.add_argument("--seed", type=int, default=0, help="of the sampling; it repeats an answer (default: 0)")


def _add_tasks(verbs) -> None:
    verb = _verb(verbs, "add", tasks.add, "take in pictures with questions, or rows with answers", add_data_argument)
    verb.add_argument("path", help="a folder of pictures, a JSONL file, a folder with tasks.jsonl, or a Hub dataset")
    verb.add_argument("--question", action="append", default=[], help="asked of each picture; may be repeated")
    verb.add_argument("--batch", default="", help="a name for what comes in together")
    verb.add_argument("--hub", action="store_true", help="PATH is a dataset on the Hub with a column 'image'")
    verb.add_argument("--limit", type=_read_count, help="at most so many rows of a Hub dataset")
    _add_token_options(verb)
    verb = _verb(verbs, "list", tasks.list_tasks, "the tasks, oldest first", add_data_argument)
    verb.add_argument(
        "--due", choices=["answer", "first", "second", "nothing"], help="only those that wait for this: see `status`"
    )
    verb.add_argument("--offset", type=_read_count, default=0, help="how many to leave out at the top (default: 0)")
    verb.add_argument("--limit", type=_read_count, default=50, help="how many to list (default: 50)")
    verb = _verb(verbs, "next", tasks.show_next, "what to correct next, or why there is nothing", add_data_argument)
    verb.add_argument("--after", metavar="ANSWER", help="the id of the answer to leave")
    _verb(verbs, "status", tasks.status, "how far the work is, agreement and gold items", add_data_argument)
    verb = _verb(verbs, "settings", tasks.settings, "how the queue works; changes what is named", add_data_argument)
    verb.add_argument("--second-share", type=float, help="share of tasks for a second, blind annotator, 0 to 1")
    verb.add_argument("--gold-share", type=float, help="share of gold items among what is handed out, 0 to 1")
    verb.add_argument("--reserve-minutes", type=float, help="how long an opened item stays reserved")
    verb.add_argument("--guideline", type=Path, help="a text file, shown beside the editor")


def _add_answer(verbs) -> None:
    verb = _verb(verbs, "answer", tasks.answer, "write a model's answers to the tasks that wait for one", *_VOICES)
    verb.add_argument(
        "--voice", help="an adapter or a voice on a server, by id or title (default: the first on offer)"
    )
    verb.add_argument("--batch-size", type=_read_count, default=16, help="tasks a batch (default: 16)")
    verb.add_argument("--temperature", type=float, default=0.0, help="0, the default, is greedy; up to 2")
    verb.add_argument(
        "--top-p", type=float, default=1.0, help="sample from the likeliest tokens of this total (default: 1)"
    )
    verb.add_argument("--max-new-tokens", type=int, help="longest answer, in tokens (default: the model's own)")
    verb.add_argument("--seed", type=int, default=0, help="of the sampling; it repeats an answer (default: 0)")


def _add_record(verbs) -> None:
    help = "record a comparison that the page opens on, before any model is loaded"
    record.add_flags(_verb(verbs, "record", record.record, help, *_VOICES))


def _add_reviews(verbs) -> None:
    reviews.add_flags(_verb(verbs, "stats", reviews.stats, "corrections by kind, person and model", add_data_argument))
    verb = _verb(verbs, "accept", reviews.accept, "let submitted pairs count", add_data_argument)
    verb.add_argument("id", nargs="+", help="as `pairs list` prints them")
    verb = _verb(verbs, "return", reviews.send_back, "send a submitted pair back to its author", add_data_argument)
    verb.add_argument("id", help="as `pairs list` prints it")
    verb.add_argument("--comment", required=True, help="what is wrong")
    for name, act, help in (
        ("withdraw", reviews.withdraw, "take an acceptance back"),
        ("undo", reviews.undo, "undo the last action on a pair; again: one further back"),
        ("story", reviews.story, "what happened to a pair, in sentences"),
    ):
        verb = _verb(verbs, name, act, help, add_data_argument)
        verb.add_argument("id", help="as `pairs list` prints it")
    for name, act, help in (
        ("choose", reviews.choose, "accept one of two corrections of an answer; the other is superseded"),
        ("merge", reviews.merge, "accept a correction with the edits of another one of the same answer"),
    ):
        verb = _verb(verbs, name, act, help, add_data_argument)
        verb.add_argument("id", help="the pair that stays")
        verb.add_argument("other", help="the pair that is superseded")
        if name == "merge":
            verb.add_argument("--edits", type=Path, help="JSON list of all edits that hold, where the two contradict")


def _add_pairs(verbs) -> None:
    verb = _verb(verbs, "list", pairs.list_pairs, "search the pairs, newest first", add_data_argument)
    verb.add_argument("--text", default="", help="words of the question or the answers; the last may be a beginning")
    verb.add_argument("--kind", choices=list(KINDS), help="kind of a correction")
    verb.add_argument("--annotator", help="who made the pair, as `pairs list` names them")
    verb.add_argument("--by-model", metavar="MODEL", help="the model whose answer was corrected, as `pairs show` says")
    verb.add_argument("--state", choices=STATES, help="how the pair stands with the reviewers")
    verb.add_argument("--outcome", choices=PAIR_OUTCOMES, help="corrected by hand, or only preferred")
    verb.add_argument("--offset", type=_read_count, default=0, help="how many to leave out at the top (default: 0)")
    verb.add_argument("--limit", type=_read_count, default=50, help="how many to list (default: 50)")
    verb = _verb(verbs, "show", pairs.show_pair, "one pair with its history", add_data_argument)
    verb.add_argument("id", help="as `pairs list` prints it")
    verb = _verb(verbs, "export", pairs.export, "write the accepted pairs to a folder", add_data_argument)
    verb.add_argument("folder", type=Path, help="made if need be; an earlier export in it is replaced")
    form = verb.add_mutually_exclusive_group()
    form.add_argument(
        "--format", choices=list(FORMATS), default="jsonl", help="default: jsonl, pairs.jsonl with images/ beside it"
    )
    form.add_argument("--datasets", action="store_true", help="a folder for datasets.load_from_disk instead")
    verb = _verb(
        verbs, "import", pairs.take_in, "take in pairs; good rows are kept, bad ones named", add_data_argument
    )
    verb.add_argument(
        "path", help="a JSONL, JSON or Parquet file, a folder of them, a zip of an export, or the id of a Hub dataset"
    )
    verb.add_argument("--format", choices=list(FORMATS), help="default: told by the columns")
    _add_token_options(verb)


def _add_train(verbs) -> None:
    verb = _verb(
        verbs,
        "train",
        runs.train,
        "train an adapter on the pairs and follow it to its end",
        add_data_argument,
        add_model_arguments,
    )
    verb.add_argument("--data", type=Path, help="a JSONL file or a folder with pairs.jsonl, instead of the own pairs")
    verb.add_argument("--recipe", default="demo", choices=list(RECIPES), help="settings to start from (default: demo)")
    runs.add_run_flags(verb)
    away = verb.add_argument_group("another machine", "without --backend the run trains here")
    away.add_argument("--backend", default="", metavar="OWNER/NAME", help="private repository that workers watch")
    _add_away_options(away)
    _add_token_options(verb)
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
    help = "is an adapter better than its baseline: on drawn scenes of known truth, or on the field's benchmarks"
    evaluations.add_flags(_verb(verbs, "evaluate", evaluations.evaluate, help, *_VOICES, add_benchmarks_argument))


def _add_runs(verbs) -> None:
    _verb(verbs, "list", runs.list_runs, "all runs, newest first", add_data_argument)
    for name, act, help in (
        ("show", runs.show_run, "state, settings and last lines of a run"),
        ("follow", runs.follow_run, "show a run from its start to its end; with --json its events, one a line"),
        ("stop", runs.stop, "end a run; a checkpoint is kept"),
        ("resume", runs.resume, "go on with a stopped or failed run"),
        ("export", runs.export, "write the adapter, or the whole model, for other software"),
    ):
        verb = _verb(verbs, name, act, help, add_data_argument)
        verb.add_argument("id", help="as `runs list` prints it")
        if name == "resume":
            verb.add_argument("--detach", action="store_true", help="return at once")
            _add_job_options(verb)
        if name in ("follow", "stop", "resume"):
            _add_token_options(verb)
        if name == "export":
            verb.add_argument("folder", type=Path, help="a folder that is not there yet")
            verb.add_argument("--merge", action="store_true", help="the whole model with the adapter merged into it")
    verb = _verb(verbs, "reask", reask.reask, "ask the corrected questions of a run again: are they mended?", *_VOICES)
    verb.add_argument("id", help="as `runs list` prints it")
    verb.add_argument("--voice", help="who is asked, by id or title, on a server too (default: the run's adapter)")


def _add_workers(verbs) -> None:
    verb = _verb(verbs, "pack", workers.pack, "write all that another machine needs for a run", add_data_argument)
    verb.add_argument("id", help="as `runs list` prints it")
    verb.add_argument("folder", type=Path, help="a folder that is not there yet; `runs work FOLDER` trains it")
    verb.add_argument("--with-base", action="store_true", help="the files of a base that is a local folder go along")
    verb = _verb(verbs, "send", workers.send, "queue a run in a private repository, for a worker", add_data_argument)
    verb.add_argument("id", help="as `runs list` prints it")
    _add_away_options(verb)
    _add_hub_options(verb)
    verb = _verb(verbs, "offers", workers.offers, "the Hub's machines: price, and what a run takes", add_data_argument)
    verb.add_argument("id", help="as `runs list` prints it")
    _add_hub_options(verb)
    verb = _verb(
        verbs,
        "work",
        workers.work,
        "train what is queued in a private repository, or in a folder that `runs pack` wrote",
        add_data_argument,
    )
    verb.add_argument("where", metavar="WHERE", help="OWNER/NAME, OWNER/NAME@COMMIT, or a folder")
    verb.add_argument("--once", action="store_true", help="end after one run, or when there is none")
    verb.add_argument("--run", default="", help="take this run only")
    verb.add_argument("--name", default="", help="how the repository names this machine (default: its own name)")
    _add_token_options(verb)
    verb = _verb(verbs, "queue", workers.queue, "the runs and the workers of a repository", add_data_argument)
    _add_hub_options(verb)


def _add_away_options(verb) -> None:
    verb.add_argument("--with-base", action="store_true", help="the files of a base that is a local folder go along")
    _add_job_options(verb)


def _add_job_options(verb) -> None:
    verb.add_argument("--flavor", default="", help="train as a job on this machine of the Hub: see `runs offers`")
    verb.add_argument("--timeout", type=_read_count, metavar="MINUTES", help="of a job (default: twice the estimate)")
    verb.add_argument("--image", help="container image of a job (default: python of this version)")


def _add_erase(verbs) -> None:
    verb = _verb(
        verbs, "erase", erase.erase, "take pairs and pictures out of store, runs and Hub for good", add_data_argument
    )
    verb.add_argument("pair", nargs="*", help="the ids of pairs; all that repeats their text goes too")
    verb.add_argument("--image", action="append", default=[], help="a stored picture, with all that is about it")
    verb.add_argument("--forget-history", action="store_true", help="the earlier commits on the Hub go too")
    verb.add_argument(
        "--waiting", action="store_true", help="only what could not be taken out of repositories of runs before"
    )
    _add_token_options(verb)
    verb.add_argument("--yes", action="store_true", help="do not ask")


def _add_users(verbs) -> None:
    for name, act, help in (
        ("add", users.add, "let somebody sign in"),
        ("disable", users.disable, "end somebody's access; what they saved stays"),
        ("reset", users.reset, "give a new password, and access again"),
        ("list", users.list_users, "everybody with their role"),
    ):
        verb = _verb(verbs, name, act, help)
        verb.add_argument("--auth", type=Path, default=Path("users.json"), help="the file (default: users.json)")
        if name != "list":
            verb.add_argument("name", help="the name to sign in with")
        if name == "add":
            verb.add_argument("--role", choices=list(ROLES), default="annotator", help="(default: annotator)")
        if name in ("add", "reset"):
            verb.add_argument("--password-stdin", action="store_true", help="read it from stdin instead of asking")


def _add_publish(verbs) -> None:
    verb = _verb(verbs, "push", publish.push, "bring a data set up to date; a new one is private", add_data_argument)
    verb.add_argument("--pull-request", action="store_true", help="propose the change instead of making it")
    _add_hub_options(verb, "public")
    verb = _verb(
        verbs, "pull", publish.pull, "take a published data set in, joined with the own pairs", add_data_argument
    )
    _add_hub_options(verb)
    verb = _verb(verbs, "status", publish.status, "what waits, what stays here and why", add_data_argument)
    verb.add_argument("repo", nargs="?", metavar="OWNER/NAME", help="the data set (default: the one used last)")
    verb = _verb(verbs, "adapter", publish.adapter, "publish what a training run made", add_data_argument)
    verb.add_argument("run", help="as `runs list` prints it")
    _add_hub_options(verb, "public")


def _add_token_options(verb: argparse.ArgumentParser) -> None:
    token = verb.add_mutually_exclusive_group()
    token.add_argument(
        "--token-env", default="HF_TOKEN", metavar="NAME", help="variable with a token of the Hub (default: HF_TOKEN)"
    )
    token.add_argument("--login", action="store_true", help="the token that `hf auth login` saved on this machine")


def _add_hub_options(verb: argparse.ArgumentParser, *flags: str) -> None:
    verb.add_argument("repo", metavar="OWNER/NAME", help="the repository on the Hub")
    _add_token_options(verb)
    if "public" in flags:
        verb.add_argument("--public", action="store_true", help="if it is created now, everybody may read it")


def _add_doctor(verbs) -> None:
    verb = _verb(
        verbs,
        "doctor",
        doctor.doctor,
        "try a model on this machine: training, memory, seconds a pair, two answers",
        add_model_arguments,
    )
    verb.add_argument(
        "--image",
        type=Path,
        action="append",
        default=[],
        help="a picture to try it on; may be repeated (default: drawn)",
    )


def _add_models(verbs) -> None:
    models.add_flags(_verb(verbs, "models", models.models, "the models that have a short name here, and what fits"))
    help = "make a checkpoint of the original LLaVA code loadable here"
    convert.add_flags(_verb(verbs, "convert", convert.convert, help))
    help = "RLHF-V's own experiments, on the demo model or on a real one (--model, --data): which claims hold there"
    reproduce.add_flags(_verb(verbs, "reproduce", reproduce.reproduce, help, add_data_argument))


def _add_demo(verbs) -> None:
    verb = _verb(verbs, "build", demo.build, "make the demo model from nothing (about an hour)", add_data_argument)
    verb.add_argument("--work-dir", type=Path, help="folder for checkpoints; an interrupted build goes on from there")
    verb.add_argument("--output", type=Path, help="folder for the model (default: the one in the package)")
    verb.add_argument("--seed", type=int, default=0, help="of weights and scenes (default: 0, the shipped model's)")
    verb = _verb(verbs, "scene", demo.scene, "draw a scene and print its truth")
    verb.add_argument("seed", type=int, nargs="?", default=0, help="number of the scene in its split (default: 0)")
    verb.add_argument("--split", default="validation", help="base, pairs, validation (default) or test")
    verb.add_argument("--output", type=Path, help="write the picture to this PNG file")
    verb = _verb(verbs, "annotate", demo.annotate, "let the oracle correct an answer about a scene")
    verb.add_argument("source", help="a scene such as demo:validation/3, as `demo scene` names it")
    verb.add_argument("answer", help="the text to correct")
    verb.add_argument("--question", help="what was asked (default: for a detailed description)")
    verb = _verb(verbs, "evaluate", demo.evaluate, "the figures of the demo model and its aligned adapter")
    verb.add_argument("--scenes", type=int, default=MAX_SCENES, help=f"how many test scenes (default: {MAX_SCENES})")
    verb.add_argument("--with-adapter", metavar="PATH", help="an adapter to measure (default: the one that ships)")


def _read_count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _read_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"
