"""Which commit of a model is used: the first one that was fetched, from then on, so that figures stay comparable."""

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

from rlhfv.models.catalog import Entry


class Pins:
    """Hub id → commit of the models of `known.py`, in one JSON file."""

    def __init__(self, path: Path):
        self._path, self._lock = path, threading.Lock()

    def read(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # it is only a note: without it the newest commit is taken
            return {}

    def pin(self, entry: Entry) -> Entry:
        """The entry at the commit that was noted for it, unless it names one itself."""
        commit = self.read().get(entry.source) if entry.known and not entry.revision else None
        return replace(entry, revision=commit) if commit else entry

    def note(self, entry: Entry, commit: str) -> None:
        if not entry.known or entry.revision:
            return
        with self._lock:
            noted = {entry.source: commit} | self.read()
            beside = self._path.with_suffix(".new")
            beside.write_text(json.dumps(noted, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            os.replace(beside, self._path)
