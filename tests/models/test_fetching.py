"""Downloads from a Hub with the real client: what is fetched, and what is told meanwhile."""

import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from rlhfv.errors import ModelUnavailable
from rlhfv.models import fetching
from rlhfv.models.catalog import adapter_folder, fetch_checkpoint, find_entry
from rlhfv.models.fetching import Progress, downloads
from tests.hub.conftest import noise

SIZE = 3_000_000


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """No earlier test has found the Hub out of reach."""
    monkeypatch.setattr(fetching, "_out_of_reach", {})


FILES = {"config.json": 2, "a.safetensors": 2 * SIZE // 3, "b.safetensors": SIZE // 3}


@pytest.fixture
def published(hub, connect):
    """A repository of three megabytes of weights in two files; its last commit."""
    ann = connect(hub.user("ann"))
    ann.create_repo("ann/model")
    for number, (name, size) in enumerate(FILES.items()):
        made = ann.upload_file(path_or_fileobj=noise(size, number), path_in_repo=name, repo_id="ann/model")
    return made.oid


def test_the_bytes_of_a_download_are_told_while_it_runs(transport, published):
    seen, ending = [], threading.Event()

    def watch():
        while not ending.is_set():
            seen.extend(downloads())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    folder = fetch_checkpoint(find_entry("ann/model"))
    ending.set()
    watcher.join()
    assert folder.name == published
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == FILES
    assert downloads() == ()
    told = [progress.done for progress in seen]
    assert told == sorted(told), "the figure only grows"
    assert {progress.repo for progress in seen} == {"ann/model"}
    assert SIZE <= max(progress.total for progress in seen) <= SIZE + 2
    assert max(told) <= SIZE + 2


def test_a_download_is_told_in_plain_words():
    assert str(Progress("a/b", 0, 0)) == "Asking the Hub for a/b …"
    assert str(Progress("a/b", 1_200_000_000, 4_400_000_000)) == "Downloading a/b: 1.2 GB of 4.4 GB"
    assert str(Progress("a/b", 300_000, 4_000_000)) == "Downloading a/b: 300 kB of 4.0 MB"


def test_a_download_that_fails_ends_its_report(hub, connect):
    connect()
    with pytest.raises(ModelUnavailable):
        adapter_folder("ann/nothing")
    assert downloads() == ()


COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""Where the commit is known its files are listed, and the client tries that six times."""


@pytest.fixture
def deaf():
    """The address of a server that takes no connection and refuses none, as behind a wall: its line is full."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("revision", [None, COMMIT])
@pytest.mark.parametrize("place", ["http://127.0.0.1:9", "http://nowhere.invalid", "deaf", "a proxy"])
def test_a_hub_that_cannot_be_reached_is_told_at_once(connect, monkeypatch, request, place, revision):
    connect()
    monkeypatch.setattr(fetching, "LONGEST_CONNECT", 0.5)
    if place == "a proxy":
        monkeypatch.setenv("http_proxy", "127.0.0.1:9")
        monkeypatch.delenv("no_proxy", raising=False)
    address = "http://nowhere.invalid" if place == "a proxy" else place
    address = request.getfixturevalue("deaf") if place == "deaf" else address
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    began = time.monotonic()
    with pytest.raises(ModelUnavailable, match="cannot be reached and there is no copy"):
        fetching.download("ann/model", revision, ("*.json",))
    assert time.monotonic() - began < 3 and fetching.LONGEST_CONNECT < 10
    monkeypatch.setattr(fetching, "LONGEST_CONNECT", 1e9)
    began = time.monotonic()
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        fetching.download("ann/another", revision, ("*.json",))
    assert time.monotonic() - began < 3, "nor is it waited for twice in one question"


@pytest.mark.parametrize("order", [1, -1])
def test_a_hub_with_one_address_that_swallows_and_one_that_answers_is_reached(hub, connect, monkeypatch, deaf, order):
    """As on a machine whose IPv6 leads nowhere."""
    connect()
    addresses, look_up = [urlsplit(deaf), urlsplit(hub.endpoint)][::order], socket.getaddrinfo

    def find(host, *wanted, **more):
        if host != "hub.test":
            return look_up(host, *wanted, **more)
        return [found for one in addresses for found in look_up(one.hostname, one.port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", find)
    monkeypatch.setattr(fetching, "LONGEST_CONNECT", 1.0)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://hub.test")
    monkeypatch.setenv("no_proxy", "*")
    began = time.monotonic()
    assert fetching._is_reached() and time.monotonic() - began < 0.5


def test_what_is_here_is_taken_where_the_hub_cannot_be_reached(published, monkeypatch):
    folder = fetching.download("ann/model", None, ("*.json",))
    asked = []
    monkeypatch.setattr(fetching, "_is_reached", lambda: asked.append(1) or False)
    assert fetching.download("ann/model", published, ("*.json",)) == folder and asked == [], "the commit is here"
    assert fetching.download("ann/model", None, ("*.json",)) == folder and asked == [1]
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        fetching.download("ann/model", None, ("*.json", "*.safetensors"))


def test_a_slow_hub_is_waited_for(hub, published, monkeypatch):
    monkeypatch.setattr(fetching, "LONGEST_CONNECT", 0.2)
    hub.fail("/api/models/ann/model", delay=0.5, times=2)
    assert fetching.download("ann/model", published, ("*.json",)).name == published


def test_a_hub_behind_a_proxy_is_reached(hub, connect, monkeypatch):
    connect()
    monkeypatch.setenv("http_proxy", hub.endpoint)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://nowhere.invalid")
    assert fetching._is_reached()


def test_nothing_is_asked_where_the_hub_is_switched_off(published, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(fetching, "_is_reached", lambda: pytest.fail("the network was asked"))
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        fetching.download("ann/other", None, ("*.json",))
