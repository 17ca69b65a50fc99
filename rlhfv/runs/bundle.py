"""What another machine needs for a run: this package as a wheel, the versions in use, the frozen files of the run and,
where it is no model of the Hub, the base.

    rlhfv-….whl  requirements.txt
    runs/<id>/                 config.json, pairs.jsonl, images/, adapters/, and the last checkpoint when it has one
    bases/<digest>/<name>/     a base that is a folder of this machine, only where its owner said so

A folder made by `pack` and a repository that runs are sent to have the same layout.
"""

import base64
import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import rlhfv
from rlhfv.errors import NotFound, RunFailed, StudioError
from rlhfv.run_folder import RunFolder, check_name
from rlhfv.units import human_bytes

REQUIREMENTS = "requirements.txt"
FROZEN = ("config.json", "pairs.jsonl", "images", "adapters")
REFERENCE = "reference.safetensors"
_PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "huggingface-hub", "pillow", "numpy")
_BEGINNING = (1980, 1, 1, 0, 0, 0)


class BaseStaysHere(StudioError):
    """The base of a run is a folder of this machine, and nobody said that its files may leave it."""


def pack(run: RunFolder, folder: Path, base_path: Path | None = None, with_base: bool = False) -> Path:
    """Write the bundle of `run` to `folder`, which appears whole or not at all.

    Args:
        base_path: where the base lives, when it is a folder of this machine.
        with_base: its files may go along.

    Raises:
        RunFailed: the folder exists.
        BaseStaysHere: the base would have to go along; with its size.
    """
    folder = Path(folder)
    if folder.exists():
        raise RunFailed(f"{folder.name!r} exists already.", "A bundle is written once.", "Name another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pack-", dir=folder.parent) as work:
        building = Path(work, "bundle")
        for path, source in list_files(run, base_path, with_base, Path(work)).items():
            target = building / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        os.rename(building, folder)
    return folder


def list_files(run: RunFolder, base_path: Path | None, with_base: bool, work: Path) -> dict[str, Path]:
    """Path in the bundle → file, of everything in it; the wheel and the requirements are written to `work`.

    Raises:
        BaseStaysHere: see `pack`.
    """
    config = run.read_config()
    found = {}
    if base_path is not None:
        files = base_files(base_path)
        if not with_base:
            size = sum(file.stat().st_size for file in files)
            raise BaseStaysHere(
                f"The base {config['base']['name']!r} is a folder of this machine ({human_bytes(size)}).",
                "Another machine cannot fetch it by a name.",
                "Say that its files may go along, or train on a model of the Hub.",
            )
        home = base_home(config)
        found = {f"{home}/{file.relative_to(base_path).as_posix()}": file for file in files}
    wheel = write_wheel(work)
    found[wheel.name] = wheel
    quantised = config.get("training", {}).get("base_weights") == "4-bit"
    needed = list_requirements() + ("bitsandbytes>=0.49\n" if quantised else "")
    (work / REQUIREMENTS).write_text(needed, encoding="utf-8")
    found[REQUIREMENTS] = work / REQUIREMENTS
    for name in FROZEN:
        found |= _below(run, run.path / name)
    checkpoint = run.last_checkpoint()
    if checkpoint is not None:
        found |= _below(run, checkpoint) | _below(run, run.path / REFERENCE)
    return found


def find_runs(folder: Path) -> list[RunFolder]:
    """The runs of a bundle. Raises NotFound when the folder is none."""
    found = sorted(path.parent for path in Path(folder).glob("runs/*/config.json"))
    if not found:
        raise NotFound(
            f"The folder {Path(folder).name!r} holds no run.",
            "A bundle has its run below `runs`.",
            "Name a folder that `python -m rlhfv runs pack` wrote.",
        )
    return [RunFolder(path) for path in found]


def find_base_files(folder: Path, config: dict) -> Path | None:
    """The base that came with a run, None when it is fetched by its name."""
    home = Path(folder, base_home(config))
    return home if home.is_dir() else None


def base_home(config: dict) -> str:
    """Where in a bundle the files of a run's base lie, if they came along."""
    base = config["base"]
    return f"bases/{check_name(base['revision'], 'revision')[:16]}/{check_name(base['name'], 'name of the base')}"


def base_files(base_path: Path) -> list[Path]:
    """The files that make a model: config, processor, template, weights."""
    from rlhfv.models.catalog import MODEL_FILES
    from rlhfv.models.identity import weight_files

    kept = {file for pattern in MODEL_FILES for file in Path(base_path).glob(pattern) if file.is_file()}
    return sorted(kept | set(weight_files(base_path)))


def list_requirements() -> str:
    """The packages that a run needs, at the versions in use here; which build of torch it is, the other machine's
    hardware decides."""
    versions = [(name, metadata.version(name).partition("+")[0]) for name in _PACKAGES]
    return "".join(f"{name}=={version}\n" for name, version in versions)


def python_version() -> str:
    """The Python that these versions were used with, "3.11"."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def write_wheel(folder: Path) -> Path:
    """This package as it runs, as a wheel (PEP 427) that any pip installs. Equal sources make equal bytes, and the
    version names them: needs no network and no build tool."""
    sources = dict(_sources())
    version = _version(sources)
    about = f"rlhfv-{version}.dist-info"
    files = sources | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: rlhfv\nVersion: {version}\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: rlhfv\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    path = Path(folder) / _wheel_name(version)
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _BEGINNING)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            # The weights of the demo model are most of it: the default level takes three times as long for 1 % less.
            wheel.writestr(entry, data, compresslevel=1)
    return path


def warn_of_version(run: RunFolder, wheel: str, place: str = "bundle", fetch: str = "") -> bool:
    """Say in the run's events that another rlhfv than the one in `wheel`, a file name, is about to work on it, and how
    to use that one; nothing is said where they are the same, or when no wheel is named.

    Args:
        place: the folder with wheel and requirements; `fetch` is the command that brings them there, if one must.
    """
    own = _wheel_name(_version(dict(_sources())))
    if not wheel or wheel == own:
        return False
    install = f"{fetch and f'{fetch} && '}pip install -r {place}/{REQUIREMENTS} {place}/{wheel}"
    run.append_event(
        "warn",
        what=f"This machine trains with {_read_version(own)}; the run was sent with {_read_version(wheel)}.",
        why="Another version may compute something else.",
        fix=f"For the same one stop the run, call `{install}` in a new environment, and start the worker there, in a "
        "folder that holds no other rlhfv.",
    )
    return True


def _version(sources: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sources.items():
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return f"{rlhfv.__version__}+{digest.hexdigest()[:12]}"


def _wheel_name(version: str) -> str:
    return f"rlhfv-{version}-py3-none-any.whl"


def _read_version(wheel: str) -> str:
    return f"rlhfv {wheel.removeprefix('rlhfv-').removesuffix('-py3-none-any.whl')}"


def _sources() -> Iterator[tuple[str, bytes]]:
    package = Path(rlhfv.__file__).resolve().parent
    for file in sorted(package.rglob("*")):
        inside = file.relative_to(package)
        # Gradio writes a .pyi beside a component when the studio is opened.
        if (
            file.is_file()
            and file.suffix not in (".pyc", ".pyi")
            and not any(part.startswith(".") for part in inside.parts)
        ):
            yield f"rlhfv/{inside.as_posix()}", file.read_bytes()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _below(run: RunFolder, path: Path) -> dict[str, Path]:
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    return {f"runs/{run.id}/{file.relative_to(run.path).as_posix()}": file for file in files}
