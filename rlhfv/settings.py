"""Flags and environment, read once into one frozen value."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

DEMO_MODEL = "demo"


@dataclass(frozen=True)
class Settings:
    """How this studio runs.

    `adapters` are folders or Hub ids offered in the chat from the start, beside those in the data folder and those
    that ship with the model. `single_user` (the default) shares one list of pairs among all visitors of this machine.
    In a `team` people sign in, as the file `auth` says, and what one saves waits for another to accept it.
    `publish_to` is the data set on the Hub that the token of this machine keeps up to date.
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
    parser.add_argument("--model", default=DEMO_MODEL, help="'demo', a Hub id or a local folder (default: demo)")
    parser.add_argument("--revision", help="commit of a Hub model; the newest when left out")


def add_adapter_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="PATH", help="a folder or Hub id to offer; may be repeated"
    )


def settings_from_arguments(arguments: argparse.Namespace) -> Settings:
    """The settings of a program or verb that has `--data-dir` and any of the other flags."""
    auth = getattr(arguments, "auth", None)
    return Settings(
        data_dir=(arguments.data_dir or default_data_dir()).expanduser().resolve(),
        model=getattr(arguments, "model", DEMO_MODEL),
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
    )


def parse_app_arguments(argv: list[str] | None = None) -> Settings:
    """Settings of `python app.py …`; host and port follow Gradio's own variables, which a Space sets."""
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
    return settings_from_arguments(parser.parse_args(argv))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; ports are whole numbers from 1 to 65535")
    return int(text)
