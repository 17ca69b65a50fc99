"""Flags and environment, read once into one frozen value."""

import argparse
import importlib.util
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from rlhfv.errors import InvalidData
from rlhfv.judge_flags import NamedJudge, add_judge_arguments, find_judge
from rlhfv.remote_voices import RemoteVoice, add_remote_arguments, with_keys

DEMO_MODEL = "demo"
NO_MODEL = "none"
"""No base on this machine: every voice is on a server."""
SPACE_RUN_SECONDS = 180.0
"""A Space's processor is for all its visitors: a run ends then, with what it has learnt."""
SPACE_ANSWERS, SPACE_ANSWERS_IN_ALL = 10, 240
"""Answers a minute on a Space, for one visitor and for all of them, unless the flags say otherwise."""
MAX_UPLOAD, SPACE_MAX_UPLOAD = 500, 25
"""Megabytes that one file may have, here and on a Space."""
SPACE_FORGET_HOURS = 1.0
"""After how many hours a Space forgets pictures and chats that nobody judged or corrected."""
DURABLE_VARIABLE = "RLHFV_DURABLE"
"""Where the copy lies when no flag says it."""
FLAGS_VARIABLE = "RLHFV_FLAGS"
"""Flags of `app.py` from the environment, for a Space, which has no command line."""

OAUTH_VARIABLES = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")


@dataclass(frozen=True)
class Settings:
    """How this studio runs.

    `adapters` are folders or Hub ids offered in the chat from the start, beside those in the data folder and those
    that ship with the model. `single_user` (the default) shares one list of pairs among all visitors of this machine.
    In a `team` people sign in, as the file `auth` says, and what one saves waits for another to accept it.
    `publish_to` is the data set on the Hub that the token of this machine keeps up to date. `remotes` are voices on
    servers, each of which is asked for `remote_at_once` answers at once. A training here ends after `run_seconds`.
    A visitor may have `answers_per_minute`, all together `answers_in_all`, other deeds in proportion; 0 is no limit.
    A file that is sent may have `max_upload` megabytes. `terms` is the owner's own text that people agree to before a
    correction is kept. `recorded` is a folder of recorded comparisons that the page opens on, in place of its own.
    `durable` is where a copy of what people saved lies that outlives this machine's disk: a folder or an address of
    the Hub. After `forget_hours` pictures and chats that nobody judged or corrected are deleted; None keeps them.
    `beside` is a second base, `base_weights` how the bases of the chat are held ("full" or "4-bit"), and a base that
    nobody asked for `unload_after` minutes leaves the memory; 0 is never. Under `public_hosts` a proxy in front of
    this machine passes requests on. `benchmarks` is the folder of the benchmarks' own files, where it is not the one
    in `data_dir`, and `judge` reads the answers that only a judge can count.
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
    answers_per_minute: int = 0
    answers_in_all: int = 0
    max_upload: int = MAX_UPLOAD
    terms: Path | None = None
    recorded: Path | None = None
    durable: Path | str | None = None
    forget_hours: float | None = None
    beside: str = ""
    base_weights: str = "full"
    unload_after: float = 0.0
    public_hosts: tuple[str, ...] = ()
    benchmarks: Path | None = None
    judge: NamedJudge | None = None

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
    parser.add_argument(
        "--model", help="'demo', a short name of `rlhfv models`, a Hub id or a local folder (default: demo)"
    )
    parser.add_argument("--revision", help="commit of a Hub model; the newest when left out")


def add_bases_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beside",
        default="",
        metavar="MODEL",
        help="a second whole model to compare with; what does not fit into memory beside it takes turns with it",
    )
    parser.add_argument(
        "--base-weights",
        choices=["full", "4-bit"],
        default="full",
        help="how the models that answer are held: 4-bit needs bitsandbytes and an NVIDIA GPU (default: full)",
    )


def add_adapter_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="PATH", help="a folder or Hub id to offer; may be repeated"
    )


def add_benchmarks_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--benchmarks",
        type=Path,
        metavar="FOLDER",
        help="where the benchmarks' own files are; `python -m rlhfv benchmark list` says which "
        "(default: benchmarks in the data folder)",
    )


def settings_from_arguments(arguments: argparse.Namespace) -> Settings:
    """The settings of a program or verb that has `--data-dir` and any of the other flags. Raises `InvalidData` for
    flags that contradict each other."""
    auth = getattr(arguments, "auth", None)
    remotes = with_keys(
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
        recorded=recorded.expanduser().resolve() if (recorded := getattr(arguments, "recorded", None)) else None,
        beside=getattr(arguments, "beside", ""),
        base_weights=getattr(arguments, "base_weights", "full"),
        unload_after=getattr(arguments, "unload_after", 0.0),
        public_hosts=tuple(getattr(arguments, "public_host", ())),
        benchmarks=place.expanduser().resolve() if (place := getattr(arguments, "benchmarks", None)) else None,
        judge=find_judge(arguments),
        **_shared_settings(arguments),
    )


def _shared_settings(arguments: argparse.Namespace) -> dict:
    """What many people who share a studio have to share: little by default on a Space, all elsewhere."""
    on_space = "SPACE_ID" in os.environ
    defaults = (SPACE_ANSWERS, SPACE_ANSWERS_IN_ALL, SPACE_MAX_UPLOAD) if on_space else (0, 0, MAX_UPLOAD)
    shared = dict(zip(("answers_per_minute", "answers_in_all", "max_upload"), defaults, strict=True))
    shared |= {name: given for name in shared if (given := getattr(arguments, name, None)) is not None}
    terms = getattr(arguments, "terms", None)
    hours = getattr(arguments, "forget_after", None)
    hours = (SPACE_FORGET_HOURS if on_space else 0.0) if hours is None else hours
    return shared | {
        "terms": terms.expanduser().resolve() if terms else None,
        "durable": read_durable(place) if (place := getattr(arguments, "durable", None)) else None,
        "forget_hours": hours or None,
    }


def read_durable(text: str) -> Path | str:
    """What `--durable` names: an address of the Hub as it is, else a folder.

    Raises:
        InvalidData: the address is of something else.
    """
    if not text.startswith("hf://"):
        return Path(text).expanduser().resolve()
    if re.fullmatch(r"hf://(buckets|datasets)/[\w.-]+/[\w.-]+", text):
        return text
    raise InvalidData(
        f"There is no place {text!r:.80} for a copy.",
        "It lies in a folder, a bucket or a data set repository.",
        "Write a folder, hf://buckets/OWNER/NAME or hf://datasets/OWNER/NAME.",
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
    parser.add_argument(
        "--public-host",
        type=_host_name,
        action="append",
        default=[],
        metavar="NAME",
        help="a name, such as studio.lab.org, by which a proxy in front of 127.0.0.1 passes requests on; may be "
        "repeated. Any other than localhost is refused there, because pages of other sites could come by it",
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
    parser.add_argument(
        "--recorded",
        type=Path,
        metavar="FOLDER",
        help="recorded comparisons that the page opens on: see `python -m rlhfv record --help`",
    )
    parser.add_argument(
        "--unload-after",
        type=_minutes,
        default=0.0,
        metavar="MINUTES",
        help="take a model that nobody asks so long out of memory; the next question loads it again (default: never)",
    )
    _add_shared_arguments(parser)
    add_data_argument(parser)
    add_benchmarks_argument(parser)
    add_model_arguments(parser)
    add_bases_arguments(parser)
    add_adapter_argument(parser)
    add_remote_arguments(parser)
    add_judge_arguments(parser)
    try:
        return settings_from_arguments(parser.parse_args(argv))
    except InvalidData as error:
        parser.error(str(error))


def _add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where many people share a studio")
    group.add_argument(
        "--answers-per-minute",
        type=_count,
        metavar="N",
        help="answers that one visitor may have in a minute, pictures, corrections and runs in proportion; 0 is no "
        f"limit (default: 0, on a Space {SPACE_ANSWERS})",
    )
    group.add_argument(
        "--answers-in-all",
        type=_count,
        metavar="N",
        help=f"the same for all visitors together (default: 0, on a Space {SPACE_ANSWERS_IN_ALL})",
    )
    group.add_argument(
        "--max-upload",
        type=_megabytes,
        metavar="MB",
        help=f"size of a file that may be sent (default: {MAX_UPLOAD}, on a Space {SPACE_MAX_UPLOAD})",
    )
    group.add_argument(
        "--terms",
        type=Path,
        metavar="FILE",
        help="a text that people agree to before a correction of theirs is kept; when it changes they are asked again "
        "(default: none, on a Space a short one)",
    )
    group.add_argument(
        "--durable",
        default=os.environ.get(DURABLE_VARIABLE) or None,
        metavar="PLACE",
        help="where a copy of what people save lies that outlives this machine's disk, and from which an empty data "
        "folder is filled: a folder, such as a mounted bucket, hf://buckets/OWNER/NAME or hf://datasets/OWNER/NAME, "
        f"both private and with this machine's token (default: ${DURABLE_VARIABLE})",
    )
    group.add_argument(
        "--forget-after",
        type=_hours,
        metavar="HOURS",
        help="delete pictures and chats that nobody judged or corrected after so long; 0 keeps them (default: 0, on a "
        f"Space {SPACE_FORGET_HOURS:g})",
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 1_000_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of answers; 0 is no limit")
    return int(text)


def _megabytes(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 100_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no size in megabytes from 1 to 100000")
    return int(text)


def _hours(text: str) -> float:
    if not (re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII) and float(text) <= 10_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours; 0 keeps everything")
    return float(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes <= 7 * 24 * 60:
        raise argparse.ArgumentTypeError(f"{text!r} are no minutes from 0 to a week")
    return minutes


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", text, re.ASCII | re.IGNORECASE):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a host; write it as in studio.lab.org")
    return text.lower()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; ports are whole numbers from 1 to 65535")
    return int(text)
