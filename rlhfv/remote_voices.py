"""Voices on servers: how a flag names one, and where its key is."""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

from rlhfv.errors import InvalidData


@dataclass(frozen=True)
class RemoteVoice:
    """A voice on a server that speaks OpenAI's protocol. `name` is what the chat calls it, `url` the address as
    OpenAI's client takes it, `model` what the server calls the model. The key is never here: it is in the environment
    variable `key_env` or in the file `key_file`; without either none is sent. `flag` is what named it, for errors.
    """

    name: str
    url: str
    model: str
    key_env: str = ""
    key_file: Path | None = None
    flag: str = "--remote"

    @property
    def server(self) -> str:
        """Host and port, as identities name them."""
        return urlsplit(self.url).netloc.lower()

    @property
    def id(self) -> str:
        return f"{served_name(self.model)}@{self.server}"

    def read_key(self) -> str:
        """The key as it is now; "" where none is to be sent. Raises `InvalidData` where the named place has none."""
        if self.key_env:
            # Somebody may have typed the key itself where its variable belongs: what looks like none is not repeated.
            named = self.key_env if re.fullmatch(r"[A-Z][A-Z0-9_]*", self.key_env) else "that was named"
            key, place = os.environ.get(self.key_env, ""), f"the variable {named}"
        elif self.key_file:
            place = f"the file {self.key_file.name if self.key_file.exists() else 'that was named'}"
            try:
                key = self.key_file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                key = ""
        else:
            return ""
        key = key.strip()
        if not key or not key.isascii() or not key.isprintable():
            raise InvalidData(
                f"There is no key for {self.name!r} in {place}.",
                "It is not there, empty, or holds what cannot be sent.",
                "Put the key there, or leave the flag out where the server needs none.",
            )
        return key


def served_name(name: str) -> str:
    """A model as its server calls it, on one line; of a path of that machine only the last part."""
    name = " ".join("".join(mark if mark.isprintable() else " " for mark in name).split())[:200]
    if PurePosixPath(name).is_absolute() or name.startswith(("~", "./", "../")):
        return PurePosixPath(name).name
    return PureWindowsPath(name).name if PureWindowsPath(name).is_absolute() else name


def add_remote_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "voices on servers",
        "any server that speaks OpenAI's protocol: vLLM, TGI, llama.cpp, OpenAI, Gemini, HF Inference Providers. With "
        "two or more of them and no --model there is no model on this machine: they fill both columns",
    )
    group.add_argument(
        "--remote",
        action="append",
        type=read_remote,
        default=[],
        metavar="NAME=URL#MODEL",
        help="a voice: its name here, the server's address as OpenAI's client takes it (with /v1), and the model as "
        "the server calls it; may be repeated, as for two LoRA modules of one server. Pictures and questions go there",
    )
    group.add_argument(
        "--remote-key-env",
        action="append",
        default=[],
        metavar="[NAME=]VARIABLE",
        help="environment variable with the key of that voice; without NAME= of all, if they are on one server. No "
        "other key or token of this machine is ever sent",
    )
    group.add_argument(
        "--remote-key-file", action="append", default=[], metavar="[NAME=]FILE", help="the same, a file that holds it"
    )
    group.add_argument(
        "--remote-at-once",
        type=read_at_once,
        default=4,
        metavar="N",
        help="answers at once of one server (default: 4)",
    )


def read_remote(text: str) -> RemoteVoice:
    """The voice of NAME=URL#MODEL; raises `ArgumentTypeError` for anything that is none."""
    name, _, rest = text.partition("=")
    url, _, model = rest.partition("#")
    name, url, model = name.strip(), url.strip(), model.strip()
    if not (name and model) or not url.startswith(("http://", "https://")):
        # What was typed is not repeated, here and below: it may hold a key.
        raise argparse.ArgumentTypeError(
            "that names no voice on a server; write NAME=URL#MODEL, such as 'GPT-4o=https://api.openai.com/v1#gpt-4o'"
        )
    address = urlsplit(url)
    try:
        whole = bool(address.hostname) and (address.port is None or address.port > 0)
    except ValueError:
        whole = False
    if not whole:
        raise argparse.ArgumentTypeError(f"the address of {name!r} is none of a server")
    if address.username is not None or address.query:
        raise argparse.ArgumentTypeError(
            f"the address of {name!r} holds a name, a password or parameters; keys are given by a flag that ends in "
            "-key-env or -key-file, so that no page or log shows them"
        )
    return RemoteVoice(name, url, model)


def with_keys(voices: Sequence[RemoteVoice], variables: Sequence[str], files: Sequence[str]):
    """The voices, each with where its key is. Raises `InvalidData` where that is not said clearly."""
    if twice := {voice.name for voice in voices if sum(one.name == voice.name for one in voices) > 1}:
        raise InvalidData(
            f"Two voices are called {min(twice)!r}.",
            "The chat tells them apart by name.",
            "Give each a name of its own.",
        )
    if twice := {voice.id for voice in voices if sum(one.id == voice.id for one in voices) > 1}:
        raise InvalidData(
            f"Two voices are {min(twice)!r}.",
            "Their answers could not be told apart.",
            "Name it once; both columns can use it.",
        )
    keyed = {voice.name: voice for voice in voices}
    for flag, field, texts in (
        ("--remote-key-env", "key_env", variables),
        ("--remote-key-file", "key_file", files),
    ):
        for text in texts:
            named, _, rest = text.partition("=")
            place, meant = (rest, [named]) if named in keyed else (text, list(keyed))
            if field == "key_env" and "=" in place:
                # What does not look like a voice's name may be the key itself, which ends in "=" in base64.
                close = get_close_matches(named.casefold(), map(str.casefold, keyed), 1)
                raise InvalidData(
                    f"{flag} names no voice {named!r}." if close else f"{flag} names no known voice.",
                    f"The voices are {', '.join(map(repr, keyed)) or 'none: there is no --remote'}.",
                    "Write NAME=VARIABLE with one of these names.",
                )
            servers = {keyed[name].server for name in meant}
            if len(servers) != 1:
                raise InvalidData(
                    f"{flag} does not say for which voice.",
                    f"There are {len(servers)} servers, and a key must not reach another's.",
                    f"Write {flag} NAME={'VARIABLE' if field == 'key_env' else 'FILE'}, once for each.",
                )
            for name in meant:
                if keyed[name].key_env or keyed[name].key_file:
                    raise InvalidData(
                        f"The voice {name!r} is given two keys.", "It sends one.", "Leave one of the flags out."
                    )
                keyed[name] = replace(
                    keyed[name], **{field: place if field == "key_env" else Path(place).expanduser().resolve()}
                )
    for voice in keyed.values():
        voice.read_key()  # a key that is not there is told now, not at the first question
    return tuple(keyed.values())


def read_at_once(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 256):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of answers from 1 to 256")
    return int(text)
