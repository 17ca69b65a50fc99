"""Downloads from a Hub with the real client: what is fetched, and what is told meanwhile."""

import threading
import time

import pytest

from rlhfv.errors import ModelUnavailable
from rlhfv.models.catalog import adapter_folder, fetch_checkpoint, find_entry
from rlhfv.models.fetching import Progress, downloads
from tests.hub.conftest import noise

SIZE = 3_000_000


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
    assert str(Progress("a/b", 300_000, 4_000_000)) == "Downloading a/b: 0.3 MB of 4.0 MB"


def test_a_download_that_fails_ends_its_report(hub, connect):
    connect()
    with pytest.raises(ModelUnavailable):
        adapter_folder("ann/nothing")
    assert downloads() == ()
