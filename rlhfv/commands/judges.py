"""The flags that name a judge: a server whose model reads answers beside a benchmark's keys."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.errors import InvalidData
from rlhfv.remote_voices import RemoteVoice, read_at_once, read_remote

if TYPE_CHECKING:
    from rlhfv.evaluation.judge import Judge


def add_judge_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "a judge",
        "any server that speaks OpenAI's protocol; questions, the benchmark's keys and the answers go there as text, "
        "no pictures",
    )
    group.add_argument(
        "--judge",
        type=read_judge,
        metavar="URL#MODEL",
        help="the server's address as OpenAI's client takes it (with /v1), and the model as the server calls it. "
        "Every reply is kept, and none that counts is asked for again",
    )
    group.add_argument(
        "--judge-key-env",
        default="",
        metavar="VARIABLE",
        help="environment variable with its key; no other key or token of this machine is ever sent",
    )
    group.add_argument("--judge-key-file", metavar="FILE", help="the same, a file that holds it")
    group.add_argument(
        "--judge-prompt",
        type=Path,
        metavar="FILE",
        help="ask with the words of this file, such as the benchmark's official prompt, not with the studio's own; "
        "its sha256 stands beside the figures",
    )
    group.add_argument(
        "--judge-at-once", type=read_at_once, default=4, metavar="N", help="requests at once (default: 4)"
    )
    group.add_argument(
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
    if arguments.judge is None:
        if arguments.judge_key_env or arguments.judge_key_file or arguments.judge_prompt or arguments.judge_again:
            raise InvalidData("No judge is named.", "A flag says how to ask it.", "Name it with --judge URL#MODEL.")
        return None
    if arguments.judge_key_env and arguments.judge_key_file:
        raise InvalidData("The judge is given two keys.", "It sends one.", "Leave one of the flags out.")
    place = Path(arguments.judge_key_file).expanduser().resolve() if arguments.judge_key_file else None
    voice = replace(arguments.judge, key_env=arguments.judge_key_env, key_file=place)
    voice.read_key()  # a key that is not there is told now

    def judge(log: Path) -> "Judge":
        from rlhfv.evaluation.judge import Judge

        prompt, again, at_once = arguments.judge_prompt, arguments.judge_again, arguments.judge_at_once
        return Judge(voice, log, prompt_file=prompt, again=again, at_once=at_once, on_progress=on_progress)

    return judge


def read_judge(text: str) -> RemoteVoice:
    """The server of URL#MODEL; raises `ArgumentTypeError` for anything that is none."""
    url, _, model = text.partition("#")
    if not url.startswith(("http://", "https://")) or not model.strip():
        # What was typed is not repeated: it may hold a key.
        raise argparse.ArgumentTypeError(
            "that names no judge; write URL#MODEL, such as https://api.openai.com/v1#gpt-4-1106-preview"
        )
    return replace(read_remote(f"the judge={text}"), name=model.strip(), flag="--judge")
