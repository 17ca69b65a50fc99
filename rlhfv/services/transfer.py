"""Pairs in and out of the studio, in its own format and in those of others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidData, StudioError
from rlhfv.services.actor import Actor
from rlhfv.services.consent import Consent
from rlhfv.services.limits import Limits
from rlhfv.services.terms import agreed_terms, annotator_name, require_terms
from rlhfv.settings import Settings

MAX_GUEST_ROWS = 200
"""Rows that somebody may import at a time who does not manage a studio that many share."""


@dataclass(frozen=True)
class Imported:
    """What came of an import: the format and what it was told by (empty if it was named), how many rows became pairs,
    how many of these were new or differed, and what is wrong with each other row.
    """

    format: str
    told_by: str
    pairs: int
    changed: int
    problems: tuple[RowProblem, ...]


@dataclass(frozen=True)
class StoredPairs:
    """Pairs that are read from the store each time they are gone through, never all at once. `progress` hears how many
    were read this time.
    """

    store: Store
    visitor: str | None
    state: str
    progress: Callable[[int], None]

    def __iter__(self) -> Iterator[PreferencePair]:
        for number, pair in enumerate(self.store.all_pairs(visitor=self.visitor, state=self.state), 1):
            yield pair
            self.progress(number)


class Transfer:
    """The part of `Correcting` that exports and imports. `_scope` and `_require_change` say whose pairs."""

    settings: Settings
    store: Store
    shelf: ImageShelf
    consent: Consent
    limits: Limits

    def export_datasets(self, actor: Actor, folder: Path) -> int:
        """Writes a folder that `datasets.load_from_disk` reads, the accepted pairs; returns how many."""
        from rlhfv.corrections.exchange import export_datasets

        pairs = list(self._accepted(actor))
        if not pairs:
            raise InvalidData("There are no pairs yet.", "A data set needs rows.", "Correct an answer first.")
        export_datasets(pairs, folder, self.shelf.path)
        return len(pairs)

    def export_to(
        self, actor: Actor, folder: Path, format: str, progress: Callable[[int], None] = lambda pairs: None
    ) -> int:
        """Writes the accepted pairs that a format of `publishing.formats` can carry into a folder; returns how many.
        `progress` hears how many pairs were gone through, which happens several times.

        Raises InvalidData for an unknown format, and when it can carry none of the pairs.
        """
        from rlhfv.publishing import formats

        def picture(name: str) -> Path:
            # An original that was kept beside a picture is asked for by its own name.
            return self.shelf.original(name) if name.endswith(".original") else self.shelf.path(name)

        return formats.write(format, self._accepted(actor, progress), folder, picture)

    def losses(self, actor: Actor, format: str) -> list[str]:
        """What an export in the format would leave behind of these pairs, one sentence each."""
        from rlhfv.publishing import formats

        return formats.losses(format, self._accepted(actor))

    def import_from(
        self,
        actor: Actor,
        source: Path | str,
        format: str | None = None,
        token: str | bool = False,
        progress: Callable[[int], None] = lambda rows: None,
    ) -> Imported:
        """Takes in the rows of a file or folder (a `Path`), or of a dataset on the Hub (a `str`, read with `token`).

        Each good row is a pair, whatever the others are. Without a format it is told by the columns. `progress` hears
        how many rows were read.

        What a file says of its makers nobody can check: where many share a studio the pairs carry the name and the
        terms of who brings them, each row counts as a correction, and only who manages the studio brings any number.

        Raises:
            InvalidData: there is nothing to read, there are too many rows, or no format fits.
            TermsMissing: the actor has not agreed to the terms of this studio. TooMany.
        """
        from rlhfv.publishing import formats

        actor.require("manage" if isinstance(source, str) else "correct")
        self.consent.check(actor)
        guest = self._is_guest(actor)
        if guest:
            require_terms(self.store, actor)
        self.limits.take(actor, "correction")
        format, told_by = (format, "") if format else formats.recognise(source, token)
        rows = formats.read(source, format, self.shelf, token)
        if guest:
            rows = list(islice(rows, MAX_GUEST_ROWS + 1))
            if len(rows) > MAX_GUEST_ROWS:
                raise InvalidData(
                    f"There are more than {MAX_GUEST_ROWS} rows.",
                    "Many people share this studio, and each row is a correction that somebody has to look after.",
                    f"Send at most {MAX_GUEST_ROWS} at a time, or ask the owner of the studio to take them in.",
                )
            self.limits.take(actor, "correction", max(0, len(rows) - 1))
        problems: list[RowProblem] = []
        taken = 0

        def good_pairs() -> Iterator[PreferencePair]:
            nonlocal taken
            for number, row in enumerate(rows, 1):
                progress(number)
                if isinstance(row, PreferencePair):
                    row = self._if_allowed(actor, self._under_terms_of(actor, row) if guest else row)
                if isinstance(row, RowProblem):
                    problems.append(row)
                else:
                    taken += 1
                    yield row

        changed = self.store.add_pairs(good_pairs(), actor.visitor, self._state_of_imports(actor))
        return Imported(format, told_by, taken, changed, tuple(problems))

    def _if_allowed(self, actor: Actor, pair: PreferencePair) -> PreferencePair | RowProblem:
        """An import may revise the actor's own pairs, not those of others."""
        try:
            if self.store.has_pair(pair.id):
                self._require_change(actor, pair.id)
        except StudioError as error:
            return RowProblem(0, error.what, error.why, error.fix, f"Pair {pair.id}")
        return pair

    def _is_guest(self, actor: Actor) -> bool:
        alone = self.settings.single_user and not self.settings.team
        return not alone and "manage" not in actor.rights

    def _under_terms_of(self, actor: Actor, pair: PreferencePair) -> PreferencePair:
        own = {"annotator": annotator_name(self.store, actor), **agreed_terms(self.store, actor)}
        return replace(pair, provenance=replace(pair.provenance, **own))

    def _state_of_imports(self, actor: Actor) -> str | None:
        return "accepted" if "manage" in actor.rights else None

    def _accepted(self, actor: Actor, progress: Callable[[int], None] = lambda pairs: None) -> StoredPairs:
        actor.require("correct")
        return StoredPairs(self.store, self._scope(actor), "accepted", progress)
