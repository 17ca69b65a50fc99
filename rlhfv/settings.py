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
    """

    data_dir: Path
    model: str = DEMO_MODEL
    revision: str | None = None
    adapters: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 7860
    single_user: bool = True
    open_browser: bool = False


def default_data_dir() -> Path:
    """The folder of `RLHFV_DATA_DIR`, or a per-user folder that survives a reinstall."""
    if os.environ.get("RLHFV_DATA_DIR"):
        return Path(os.environ["RLHFV_DATA_DIR"]).expanduser()
    return Path.home() / ".local" / "share" / "rlhfv"


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that the app and every verb of the command line share."""
    parser.add_argument("--data-dir", type=Path, default=None, help="folder for answers, pairs, images and runs")
    parser.add_argument("--model", default=DEMO_MODEL, help="'demo', a Hub id or a local folder (default: demo)")
    parser.add_argument("--revision", default=None, help="commit of a Hub model; the newest when left out")
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="PATH", help="an adapter to offer; may be repeated"
    )


def settings_from_arguments(arguments: argparse.Namespace) -> Settings:
    return Settings(
        data_dir=(arguments.data_dir or default_data_dir()).expanduser().resolve(),
        model=arguments.model,
        revision=arguments.revision,
        adapters=tuple(arguments.adapter),
        host=getattr(arguments, "host", "127.0.0.1"),
        port=getattr(arguments, "port", 7860),
        # A Space is public: there nobody sees the pairs and runs of others.
        single_user="SPACE_ID" not in os.environ,
        open_browser=getattr(arguments, "open_browser", False),
    )


def parse_app_arguments(argv: list[str] | None = None) -> Settings:
    """Settings of `python app.py …`; host and port follow Gradio's own variables, which a Space sets."""
    parser = argparse.ArgumentParser(prog="app.py", description="The RLHF-V correction studio.")
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), help="address to serve")
    parser.add_argument(
        "--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", 7860)), help="port to listen on"
    )
    parser.add_argument("--open", dest="open_browser", action="store_true", help="open the page in a browser")
    add_model_arguments(parser)
    return settings_from_arguments(parser.parse_args(argv))
