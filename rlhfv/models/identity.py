"""Which weights answered: a digest of the files that decide it, independent of where the folder lies."""

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.errors import ModelUnavailable

WEIGHT_SUFFIXES = (".safetensors", ".bin")
ADAPTER_CARD = "rlhfv.json"
"""File beside weights that this studio made: {"base": {"name", "revision"}, "recipe", "run"}."""
RUN_ID = re.compile(r"[\w.-]{1,100}")


@lru_cache(maxsize=4096)
def _file_digest(path: str, modified_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file in hexadecimal; computed again only when size or time of change differ."""
    status = path.stat()
    return _file_digest(str(path), status.st_mtime_ns, status.st_size)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold weights, sorted by name; safetensors win over pickled copies of the same weights."""
    for suffix in WEIGHT_SUFFIXES:
        found = sorted(path for path in folder.glob(f"*{suffix}") if path.name != "training_args.bin")
        if found:
            return found
    return []


def digest_of(files: dict[str, str]) -> str:
    """One sha256 over file names and their digests."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def folder_identity(folder: Path) -> ModelIdentity:
    """Name of the folder and sha256 of its weights and `config.json`.

    Raises:
        ModelUnavailable: the folder holds no model.
    """
    folder = Path(folder)
    config, weights = folder / "config.json", weight_files(folder)
    if not config.is_file() or not weights:
        raise ModelUnavailable(
            f"The folder {folder.name!r} holds no model.",
            "It needs a config.json and weights (*.safetensors or *.bin).",
            "Name the folder that save_pretrained wrote, or a Hub id.",
        )
    digest = digest_of({path.name: file_digest(path) for path in [config, *weights]})
    return ModelIdentity(name=folder.resolve().name, revision=digest)


def read_adapter_card(folder: Path) -> dict:
    """What this studio wrote beside an adapter or a model it trained; empty for those from elsewhere.

    Raises:
        ModelUnavailable: the file is there and is not such a card.
    """
    path = Path(folder) / ADAPTER_CARD
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        base = card.get("base", {"name": "", "revision": ""})
        if isinstance(base["name"], str) and isinstance(base["revision"], str):
            return card
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise ModelUnavailable(
        f"The file {ADAPTER_CARD} in {Path(folder).name!r} cannot be read.",
        "It has to name the base as {'name': …, 'revision': …}.",
        "Take the folder as the run wrote it, or delete that file.",
    )


def adapter_digest(folder: Path) -> str:
    """sha256 over the weights and the settings of an adapter; the name of its base, often a path, is left out.

    Raises:
        ModelUnavailable: the folder holds no adapter.
    """
    folder = Path(folder)
    config = folder / "adapter_config.json"
    weights = [path for path in weight_files(folder) if path.name.startswith("adapter_model")]
    if not config.is_file() or not weights:
        raise ModelUnavailable(
            f"The folder {folder.name!r} holds no adapter.",
            "It needs adapter_config.json and adapter_model.safetensors (or adapter_model.bin).",
            "Name the folder that a training run or PEFT's save_pretrained wrote.",
        )
    try:
        settings = dict(json.loads(config.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelUnavailable(
            f"The settings of the adapter {folder.name!r} cannot be read.",
            f"Its adapter_config.json is damaged: {error}.",
            "Download or export the adapter again.",
        ) from error
    settings.pop("base_model_name_or_path", None)
    stable = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return digest_of({"adapter_config.json": stable, **{path.name: file_digest(path) for path in weights}})


def adapter_identity(folder: Path, name: str | None = None) -> str:
    """`name@sha256[:12]`; without `name` its `own_name`."""
    return f"{name or own_name(folder)}@{adapter_digest(folder)[:12]}"


def own_name(folder: Path) -> str:
    """The run that made an adapter or a model, else the name of its folder."""
    run = read_adapter_card(folder).get("run")
    return run if isinstance(run, str) and RUN_ID.fullmatch(run) else Path(folder).resolve().name
