"""The flags that name a judge, a server whose model reads answers beside a benchmark's keys: the same for the app and
for the verbs."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from rlhfv.errors import InvalidData
from rlhfv.remote_voices import RemoteVoice, read_at_once, read_remote


@dataclass(frozen=True)
class NamedJudge:
    """A server as a judge, asked `at_once` things at once in the words of the file `prompt`, None for the studio's
    own. As with voices, the key itself is never here."""

    voice: RemoteVoice
    prompt: Path | None = None
    at_once: int = 4


def add_judge_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds the flags; returns their group, for those of a verb alone."""
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
    return group


def find_judge(arguments: argparse.Namespace) -> NamedJudge | None:
    """The judge that the flags name; None where they name none, or there are no such flags.

    Raises:
        InvalidData: its key or its prompt is not where the flags say, or a flag says how to ask a judge that none
            names.
    """
    if getattr(arguments, "judge", None) is None:
        hows = ("judge_key_env", "judge_key_file", "judge_prompt", "judge_again")
        if any(getattr(arguments, name, None) for name in hows):
            raise InvalidData("No judge is named.", "A flag says how to ask it.", "Name it with --judge URL#MODEL.")
        return None
    if arguments.judge_key_env and arguments.judge_key_file:
        raise InvalidData("The judge is given two keys.", "It sends one.", "Leave one of the flags out.")
    place = Path(arguments.judge_key_file).expanduser().resolve() if arguments.judge_key_file else None
    voice = replace(arguments.judge, key_env=arguments.judge_key_env, key_file=place)
    voice.read_key()  # a key that is not there is told now
    prompt = arguments.judge_prompt.expanduser().resolve() if arguments.judge_prompt else None
    if prompt and not prompt.is_file():
        raise InvalidData(
            f"There is no file {str(arguments.judge_prompt)!r} with a prompt for the judge.",
            "Its words are what the judge would be asked in.",
            "Check the path behind --judge-prompt, or leave the flag out for the studio's own words.",
        )
    return NamedJudge(voice, prompt, arguments.judge_at_once)


def read_judge(text: str) -> RemoteVoice:
    """The server of URL#MODEL; raises `ArgumentTypeError` for anything that is none."""
    url, _, model = text.partition("#")
    if not url.startswith(("http://", "https://")) or not model.strip():
        # What was typed is not repeated: it may hold a key.
        raise argparse.ArgumentTypeError(
            "that names no judge; write URL#MODEL, such as https://api.openai.com/v1#gpt-4-1106-preview"
        )
    return replace(read_remote(f"the judge={text}"), name=model.strip(), flag="--judge")
