"""Erasing: text and pictures leave the studio and its data sets for good, and what cannot be reached is named."""

import contextlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from rlhfv.corrections.erasing import Eraser, Found
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidData, NotFound, RunFailed, StudioError
from rlhfv.publishing.formats.origin import original_name
from rlhfv.publishing.token import SignInNeeded
from rlhfv.run_folder import RunFolder, row_images
from rlhfv.runs.hub_erasing import keep_rows, tell_erased, write_rows
from rlhfv.runs.hub_runs import HERE
from rlhfv.runs.local import LocalRuns
from rlhfv.services.actor import Actor
from rlhfv.services.durable import Durable
from rlhfv.services.publishing import Publishing
from rlhfv.services.sent_runs import SentRuns
from rlhfv.settings import Settings

TO_REACH_RUNS = (
    "where a run there holds it: sign in to the Hub, and send or resume a run there, or call "
    "`python -m rlhfv erase --waiting`"
)


@dataclass(frozen=True)
class Erased:
    """What went: `found` out of the store, rows out of the `runs` that had frozen them, and out of the data sets and
    repositories of runs `repos`. `waiting` are those with the reason why the rows still stand there. `unreached` says,
    in sentences, where copies may be that nobody here can erase.
    """

    found: Found
    runs: tuple[str, ...]
    repos: tuple[str, ...]
    waiting: tuple[tuple[str, str], ...]
    unreached: tuple[str, ...]


class Erasing:
    def __init__(
        self,
        settings: Settings,
        store: Store,
        shelf: ImageShelf,
        runs: LocalRuns,
        publishing: Publishing,
        sent: SentRuns,
        durable: Durable,
    ):
        self.settings, self.store, self.shelf = settings, store, shelf
        self.runs, self.publishing, self.sent, self.durable = runs, publishing, sent, durable
        self._eraser = Eraser(store.path)

    def find(self, actor: Actor, pairs: Iterable[str] = (), images: Iterable[str] = ()) -> Found:
        """What `erase` would take out of the store."""
        actor.require("manage")
        pairs, images = tuple(pairs), tuple(images)
        if not pairs and not images:
            raise InvalidData("Nothing was named.", "Erasing cannot be undone.", "Name pairs or images by their ids.")
        return self._eraser.find(pairs, images)

    def erase(
        self, actor: Actor, pairs: Iterable[str] = (), images: Iterable[str] = (), forget_history: bool = False
    ) -> Erased:
        """Takes pairs, with all that repeats their text, and images out of store, drafts, conversations, runs, data
        sets and repositories of runs on the Hub; with `forget_history` out of earlier commits there too. Nothing
        brings them back.

        Raises:
            NotFound: there never was such a pair.
            RunFailed: a run that learns from one of them is at work.
        """
        found = self.find(actor, pairs, images)
        folders = [self.runs.open(run.id) for run in self.runs.list()]
        holding = [folder for folder in folders if _holds(folder, found)]
        self._require_idle(holding)
        repos = [
            repo for repo in self.publishing.published.remotes() if self.publishing.published.placed(repo, found.pairs)
        ]
        originals = {
            original_name(revision.pair)
            for pair in found.pairs
            for revision in self.store.history(pair)
            if revision.pair is not None
        } - {""}
        self.publishing.published.withhold([*found.pairs, *found.judgements])
        for repo in self.sent.repos():
            self.sent.withhold(repo, found.pairs, _gone(found))
        self._eraser.erase(found)
        for image in _gone(found):
            self.shelf.path(image).unlink(missing_ok=True)
        for original in originals:
            if not self._eraser.is_mentioned(original):
                with contextlib.suppress(NotFound):
                    self.shelf.original(original).unlink()
        shutil.rmtree(self.settings.data_dir / "publishing", ignore_errors=True)
        for folder in holding:
            _erase_rows(folder, found)
        done, waiting, unreached = [], [], []
        for repo in repos:
            try:
                items = [*found.pairs, *found.judgements]
                unreached += self.publishing.remove_everywhere(actor, repo, items, forget_history).unreached
                done.append(repo)
            except StudioError as error:
                reason = "sign in to the Hub and push: the rows wait to be taken out"
                waiting.append((repo, reason if isinstance(error, SignInNeeded) else str(error)))
        there = self.erase_waiting(actor, forget_history)
        done += [repo for repo in there.repos if repo not in done]
        waiting += there.waiting
        unreached += there.unreached
        unreached += [
            f"what the run {folder.id} learnt: its weights cannot be made to forget; delete the run"
            for folder in holding
            if folder.adapter.is_dir() or folder.model.is_dir() or folder.checkpoints.is_dir()
        ]
        if copy := self.durable.confirm_erased():
            unreached.append(copy)
        unreached.append("exports, packed bundles, backups and copies of the data folder that somebody made")
        return Erased(
            found, tuple(folder.id for folder in holding), tuple(done), tuple(waiting), tuple(dict.fromkeys(unreached))
        )

    def erase_waiting(self, actor: Actor, forget_history: bool = False) -> Erased:
        """Takes out of the repositories of runs what still waits to be erased there; nothing else goes."""
        actor.require("manage")
        done, waiting, unreached = [], [], []
        for repo in self.sent.waiting():
            try:
                erased = self.sent.erase(self.publishing.hub(actor), repo, forget_history)
            except SignInNeeded:
                waiting.append((repo, TO_REACH_RUNS))
            except StudioError as error:
                waiting.append((repo, str(error)))
            else:
                unreached += erased.unreached
                done += [repo] if erased.runs else []
        return Erased(Found((), (), (), (), (), ()), (), tuple(done), tuple(waiting), tuple(unreached))

    def _require_idle(self, folders: list[RunFolder]) -> None:
        for folder in folders:
            run = self.runs.get(folder.id)
            if run.state in ("running", "queued", "stopping"):
                raise RunFailed(
                    f"The run '{run.title}' is {run.state} and learns from what is to be erased.",
                    "Its files would change under it.",
                    "Stop it, then erase.",
                )


def _holds(folder: RunFolder, found: Found) -> bool:
    rows, gone = _rows(folder), _gone(found)
    return len(_kept(rows, found)) < len(rows) or any((folder.images / name).exists() for name in gone)


def _rows(folder: RunFolder) -> list[dict]:
    return folder.read_rows() if folder.pairs_file.is_file() else []


def _gone(found: Found) -> set[str]:
    return {*found.images} - {*found.shared}


def _kept(rows: list[dict], found: Found) -> list[dict]:
    return keep_rows(rows, {*found.pairs}.__contains__, _gone(found).__contains__)


def _erase_rows(folder: RunFolder, found: Found) -> None:
    """Rewrites the frozen pairs without the erased ones. Such a run cannot be resumed exactly, so its log says it."""
    rows = _rows(folder)
    kept = _kept(rows, found)
    building = folder.pairs_file.with_name(f".{folder.pairs_file.name}")
    with open(building, "w", encoding="utf-8") as file:
        file.write(write_rows(kept))
        file.flush()
        os.fsync(file.fileno())
    os.replace(building, folder.pairs_file)
    used = {name for row in kept for name in row_images(row)}
    if folder.images.is_dir():
        for picture in folder.images.iterdir():
            if picture.name not in used:
                picture.unlink()
    folder.append_event("warn", message=tell_erased(len(rows) - len(kept)), **HERE)
