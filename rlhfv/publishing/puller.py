"""Takes a published data set in: into a fresh store, or joined with what is here. Afterwards both are the same, but
for what waits to be pushed.
"""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path

from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.published import PARTS, Published, Remote
from rlhfv.errors import InvalidData, NotFound, StudioError
from rlhfv.publishing.hub import Hub, require_repo_id
from rlhfv.publishing.pusher import LEASE_SECONDS, Progress, hold_lease, repeat, silence
from rlhfv.publishing.schema import judgement_from_row, pair_from_row
from rlhfv.publishing.shards import is_table, read_shard, shard_of

CHUNK = 100


@dataclass(frozen=True)
class Pulled:
    """What a pull did. `new`, `changed` and `removed` are pairs here; of `conflicts` both sides changed, so both are
    in the history and the one from here stands. `problems` names the rows that could not be taken; while there are
    any, nothing is pushed there, since that would overwrite them.
    """

    repo: str
    commit: str
    new: int = 0
    changed: int = 0
    removed: int = 0
    conflicts: int = 0
    judgements: int = 0
    problems: tuple[RowProblem, ...] = ()


class Puller:
    """Pulls with the rights of `hub`. Arguments as of `Pusher`."""

    def __init__(
        self,
        published: Published,
        shelf: ImageShelf,
        folder: Path,
        hub: Hub,
        lease_seconds: float = LEASE_SECONDS,
        wait: Callable[[float], None] = time.sleep,
    ):
        self.published, self.shelf, self.folder, self.hub = published, shelf, Path(folder), hub
        self.lease_seconds, self.wait = lease_seconds, wait

    def pull(self, repo: str, on_progress: Progress | None = None) -> Pulled:
        """Raises NotFound when there is no such data set, and what `Pusher.push` raises."""
        require_repo_id(repo)
        tell = on_progress or silence
        folder = self.folder / f"pull-{repo.replace('/', '--')}"
        with hold_lease(self.published, repo, self.lease_seconds) as holder:
            try:
                return self._pull(repo, holder, folder, tell)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _pull(self, repo: str, holder: str, folder: Path, tell: Progress) -> Pulled:
        head = repeat(lambda: self.hub.head(repo), tell, self.wait)
        if head is None:
            raise NotFound(
                f"There is no data set {repo} on the Hub.",
                "It was never there, or it is private and you are not signed in as somebody who may read it.",
                "Check the name, or sign in with another token.",
            )
        listed = repeat(lambda: self.hub.files(repo, head), tell, self.wait)
        files = {path: names for path, names in listed.items() if is_table(path)}
        seen: dict[str, set[str]] = {part: set() for part in PARTS}
        became = {part: Counter() for part in PARTS}
        problems: list[RowProblem] = []
        for number, path in enumerate(sorted(files)):
            tell("taking shards in", number, len(files))
            try:
                place = shard_of(path)
                if place is None:
                    raise InvalidData(
                        f"{path} is no shard of a studio.",
                        "Shards are named train- with five digits, and where a row stands could not be kept.",
                        "Rename the file on the Hub, or move it out of the folder.",
                    )
                file = repeat(partial(self.hub.download, repo, path, head, folder), tell, self.wait)
                became[place[0]] += self._take_in(repo, place, path, file, seen, problems)
                file.unlink()
            except StudioError as error:
                if not isinstance(error, (InvalidData, NotFound)):
                    raise
                problems.append(RowProblem(0, error.what, error.why, error.fix, path))
        removed = 0
        if not problems:
            for part in PARTS:
                gone = self.published.take_out_missing(repo, part, seen[part])
                removed += gone if part == "pairs" else 0
            pushed = datetime.now(UTC).isoformat(timespec="seconds")
            known = self.published.remote(repo)
            # An empty card: the next push reads the one that is there.
            self.published.record(repo, holder, Remote(head, files, "", pushed, known.left_out))
        tell("done", len(files), len(files))
        pairs = became["pairs"]
        return Pulled(
            repo,
            head,
            new=pairs["new"],
            changed=pairs["changed"],
            removed=removed,
            conflicts=pairs["conflict"],
            judgements=became["judgements"]["new"],
            problems=tuple(problems),
        )

    def _take_in(
        self, repo: str, place: tuple[str, int], path: str, file: Path, seen: dict, problems: list[RowProblem]
    ) -> Counter:
        part, shard = place
        rows = self._read(part, path, file, seen[part], problems)
        became: Counter = Counter()
        while chunk := list(islice(rows, CHUNK)):
            if part == "pairs":
                merged = [(pair, updated, shard, size) for pair, updated, size in chunk]
                became.update(self.published.merge_pairs(repo, merged))
            else:
                merged = [(judgement, answers, shard, size) for judgement, answers, size in chunk]
                became.update(self.published.merge_judgements(repo, merged))
        return became

    def _read(self, part: str, path: str, file: Path, seen: set[str], problems: list[RowProblem]) -> Iterator[tuple]:
        """The valid rows of a shard with about what each takes."""
        for number, row in enumerate(read_shard(file), 1):
            try:
                if part == "pairs":
                    pair = pair_from_row(row, self._take_image)
                    taken = (pair, row.get("updated_at") or "")
                else:
                    taken = judgement_from_row(row, self._take_image)
                id = taken[0].id
                if id in seen:
                    raise InvalidData(
                        f"The id {id} stands for an earlier row already.",
                        "An id names one row of the data set.",
                        "Take one of the two out.",
                    )
                seen.add(id)
            except StudioError as error:
                problems.append(RowProblem(number, error.what, error.why, error.fix, path))
                continue
            yield *taken, _size(row)

    def _take_image(self, data: bytes) -> str:
        return self.shelf.intake(data).name


def _size(row: dict) -> int:
    """About what the row takes: its pictures and its texts."""
    pictures = sum(len(image["bytes"]) for image in row.get("images") or () if image and image.get("bytes"))
    return pictures + len(str(row.get("prompt"))) + len(str(row.get("chosen") or row.get("answers")))
