"""Flags and environment, read once into one frozen value."""

import argparse
import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

from rlhfv.errors import InvalidData

DEMO_MODEL = "demo"
NO_MODEL = "none"
"""No base on this machine: every voice is on a server."""
SPACE_RUN_SECONDS = 180.0
"""A Space's processor is for all its visitors: a run ends then, with what it has learnt."""
FLAGS_VARIABLE = "RLHFV_FLAGS"
"""Flags of `app.py` from the environment, for a Space, which has no command line."""

OAUTH_VARIABLES = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")


@dataclass(frozen=True)
class RemoteVoice:
    """A voice on a server that speaks OpenAI's protocol. `name` is what the chat calls it, `url` the address as
    OpenAI's client takes it, `model` what the server calls the model. The key is never here: it is in the environment
    variable `key_env` or in the file `key_file`; without either none is sent.
    """

    name: str
    url: str
    model: str
    key_env: str = ""
    key_file: Path | None = None

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
            place = f"the file {self.key_file.name}"
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


@dataclass(frozen=True)
class Settings:
    """How this studio runs.

    `adapters` are folders or Hub ids offered in the chat from the start, beside those in the data folder and those
    that ship with the model. `single_user` (the default) shares one list of pairs among all visitors of this machine.
    In a `team` people sign in, as the file `auth` says, and what one saves waits for another to accept it.
    `publish_to` is the data set on the Hub that the token of this machine keeps up to date. `remotes` are voices on
    servers, each of which is asked for `remote_at_once` answers at once. A training here ends after `run_seconds`.
    """

    data_dir: Path
    model: str = DEMO_MODEL
    revision: str | None = None
    adapters: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7860
    single_user: bool = True
    open_browser: bool = False
    team: bool = False
    auth: Path | None = None
    publish_to: str | None = None
    remotes: tuple[RemoteVoice, ...] = ()
    remote_at_once: int = 4
    run_seconds: float | None = None
    space: "Space | None" = None

    @property
    def hub_sign_in(self) -> bool:
        """Whether visitors sign in with their account of the Hub."""
        return self.space is not None and self.space.sign_in and not self.team


@dataclass(frozen=True)
class Space:
    """The Space that this studio runs in. `author` is the person or the organisation that it belongs to, `host` its
    own address without https://, and with `sign_in` visitors can sign in with their account of the Hub."""

    id: str
    author: str
    host: str = ""
    sign_in: bool = False


def read_space() -> Space | None:
    """The Space, as its variables say it; None anywhere else. What `hf_oauth: true` in its card sets has to be whole,
    and what Gradio needs for it (`gradio[oauth]`) installed."""
    if os.environ.get("SYSTEM") != "spaces" or not os.environ.get("SPACE_ID"):
        return None
    id = os.environ["SPACE_ID"]
    told = all(os.environ.get(name) for name in OAUTH_VARIABLES)
    return Space(
        id,
        os.environ.get("SPACE_AUTHOR_NAME") or id.partition("/")[0],
        os.environ.get("SPACE_HOST", "").split(",")[0].strip(),
        told and all(importlib.util.find_spec(name) for name in ("authlib", "itsdangerous")),
    )


def served_name(name: str) -> str:
    """A model as its server calls it, on one line; of a path of that machine only the last part."""
    name = " ".join("".join(mark if mark.isprintable() else " " for mark in name).split())[:200]
    if PurePosixPath(name).is_absolute() or name.startswith(("~", "./", "../")):
        return PurePosixPath(name).name
    return PureWindowsPath(name).name if PureWindowsPath(name).is_absolute() else name


def on_zero_gpu() -> bool:
    """Whether this is a Space that borrows a GPU for each call, as the package `spaces` knows it."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def default_data_dir() -> Path:
    """The folder of `RLHFV_DATA_DIR`, or a per-user folder that survives a reinstall."""
    if os.environ.get("RLHFV_DATA_DIR"):
        return Path(os.environ["RLHFV_DATA_DIR"]).expanduser()
    return Path.home() / ".local" / "share" / "rlhfv"


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="FOLDER",
        help="where answers, pairs, images and runs are (default: $RLHFV_DATA_DIR, else ~/.local/share/rlhfv)",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="'demo', a Hub id or a local folder (default: demo)")
    parser.add_argument("--revision", help="commit of a Hub model; the newest when left out")


def add_adapter_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="PATH", help="a folder or Hub id to offer; may be repeated"
    )


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
        "--remote-at-once", type=_at_once, default=4, metavar="N", help="answers at once of one server (default: 4)"
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
            f"the address of {name!r} holds a name, a password or parameters; keys are given by --remote-key-env or "
            "--remote-key-file, so that no page or log shows them"
        )
    return RemoteVoice(name, url, model)


def _with_keys(voices: Sequence[RemoteVoice], variables: Sequence[str], files: Sequence[str]):
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
                raise InvalidData(
                    f"{flag} names no voice {named!r}.",
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


def settings_from_arguments(arguments: argparse.Namespace) -> Settings:
    """The settings of a program or verb that has `--data-dir` and any of the other flags. Raises `InvalidData` for
    flags that contradict each other."""
    auth = getattr(arguments, "auth", None)
    remotes = _with_keys(
        getattr(arguments, "remote", ()),
        getattr(arguments, "remote_key_env", ()),
        getattr(arguments, "remote_key_file", ()),
    )
    if getattr(arguments, "model", None) == NO_MODEL and hasattr(arguments, "remote") and not remotes:
        raise InvalidData(
            "--model none leaves nobody to answer.", "There is no --remote either.", "Name a model, or a --remote."
        )
    return Settings(
        data_dir=(arguments.data_dir or default_data_dir()).expanduser().resolve(),
        # Two voices on servers fill both columns: then nothing has to be in memory here.
        model=getattr(arguments, "model", None) or (NO_MODEL if len(remotes) > 1 else DEMO_MODEL),
        revision=getattr(arguments, "revision", None),
        adapters=tuple(getattr(arguments, "adapter", ())),
        host=getattr(arguments, "host", "127.0.0.1"),
        port=getattr(arguments, "port", 7860),
        # A Space is public: there nobody sees the pairs and runs of others.
        single_user="SPACE_ID" not in os.environ and auth is None,
        open_browser=getattr(arguments, "open_browser", False),
        team=auth is not None,
        auth=auth,
        publish_to=getattr(arguments, "publish_to", None),
        remotes=remotes,
        remote_at_once=getattr(arguments, "remote_at_once", 4),
        run_seconds=SPACE_RUN_SECONDS if "SPACE_ID" in os.environ else None,
        space=read_space(),
    )


def parse_app_arguments(argv: list[str] | None = None) -> Settings:
    """Settings of `python app.py …`; host and port follow Gradio's own variables, which a Space sets. The flags in the
    variable RLHFV_FLAGS come before those of the command line."""
    if argv is None:
        argv = [*shlex.split(os.environ.get(FLAGS_VARIABLE, "")), *sys.argv[1:]]
    parser = argparse.ArgumentParser(prog="app.py", description="The RLHF-V correction studio.")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), help="address to serve")
    parser.add_argument(
        "--port", type=_port, default=os.environ.get("GRADIO_SERVER_PORT") or "7860", help="port to listen on"
    )
    parser.add_argument("--open", dest="open_browser", action="store_true", help="open the page in a browser")
    parser.add_argument(
        "--publish-to",
        metavar="OWNER/NAME",
        help="push accepted pairs to this data set on the Hub, at most once a minute, with this machine's token",
    )
    parser.add_argument(
        "--auth",
        type=Path,
        metavar="USERS.JSON",
        help="people sign in, with the roles in this file: see `python -m rlhfv users add --help`",
    )
    add_data_argument(parser)
    add_model_arguments(parser)
    add_adapter_argument(parser)
    add_remote_arguments(parser)
    try:
        return settings_from_arguments(parser.parse_args(argv))
    except InvalidData as error:
        parser.error(str(error))


def _at_once(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 256):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of answers from 1 to 256")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; ports are whole numbers from 1 to 65535")
    return int(text)
