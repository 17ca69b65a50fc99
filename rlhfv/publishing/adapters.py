"""What a training run made, as a model repository: the files of the run, without the names of people who did not agree
to be named, and with a link to the data.
"""

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, ModelCard

from rlhfv.errors import InvalidData, RunFailed
from rlhfv.publishing.hub import Hub, require_repo_id
from rlhfv.publishing.pusher import Progress, repeat, silence

CARD = "rlhfv.json"
README = "README.md"
ADAPTER_CONFIG = "adapter_config.json"
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class DataLink:
    """The data set, and the commit of it, that an adapter was trained on."""

    repo: str
    commit: str


@dataclass(frozen=True)
class PushedAdapter:
    """Where an adapter is: always load it by its commit."""

    repo: str
    commit: str


def read_adapter(folder: Path) -> dict:
    """The card of a run's adapter. Raises RunFailed when there is none."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        texts = (card["run"], card["base"]["name"], card["base"]["revision"], *card["pairs"]["annotators"])
        counts = (card["pairs"]["count"], *card["pairs"]["annotators"].values())
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(count, int) for count in counts):
            raise TypeError("a field of another kind")
        return card
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFailed(
            f"The card of the run {folder.parent.name!r} cannot be read.",
            f"Its file {CARD} is damaged: {type(error).__name__} {error}.",
            "Export the adapter again, or train it once more.",
        ) from error
    except OSError as error:
        raise RunFailed(
            f"The run {folder.parent.name!r} has no adapter to publish.",
            f"Its folder has no card {CARD}, so the run did not come to its end.",
            "Resume it, then publish.",
        ) from error


def push_adapter(
    folder: Path,
    repo: str,
    hub: Hub,
    work: Path,
    shown: dict[str, str],
    data: DataLink | None = None,
    private: bool = True,
    on_progress: Progress = silence,
    wait: Callable[[float], None] = time.sleep,
) -> PushedAdapter:
    """Pushes an adapter in one commit, creating the repository if there is none (then `private` counts). The same
    adapter again makes no further commit.

    Args:
        folder: what the run made, with its cards.
        work: a folder for the copies that are sent, made and removed.
        shown: annotator → the name to publish; one that is missing is left out.

    Raises:
        RunFailed: the folder holds no adapter.
        HubRefused, HubBusy, HubMoved: as of `Pusher.push`.
    """
    require_repo_id(repo)
    card = read_adapter(folder)
    shutil.rmtree(work, ignore_errors=True)
    try:
        _copy(folder, work, card, shown, data)

        def send() -> str:
            if hub.head(repo, "model") is None:
                on_progress("creating the repository", 0, 1)
                hub.create(repo, private, "model")
            additions = [CommitOperationAdd(file.name, file) for file in sorted(work.iterdir())]
            on_progress("sending", 0, len(additions))
            return hub.commit(repo, additions, f"Adapter of the run {card['run']}", parent=None, kind="model").oid

        return PushedAdapter(repo, repeat(send, on_progress, wait))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _copy(folder: Path, work: Path, card: dict, shown: dict[str, str], data: DataLink | None) -> None:
    work.mkdir(parents=True)
    for file in folder.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copyfile(file, work / file.name)
    named = Counter()
    for annotator, count in card["pairs"]["annotators"].items():
        named[shown.get(annotator, "not named")] += count
    readme = (folder / README).read_text(encoding="utf-8")
    readme = _rename(readme, card["pairs"]["annotators"], named)
    card["pairs"]["annotators"] = dict(named)
    if data is not None:
        card["dataset"] = vars(data)
    (work / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (work / README).write_text(_link(readme, card, data), encoding="utf-8")
    config_file = work / ADAPTER_CONFIG
    if config_file.exists():
        config = _read_config(config_file)
        name, revision = card["base"]["name"], card["base"]["revision"]
        config["base_model_name_or_path"] = name  # in the run it may be a folder of this machine
        if "/" in name and _COMMIT.fullmatch(revision):
            config["revision"] = revision
        config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _read_config(file: Path) -> dict:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunFailed(
            "The settings of the adapter cannot be read.",
            f"Its {ADAPTER_CONFIG} is damaged: {error}.",
            "Train it once more, or put back a copy of the file.",
        ) from error


def _rename(readme: str, annotators: dict[str, int], named: Counter) -> str:
    """The text with its list of annotators as it may be published."""
    old, new = (", ".join(f"{name} ({count})" for name, count in sorted(who.items())) for who in (annotators, named))
    if old != new and old not in readme:
        raise InvalidData(
            f"{README} of the adapter was changed by hand.",
            "It may name people who did not agree to be named, and where could not be found.",
            "Bring the file back that the run wrote, or write the names as they may be published.",
        )
    return readme.replace(old, new) if old else readme


def _link(readme: str, card: dict, data: DataLink | None) -> str:
    page = ModelCard(readme)
    if "/" in card["base"]["name"]:
        page.data.base_model = card["base"]["name"]
    if data is None:
        return str(page)
    page.data.datasets = [data.repo]
    line = f"- **Data**: [{data.repo}](https://huggingface.co/datasets/{data.repo}) @ `{data.commit}`.\n"
    before, mark, rest = page.text.partition("- **Pairs**:")
    page.text = f"{before}{line}{mark}{rest}" if mark else f"{page.text.rstrip()}\n\n{line}"
    return str(page)
