"""Files of the Hub on this machine: fetched once, with their progress told to whoever waits."""

import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from rlhfv.errors import ModelUnavailable
from rlhfv.units import human_bytes


@dataclass(frozen=True)
class Progress:
    """A download under way: bytes that are here of those that are known to be needed, 0 while that is unknown."""

    repo: str
    done: int
    total: int

    def __str__(self) -> str:
        if not self.total:
            return f"Asking the Hub for {self.repo} …"
        return f"Downloading {self.repo}: {human_bytes(self.done)} of {human_bytes(self.total)}"


LONGEST_CONNECT = 8.0
"""Seconds until a connection to the Hub stands, or there is none. The client would try for half a minute, and where a
wall swallows what is sent for two; what the Hub then says may take as long as it likes."""
_REMEMBERED = 5.0
"""Seconds for which the Hub stays out of reach: one question may want several files."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PORTS = {"https": 443, "socks5": 1080, "socks5h": 1080}

_lock = threading.Lock()
_out_of_reach: dict[str, float] = {}
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

    fetch = partial(snapshot_download, repo, revision=revision, allow_patterns=list(patterns))
    try:
        with _told(repo) as bars:
            here_only = not _is_listed(repo, revision) and not _is_reached()
            return Path(fetch(tqdm_class=bars, local_files_only=here_only))
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


def _is_listed(repo: str, revision: str | None) -> bool:
    """Whether it is known here which files this commit has: then the Hub is asked for those that lack only. It is not
    asked at all where the client is told to be offline."""
    from huggingface_hub import constants, get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    if constants.HF_HUB_OFFLINE:
        return True
    try:
        return bool(_COMMIT.fullmatch(revision or "")) and bool(get_cached_repo_tree(repo, revision=revision))
    except CachedRepoTreeNotFoundError:
        return False


def _is_reached() -> bool:
    """Whether a connection to the Hub comes about, or to the proxy that stands before it."""
    from huggingface_hub import constants

    if time.monotonic() < _out_of_reach.get(constants.ENDPOINT, 0.0):
        return False
    hub = urlsplit(constants.ENDPOINT)
    proxy = "" if proxy_bypass(hub.netloc) else getproxies().get(hub.scheme) or getproxies().get("all", "")
    places = [urlsplit(proxy if "://" in proxy else f"//{proxy}"), hub] if proxy else [hub]
    reached, tried = threading.Event(), threading.Event()

    def connect(family: int, kind: int, protocol: int, _: str, address: tuple) -> None:
        try:
            with socket.socket(family, kind, protocol) as line:
                line.settimeout(LONGEST_CONNECT)
                line.connect(address)
        except OSError:
            return
        reached.set()
        tried.set()

    def reach() -> None:
        for place in places:
            try:
                port = place.port or _PORTS.get(place.scheme, 80)
                found = socket.getaddrinfo(place.hostname, port, type=socket.SOCK_STREAM)
            except (OSError, ValueError):
                continue
            # At once: behind an address that swallows what it is sent, another may answer.
            lines = [threading.Thread(target=connect, args=one, name="hub", daemon=True) for one in found]
            for line in lines:
                line.start()
            for line in lines:
                line.join()
            if reached.is_set():
                break
        tried.set()

    threading.Thread(target=reach, name="hub", daemon=True).start()  # the look-up of a name has no end of its own
    tried.wait(LONGEST_CONNECT)
    if not reached.is_set():
        _out_of_reach[constants.ENDPOINT] = time.monotonic() + _REMEMBERED
    return reached.is_set()


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
