"""The repositories that runs were sent to, and what is still to be erased there."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from rlhfv.corrections.store import Store
from rlhfv.errors import NotFound
from rlhfv.runs.hub_erasing import erase_rows
from rlhfv.runs.hub_runs import HubRuns
from rlhfv.runs.local import LocalRuns

if TYPE_CHECKING:
    from rlhfv.publishing.hub import Hub

_KEY = "repositories of runs"


@dataclass(frozen=True)
class ErasedThere:
    """`runs` of a repository held some of it; `unreached` says where copies may be."""

    runs: tuple[str, ...]
    unreached: tuple[str, ...]


class SentRuns:
    """Kept in the store, as a repository outlives the runs that are known here; what is to be erased stands there as
    hashes of ids and names only."""

    def __init__(self, store: Store, runs: LocalRuns):
        self._store, self._runs = store, runs
        self._mutex = threading.Lock()

    def remember(self, repo: str) -> None:
        """Before the first file goes there."""
        self._add(repo, (), ())

    def repos(self) -> list[str]:
        """All repositories that may hold a run of this studio."""
        noted = {run.remote["repo"] for run in self._runs.list() if run.remote}
        return sorted({*self._read(), *noted})

    def waiting(self) -> list[str]:
        """The repositories in which something is still to be erased."""
        return sorted(repo for repo, items in self._read().items() if items["pairs"] or items["images"])

    def withhold(self, repo: str, pairs: Iterable[str], images: Iterable[str]) -> None:
        """It waits to be erased there, whatever happens meanwhile."""
        self._add(repo, map(_mark, pairs), map(_mark, images))

    def erase(self, hub: "Hub", repo: str, forget_history: bool = False) -> ErasedThere:
        """Takes out of the repository what waits; one that its owner sees no longer is gone, and holds nothing.

        Raises:
            NotFound: somebody else's token sees no such repository, so what waits there waits on.
            RunFailed: as of `erase_rows`.
        """
        items = self._read().get(repo, _NOTHING)
        pairs, images = {*items["pairs"]}, {*items["images"]}
        runs = HubRuns(hub, repo)
        if not runs.exists():
            if not hub.owns(repo):
                raise NotFound(
                    f"There is no repository {repo} that this token sees.",
                    "What was erased here may still stand in it.",
                    "Let its owner sign in to the Hub and call `python -m rlhfv erase --waiting`.",
                )
            self._settle(repo, pairs, images)
            return ErasedThere((), (f"{repo}, if it was renamed: this token sees no repository of that name",))
        found = erase_rows(
            runs, lambda pair: _mark(pair) in pairs, lambda image: _mark(image) in images, forget_history
        )
        self._settle(repo, pairs, images)
        if not found.runs:
            return ErasedThere((), ())
        unreached = [
            f"what the run {run_id} learnt, in {repo}: its weights cannot be made to forget; delete them there"
            for run_id in found.learnt
        ]
        if not forget_history:
            unreached.append(f"earlier commits of {repo}, which still hold the rows")
        unreached.append(f"machines that took runs from {repo} and were switched off before they cleaned up")
        return ErasedThere(found.runs, tuple(unreached))

    def _read(self) -> dict:
        return self._store.recall(_KEY) or {}

    def _add(self, repo: str, pairs: Iterable[str], images: Iterable[str]) -> None:
        with self._mutex:
            known = self._read()
            old = known.get(repo, _NOTHING)
            new = {"pairs": sorted({*old["pairs"], *pairs}), "images": sorted({*old["images"], *images})}
            if known.get(repo) != new:
                self._store.remember(_KEY, {**known, repo: new})

    def _settle(self, repo: str, pairs: set[str], images: set[str]) -> None:
        """What waited when it was begun is done; what came since waits on."""
        with self._mutex:
            known = self._read()
            old = known.get(repo, _NOTHING)
            left = {"pairs": sorted({*old["pairs"]} - pairs), "images": sorted({*old["images"]} - images)}
            self._store.remember(_KEY, {**known, repo: left})


_NOTHING = {"pairs": [], "images": []}


def _mark(name: str) -> str:
    return sha256(name.encode()).hexdigest()
