"""Taking rows and pictures out of a repository of runs for good; what was learnt from them cannot be taken back."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.errors import RunFailed
from rlhfv.run_folder import RunFolder, now, row_images
from rlhfv.runs.hub_repo import KIND
from rlhfv.runs.hub_runs import ENDED, HubRuns

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

LEARNT = ("adapter", "model", "checkpoints")


@dataclass(frozen=True)
class ErasedRows:
    """`runs` held some of it; `learnt` are those among them that have an adapter, a model or a checkpoint there."""

    runs: tuple[str, ...] = ()
    learnt: tuple[str, ...] = ()


def erase_rows(
    runs: HubRuns, is_pair: Callable[[str], bool], is_image: Callable[[str], bool], forget_history: bool = False
) -> ErasedRows:
    """Take pairs, by their ids, and images, by their names, with the rows that show them out of all runs of the
    repository, in one commit on its head; with `forget_history` out of its earlier commits too.

    Raises:
        RunFailed: a run that holds some of it is queued or at work; with `forget_history` any run is.
    """

    def attempt() -> ErasedRows:
        head = runs.head()
        files = runs.hub.files(runs.repo, head, KIND)
        unfinished = {run.id: run.state for run in runs.look() if run.state not in ENDED}
        if forget_history:
            for run_id, state in unfinished.items():
                raise _at_work(run_id, state, runs.repo)
        with tempfile.TemporaryDirectory(prefix="erase-") as work:
            names = [f"runs/*/{name}" for name in ("pairs.jsonl", "events.jsonl")]
            folder = runs.snapshot([*names, ".gitattributes"], head, Path(work))
            operations, held = [], []
            for place in sorted(folder.glob("runs/*/pairs.jsonl")):
                run = RunFolder(place.parent)
                found = _without(run, files, is_pair, is_image)
                if found:
                    if run.id in unfinished:
                        raise _at_work(run.id, unfinished[run.id], runs.repo)
                    operations += found
                    held.append(run.id)
            if operations:
                runs.hub.commit(runs.repo, operations, "Take out what was erased", head, kind=KIND)
        learnt = [run_id for run_id in held if any(path.startswith(_below(run_id, LEARNT)) for path in files)]
        return ErasedRows(tuple(held), tuple(learnt))

    erased = runs.repeat(attempt)
    if forget_history:
        runs.repeat(lambda: runs.hub.forget_history(runs.repo, "Forget what was taken out", KIND))
    return erased


def keep_rows(rows: list[dict], is_pair: Callable[[str], bool], is_image: Callable[[str], bool]) -> list[dict]:
    """The rows that are none of the pairs and show none of the images, not in an earlier turn either."""
    return [row for row in rows if not is_pair(row["id"]) and not any(map(is_image, row_images(row)))]


def write_rows(rows: list[dict]) -> str:
    """As they stand in a run's pairs.jsonl."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def tell_erased(count: int) -> str:
    """What the events of a run say: without the rows it can no longer be resumed exactly."""
    return f"{count} of its pairs were erased on request."


def _without(
    run: RunFolder, files: dict, is_pair: Callable[[str], bool], is_image: Callable[[str], bool]
) -> "list[CommitOperationAdd | CommitOperationDelete]":
    """What to commit so that the run no longer holds it; nothing for a run that never did."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    rows, (place,) = run.read_rows(), _below(run.id, ("images",))
    kept = keep_rows(rows, is_pair, is_image)
    here = {path.removeprefix(place) for path in files if path.startswith(place)}
    if len(kept) == len(rows) and not any(map(is_image, here)):
        return []
    unused = here - {name for row in kept for name in row_images(row)}
    events = run.events_file.read_bytes() if run.events_file.exists() else b""
    events += (
        json.dumps({"v": 1, "time": now(), "kind": "warn", "message": tell_erased(len(rows) - len(kept))}) + "\n"
    ).encode()
    return [
        CommitOperationAdd(f"runs/{run.id}/pairs.jsonl", write_rows(kept).encode()),
        CommitOperationAdd(f"runs/{run.id}/events.jsonl", events),
        *(CommitOperationDelete(f"{place}{name}") for name in sorted(unused)),
    ]


def _below(run_id: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"runs/{run_id}/{name}/" for name in names)


def _at_work(run_id: str, state: str, repo: str) -> RunFailed:
    return RunFailed(
        f"The run {run_id!r} is {state} in {repo}.",
        "Its files, and the commit that it was sent as, would go from under it.",
        "Stop it there; then erase what waits with `python -m rlhfv erase --waiting`.",
    )
