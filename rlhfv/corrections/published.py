"""What stands on the Hub and what waits for it: the store's side of publishing.

A *part* is one of the published tables, "pairs" or "judgements"; an *item* is a row of it, known by its id. Of a pair,
the accepted revision is published; while a later one waits for review, the published one stays. One whose acceptance
is taken back goes. An item keeps its shard for life, also after it was taken out.
"""

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from rlhfv.corrections.answers import read_answer
from rlhfv.corrections.conversation import Answer
from rlhfv.corrections.database import Database, dump
from rlhfv.corrections.merging import local_name, merge_judgement, merge_pair, take_out_missing
from rlhfv.corrections.pairs import Judgement, PreferencePair
from rlhfv.corrections.revisions import Revision, read_revision
from rlhfv.errors import StudioError

PARTS = ("pairs", "judgements")
NOT_TO_BE_PUBLISHED = "not to be published"
SHARD_ROWS = 200
SHARD_BYTES = 64 * 2**20

_ALLOWED = f"consent AND licence NOT IN ('', '{NOT_TO_BE_PUBLISHED}') AND id NOT IN (SELECT item FROM withheld)"
_STAYS = "(state IN ('submitted', 'returned') AND published.revision < pairs.revision)"
_SHOWN = "iif(named, name, pseudonym)"
_PAIRS = f"""
    SELECT id, target, {_SHOWN} AS shown, annotator, old FROM (
        SELECT pairs.seq, id, annotator, published.revision AS old, shown AS old_shown,
            iif(state = 'accepted', pairs.revision, published.revision) AS target
        FROM pairs LEFT JOIN published ON repo = ?1 AND part = 'pairs' AND item = id
        WHERE NOT deleted AND {_ALLOWED} AND (?2 IS NULL OR visitor = ?2)
            AND (state = 'accepted' OR ({_STAYS} AND published.revision > 0)))
    LEFT JOIN pseudonyms ON name = annotator
    WHERE old IS NULL OR old != target OR old_shown != {_SHOWN} ORDER BY seq"""
_PAIRS_GONE = f"""
    SELECT item FROM published LEFT JOIN pairs ON id = item
    WHERE repo = ?1 AND part = 'pairs' AND published.revision > 0 AND (id IS NULL OR NOT (
        NOT deleted AND {_ALLOWED} AND (state = 'accepted' OR {_STAYS})))"""
_FINAL_JUDGEMENTS = f"""
    SELECT seq, id, annotator, visitor FROM (
        SELECT seq, id, annotator, visitor, json_extract(document, '$.consent') AS consent,
            coalesce(json_extract(document, '$.licence'), '') AS licence
        FROM judgements
        WHERE outcome IN ('faithful', 'tie', 'both_bad', 'skipped') AND NOT withdrawn) AS own
    WHERE {_ALLOWED} AND NOT EXISTS (
        SELECT 1 FROM judged JOIN tasks ON tasks.answer = judged.answer
        WHERE judged.judgement = own.seq AND gold IS NOT NULL)
    AND NOT EXISTS (
        SELECT 1 FROM judged AS mine JOIN judged AS other USING (answer)
        JOIN judgements AS later ON later.seq = other.judgement
        WHERE mine.judgement = own.seq AND later.seq > own.seq AND later.annotator = own.annotator
        GROUP BY later.seq HAVING count(*) = (SELECT count(*) FROM judged WHERE judgement = own.seq)
            AND count(*) = (SELECT count(*) FROM judged WHERE judgement = later.seq))"""
_JUDGEMENTS = f"""
    SELECT id, 1, {_SHOWN} AS shown, annotator, published.revision FROM ({_FINAL_JUDGEMENTS})
    LEFT JOIN published ON repo = ?1 AND part = 'judgements' AND item = id LEFT JOIN pseudonyms ON name = annotator
    WHERE (?2 IS NULL OR visitor = ?2)
        AND (published.revision IS NULL OR published.revision != 1 OR published.shown != {_SHOWN}) ORDER BY seq"""
_JUDGEMENTS_GONE = f"""
    SELECT item FROM published WHERE repo = ?1 AND part = 'judgements' AND revision > 0
    AND item NOT IN (SELECT id FROM ({_FINAL_JUDGEMENTS}))"""
_WANTED = {"pairs": (_PAIRS, _PAIRS_GONE), "judgements": (_JUDGEMENTS, _JUDGEMENTS_GONE)}


class LeaseLost(StudioError):
    """Another process publishes to the repository now."""


@dataclass(frozen=True)
class Placed:
    """An item in its shard. Revision 0: not there any longer. `shown` is the annotator as published, `bytes` about
    what the row takes, `new` whether the row was not there before.
    """

    part: str
    item: str
    shard: int
    revision: int
    shown: str
    bytes: int
    new: bool = False


@dataclass(frozen=True)
class Batch:
    """What one push changes, frozen: the changed items, and of each shard that they touch all rows, by id. `left_out`
    names what cannot be published as it is: (item, reason).
    """

    changes: tuple[Placed, ...]
    shards: dict[tuple[str, int], tuple[Placed, ...]]
    left_out: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Waiting:
    """How many pairs wait to be added, changed and taken out, and how many judgements to be brought up to date."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    judgements: int = 0

    @property
    def total(self) -> int:
        return self.added + self.changed + self.removed + self.judgements


@dataclass(frozen=True)
class Remote:
    """What this store knows of a repository. `files` maps the path of each shard to the names that its content has
    ("sha256:…", "git:…"); `readme` is the card as it was last written; `pushed` is when.
    """

    head: str = ""
    files: dict[str, list[str]] = field(default_factory=dict)
    readme: str = ""
    pushed: str = ""
    left_out: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Attempt:
    """A commit that was sent and may land at any time, or with its address a pull request that may be merged."""

    files: dict[str, list[str]]
    changes: tuple[Placed, ...]
    url: str = ""


class Published(Database):
    """The tables of publishing in the database at `path`."""

    # ---- what waits

    def waiting(self, repo: str, whose: str | None = None) -> Waiting:
        """What a push to the repository would change now; of the items of one visitor, if `whose` names one."""
        with self._transaction("BEGIN") as connection:
            pairs = connection.execute(_PAIRS, (repo, whose)).fetchall()
            removed = len(connection.execute(_PAIRS_GONE, (repo,)).fetchall())
            judgements = len(connection.execute(_JUDGEMENTS, (repo, whose)).fetchall())
            judgements += len(connection.execute(_JUDGEMENTS_GONE, (repo,)).fetchall())
        added = sum(not old for *_, old in pairs)
        return Waiting(added, len(pairs) - added, removed, judgements)

    def unpublishable(self, whose: str | None = None) -> dict[str, int]:
        """Why live pairs (of one visitor) are not published, wherever to: reason → how many."""
        return dict(
            self._connection.execute(
                "SELECT CASE WHEN state IN ('superseded', 'gold') THEN 'not meant for the data set'"
                " WHEN state != 'accepted' THEN 'not accepted yet' WHEN licence = ?1 THEN 'not to be published'"
                " WHEN NOT consent THEN 'no consent to publication' WHEN licence = '' THEN 'no licence'"
                " WHEN id IN (SELECT item FROM withheld) THEN 'withheld for good' END AS reason, count(*)"
                " FROM pairs WHERE NOT deleted AND (?2 IS NULL OR visitor = ?2)"
                " GROUP BY reason HAVING reason IS NOT NULL",
                (NOT_TO_BE_PUBLISHED, whose),
            )
        )

    def freeze(
        self,
        repo: str,
        image_bytes: Callable[[str], int | None],
        also: Iterable[tuple[str, int]] = (),
        whose: str | None = None,
    ) -> Batch:
        """What to push now. New items go to the last shard while it has room; annotators get their pseudonyms.

        Args:
            image_bytes: the size of a stored image, None when it is not there.
            also: (part, shard) to write in any case.
            whose: a visitor, of whom alone items are added and changed; what has to go goes in any case.
        """
        changes, left_out, shards = [], [], {}
        with self._transaction() as connection:
            for part, (wanted, gone) in _WANTED.items():
                place = _Placing(connection, repo, part)
                for item, revision, shown, annotator, old in connection.execute(wanted, (repo, whose)).fetchall():
                    size, problem = _size_of(connection, part, item, revision, image_bytes)
                    if problem:
                        left_out.append((item, problem))
                        continue
                    shown = shown if shown is not None else _introduce(connection, annotator)
                    shard = place.shard_for(item, size, known=old is not None)
                    changes.append(Placed(part, item, shard, revision, shown, size, new=not old))
                for (item,) in connection.execute(gone, (repo,)).fetchall():
                    changes.append(replace(place.read(item), revision=0))
            touched: dict[tuple[str, int], dict[str, Placed]] = {key: {} for key in also}
            for one in changes:
                touched.setdefault((one.part, one.shard), {})[one.item] = one
            for (part, shard), changed in touched.items():
                standing = connection.execute(
                    "SELECT item, shard, revision, shown, bytes FROM published"
                    " WHERE repo = ? AND part = ? AND shard = ?",
                    (repo, part, shard),
                )
                rows = {row[0]: Placed(part, *row) for row in standing} | changed
                shards[part, shard] = tuple(rows[item] for item in sorted(rows) if rows[item].revision)
        return Batch(tuple(changes), shards, tuple(left_out))

    def revision(self, item: str, number: int) -> Revision:
        """Raises NotFound unless there is such a revision."""
        return read_revision(self._connection, item, number)

    def judgement(self, item: str) -> tuple[Judgement, list[Answer]]:
        """A judgement and the answers it is about."""
        (document,) = self._connection.execute("SELECT document FROM judgements WHERE id = ?", (item,)).fetchone()
        judgement = Judgement.from_row(json.loads(document))
        return judgement, [read_answer(self._connection, answer) for answer in judgement.answers]

    def documents(self, repo: str, batch: Batch) -> Iterator[tuple[str, dict]]:
        """The shown annotator and the row of every pair that stands on the Hub once the batch is there."""
        changed = {one.item: one for one in batch.changes if one.part == "pairs"}
        for one in changed.values():
            if one.revision:
                yield one.shown, self.revision(one.item, one.revision).pair.to_row()
        for item, shown, document in self._connection.execute(
            "SELECT item, shown, document FROM published JOIN revisions ON pair = item AND number = revision"
            " WHERE repo = ? AND part = 'pairs' AND revision > 0",
            (repo,),
        ):
            if item not in changed:
                yield shown, json.loads(document)

    def count_judgements(self, repo: str, batch: Batch) -> int:
        """How many judgements stand on the Hub once the batch is there."""
        placed = dict(
            self._connection.execute(
                "SELECT item, revision FROM published WHERE repo = ? AND part = 'judgements'", (repo,)
            )
        )
        placed |= {one.item: one.revision for one in batch.changes if one.part == "judgements"}
        return sum(revision > 0 for revision in placed.values())

    # ---- what is there

    def remotes(self) -> list[str]:
        """Every repository that was pushed or pulled, the latest first."""
        rows = [(self.remote(repo).pushed, repo) for (repo,) in self._connection.execute("SELECT repo FROM remotes")]
        return [repo for _, repo in sorted(rows, reverse=True)]

    def remote(self, repo: str) -> Remote:
        row = self._connection.execute("SELECT head, document FROM remotes WHERE repo = ?", (repo,)).fetchone()
        return Remote(row[0], **json.loads(row[1])) if row else Remote()

    def placed(self, repo: str, ids: Iterable[str]) -> set[str]:
        """Which of the items stand in the repository."""
        query = "SELECT 1 FROM published WHERE repo = ? AND part = ? AND item = ? AND revision > 0"
        return {
            item
            for item in ids
            if any(self._connection.execute(query, (repo, part, item)).fetchone() for part in PARTS)
        }

    def attempts(self, repo: str) -> list[Attempt]:
        """What may have landed or be merged, the newest first."""
        return [
            Attempt(json.loads(files), tuple(Placed(*row) for row in json.loads(changes)), url)
            for url, files, changes in self._connection.execute(
                "SELECT url, files, changes FROM attempts WHERE repo = ? ORDER BY seq DESC", (repo,)
            )
        ]

    def add_attempt(self, repo: str, attempt: Attempt) -> None:
        """Before a commit is sent: should its answer be lost, the next look at the repository tells that it landed."""
        with self._transaction() as connection:
            _add_attempt(connection, repo, attempt)

    def record(
        self,
        repo: str,
        holder: str,
        remote: Remote,
        changes: Iterable[Placed] = (),
        open_attempts: Iterable[Attempt] = (),
    ) -> None:
        """What stands on the Hub now; of the attempts only `open_attempts` may still land. An item that changed
        meanwhile has another revision than the one recorded, so it waits again. Raises LeaseLost unless `holder` has
        the lease.
        """
        document = {name: value for name, value in vars(remote).items() if name != "head"}
        with self._transaction() as connection:
            _require_lease(connection, repo, holder)
            connection.executemany(
                "REPLACE INTO published VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(repo, one.part, one.item, one.shard, one.revision, one.shown, one.bytes) for one in changes],
            )
            connection.execute("REPLACE INTO remotes VALUES (?, ?, ?)", (repo, remote.head, dump(document)))
            connection.execute("DELETE FROM attempts WHERE repo = ?", (repo,))
            for attempt in open_attempts:
                _add_attempt(connection, repo, attempt)

    # ---- what came from there

    def merge_pairs(self, repo: str, rows: Iterable[tuple[PreferencePair, str, int, int]]) -> list[str]:
        """Takes published pairs in, each with its time, its shard and its size; says of each what became of it
        (`merge_pair`). The annotator of a pair is the name that was published.
        """
        with self._transaction() as connection:
            return [merge_pair(connection, repo, *row) for row in rows]

    def merge_judgements(self, repo: str, rows: Iterable[tuple[Judgement, list[Answer], int, int]]) -> list[str]:
        with self._transaction() as connection:
            return [merge_judgement(connection, repo, *row) for row in rows]

    def take_out_missing(self, repo: str, part: str, seen: set[str]) -> int:
        """Follows what was taken out on the Hub by hand; returns how many rows."""
        with self._transaction() as connection:
            return take_out_missing(connection, repo, part, seen)

    # ---- who is named, and what is never published

    def set_named(self, annotator: str, named: bool) -> None:
        """Whether the annotator's name may be published instead of the pseudonym; rows that stand there follow."""
        with self._transaction() as connection:
            _introduce(connection, annotator)
            connection.execute("UPDATE pseudonyms SET named = ? WHERE name = ?", (named, annotator))

    def shown_names(self, annotators: Iterable[str]) -> dict[str, str]:
        """Annotator → the name or the pseudonym under which they are published."""
        with self._transaction() as connection:
            return {name: _introduce(connection, name) for name in annotators}

    def local_name(self, shown: str) -> str:
        """Whom a published name stands for here; the published name itself for somebody else."""
        return local_name(self._connection, shown)

    def is_borne_by_others(self, annotator: str, visitor: str) -> bool:
        """Whether pairs of other visitors carry this name too."""
        query = "SELECT 1 FROM pairs WHERE annotator = ? AND visitor != ? LIMIT 1"
        return self._connection.execute(query, (annotator, visitor)).fetchone() is not None

    def withhold(self, items: Iterable[str]) -> None:
        """These are never published again, from here on; those that stand on the Hub wait to be taken out."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO withheld VALUES (?)", [(item,) for item in items])

    # ---- who may push

    def take_lease(self, repo: str, holder: str, seconds: float) -> bool:
        """Takes or renews the lease; False when somebody else has it."""
        now = time.time()
        with self._transaction() as connection:
            row = connection.execute("SELECT holder, until FROM leases WHERE name = ?", (repo,)).fetchone()
            if row and row[0] != holder and row[1] > now:
                return False
            connection.execute("REPLACE INTO leases VALUES (?, ?, ?)", (repo, holder, now + seconds))
            return True

    def give_lease_back(self, repo: str, holder: str) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (repo, holder))


class _Placing:
    """Hands out the shards of one part."""

    def __init__(self, connection: sqlite3.Connection, repo: str, part: str):
        self.connection, self.repo, self.part = connection, repo, part
        last = connection.execute(
            "SELECT shard, count(*), sum(bytes) FROM published WHERE repo = ? AND part = ?"
            " GROUP BY shard ORDER BY shard DESC LIMIT 1",
            (repo, part),
        ).fetchone()
        self.last, self.rows, self.bytes = last or (0, 0, 0)

    def read(self, item: str) -> Placed:
        row = self.connection.execute(
            "SELECT shard, revision, shown, bytes FROM published WHERE repo = ? AND part = ? AND item = ?",
            (self.repo, self.part, item),
        ).fetchone()
        return Placed(self.part, item, *row)

    def shard_for(self, item: str, size: int, known: bool) -> int:
        if known:
            return self.read(item).shard
        if self.rows and (self.rows >= SHARD_ROWS or self.bytes + size > SHARD_BYTES):
            self.last, self.rows, self.bytes = self.last + 1, 0, 0
        self.rows, self.bytes = self.rows + 1, self.bytes + size
        return self.last


def _size_of(
    connection: sqlite3.Connection, part: str, item: str, revision: int, image_bytes: Callable[[str], int | None]
) -> tuple[int, str]:
    """About how many bytes the row takes, and why it cannot be published, if so."""
    if part == "pairs":
        query = "SELECT document FROM revisions WHERE pair = ? AND number = ?"
        documents = connection.execute(query, (item, revision)).fetchall()
    else:
        documents = connection.execute(
            "SELECT answers.document FROM judgements JOIN judged ON judgement = judgements.seq"
            " JOIN answers ON answers.id = answer WHERE judgements.id = ?",
            (item,),
        ).fetchall()
    size, names = 0, []
    for (document,) in documents:
        row = json.loads(document)
        size += len(document)
        prompt = row.get("prompt", row)
        names += [name for turn in [*prompt["history"], prompt] for name in turn["images"]]
    for name in dict.fromkeys(names):
        found = image_bytes(name)
        if found is None:
            return 0, f"its picture {name} is not here"
        size += found
    return size, ""


def _introduce(connection: sqlite3.Connection, annotator: str) -> str:
    """The name to publish; an annotator who is new gets a pseudonym that says nothing."""
    row = connection.execute(f"SELECT {_SHOWN} FROM pseudonyms WHERE name = ?", (annotator,)).fetchone()
    if row:
        return row[0]
    pseudonym = f"annotator-{secrets.token_hex(4)}"
    connection.execute("INSERT INTO pseudonyms VALUES (?, ?, 0)", (annotator, pseudonym))
    return pseudonym


def _add_attempt(connection: sqlite3.Connection, repo: str, attempt: Attempt) -> None:
    changes = dump([list(vars(one).values()) for one in attempt.changes])
    values = (repo, attempt.url, dump(attempt.files), changes)
    known = "SELECT 1 FROM attempts WHERE (repo, url, files, changes) = (?, ?, ?, ?)"
    if not connection.execute(known, values).fetchone():
        connection.execute("INSERT INTO attempts (repo, url, files, changes) VALUES (?, ?, ?, ?)", values)


def _require_lease(connection: sqlite3.Connection, repo: str, holder: str) -> None:
    row = connection.execute("SELECT holder FROM leases WHERE name = ?", (repo,)).fetchone()
    if row is None or row[0] != holder:
        raise LeaseLost(
            f"Another process publishes to {repo} now.",
            "Only one may write at a time, and this one was silent for too long.",
            "Look at the state again; what landed is recognised.",
        )
