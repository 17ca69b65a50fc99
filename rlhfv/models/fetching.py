"""Files of the Hub on this machine: fetched once, with their progress told to whoever waits."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlhfv.errors import ModelUnavailable


@dataclass(frozen=True)
class Progress:
    """A download under way: bytes that are here of those that are known to be needed, 0 while that is unknown."""

    repo: str
    done: int
    total: int

    def __str__(self) -> str:
        if not self.total:
            return f"Asking the Hub for {self.repo} …"
        return f"Downloading {self.repo}: {_size(self.done)} of {_size(self.total)}"


_lock = threading.Lock()
_under_way: dict[object, Progress] = {}


def downloads() -> tuple[Progress, ...]:
    """The downloads of this process, oldest first."""
    with _lock:
        return tuple(_under_way.values())


def download(repo: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The snapshot folder of a Hub repository; its name is the commit. Files that are already here are not asked for.

    Raises:
        ModelUnavailable: no such repository, no access, or no network and no copy.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        with _told(repo) as bars:
            return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns), tqdm_class=bars))
    except GatedRepoError as error:
        why, fix = "Its owner asks for an agreement first.", "Accept it on the model's page, then run `hf auth login`."
        cause = error
    except RepositoryNotFoundError as error:
        why, fix = "The Hub knows no such repository, or it is private.", "Check the name, or run `hf auth login`."
        cause = error
    except LocalEntryNotFoundError as error:
        why, fix = "The Hub cannot be reached and there is no copy on this machine.", "Connect once, or name a folder."
        cause = error
    except (HfHubHTTPError, OSError, ValueError) as error:
        why, fix = f"The Hub says: {error}", "Check the name and the revision, then try again."
        cause = error
    raise ModelUnavailable(f"{repo!r} cannot be fetched from the Hub.", why, fix) from cause


@contextmanager
def _told(repo: str) -> Iterator[type]:
    """A class of progress bars that also notes the bytes of one download."""
    from huggingface_hub.utils import tqdm

    key = object()

    def note(done: float, total: float) -> None:
        with _lock:
            _under_way[key] = Progress(repo, int(done), int(total))

    class Bar(tqdm):
        """Of the two bars of bytes the one of what is on the disk counts; files and network have others."""

        def __init__(self, *args, **options):
            # A bar that is not drawn counts nothing, so what is noted is counted here.
            self.bytes_here = options.get("initial") or 0
            self.on_disk = options.get("unit") == "B" and not str(options.get("desc", "")).startswith("Download")
            super().__init__(*args, **options)

        def update(self, n=1):
            self.bytes_here += n or 0
            self._note()
            return super().update(n)

        def refresh(self, *args, **options):
            self._note()
            return super().refresh(*args, **options)

        def _note(self) -> None:
            if self.on_disk and self.total:
                note(min(self.bytes_here, self.total), self.total)

    note(0, 0)
    try:
        yield Bar
    finally:
        with _lock:
            del _under_way[key]


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
