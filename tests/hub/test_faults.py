"""Each fault, and what the real client makes of it."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, constants, set_client_factory
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from huggingface_hub.utils._http import default_client_factory

from tests.hub.conftest import SHARD, noise

BROKEN = (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError)


@pytest.fixture
def push(hub, ann):
    ann.create_repo("ann/pairs", repo_type="dataset", private=True)
    hub.requests.clear()

    def push(seed: int = 0, **options):
        operations = [CommitOperationAdd(SHARD, noise(60_000, seed))]
        return ann.create_commit("ann/pairs", operations, commit_message="Pairs", repo_type="dataset", **options)

    return push


@pytest.fixture
def over_lfs(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def commits_made(hub) -> int:
    return len(hub.commits("ann/pairs")) - 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_hub_before_the_commit_is_asked_again(hub, push, waits, transport, status):
    fault = hub.fail("/preupload/", status=status, times=2)
    push()
    assert (fault.hits, waits, commits_made(hub)) == (2, [1, 2], 1)


def test_the_wait_that_the_hub_names_is_kept(hub, push, waits):
    hub.fail("/preupload/", status=429, headers={"Retry-After": "7"})
    hub.fail("/preupload/", status=429, headers={"RateLimit": '"api";r=0;t=30'})
    hub.fail("/preupload/", status=503, headers={"Retry-After": "4"})
    push()
    assert waits == [8, 31, 5]


@pytest.mark.parametrize("step", ["/objects/batch$", "^PUT /lfs-storage/", "/objects/verify$"])
@pytest.mark.parametrize("drop", [None, "before", "during", "after", "reply"])
def test_every_step_of_an_lfs_upload_is_tried_again(hub, push, waits, over_lfs, step, drop):
    fault = hub.fail(step, drop=drop) if drop else hub.fail(step, status=503)
    push()
    assert (fault.hits, waits, commits_made(hub)) == (1, [1], 1)
    assert hub.file("ann/pairs", SHARD) == noise(60_000)
    sent = [request.received for request in hub.requests_to("^PUT")]
    if step.startswith("^PUT"):
        assert sent == [{"before": 0, "during": 30_000}.get(drop, 60_000), 60_000]


def test_it_gives_up_after_six_tries(hub, push, waits, over_lfs):
    fault = hub.fail("^PUT", status=503, times=None)
    with pytest.raises(RuntimeError) as error:
        push()
    assert isinstance(error.value.__cause__, HfHubHTTPError)
    assert (fault.hits, waits, commits_made(hub)) == (6, [1, 2, 4, 8, 8], 0)
    hub.heal()
    assert push().oid == hub.commits("ann/pairs")[0].oid


@pytest.mark.parametrize("number", [1, 3])
def test_a_forbidden_upload_hides_its_cause(hub, ann, waits, over_lfs, number):
    ann.create_repo("ann/pairs", repo_type="dataset")
    hub.fail("^PUT", status=403)
    operations = [CommitOperationAdd(f"{index}.parquet", noise(500, index)) for index in range(number)]
    with pytest.raises(RuntimeError) as error:
        ann.create_commit("ann/pairs", operations, commit_message="Pairs", repo_type="dataset")
    assert error.value.__cause__.response.status_code == 403 and waits == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refused_commit_is_not_tried_again(hub, push, waits, transport, status):
    fault = hub.fail("/commit/", status=status, message="Not now", headers={"Retry-After": "3"})
    with pytest.raises(HfHubHTTPError, match="Not now") as error:
        push()
    assert error.value.response.status_code == status and error.value.response.headers["Retry-After"] == "3"
    assert (fault.hits, waits, commits_made(hub)) == (1, [], 0)


@pytest.mark.parametrize(("drop", "landed"), [("before", 0), ("during", 0), ("after", 1), ("reply", 1)])
def test_a_broken_commit_raises_and_its_repetition_is_safe(hub, push, waits, transport, drop, landed):
    fault = hub.fail("/commit/", drop=drop)
    with pytest.raises(BROKEN):
        push()
    assert (fault.hits, waits, commits_made(hub)) == (1, [], landed)
    again = push(parent_commit=hub.commits("ann/pairs")[-1].oid)
    assert again.oid == hub.commits("ann/pairs")[0].oid and commits_made(hub) == 1
    assert len(hub.requests_to("/commit/")) == (1 if landed else 2)


def test_the_repetition_of_a_lost_deletion_is_not_safe(hub, ann, push):
    """A deletion is never dropped as done already: the client sends it again, and the file is gone."""
    push()
    hub.fail("/commit/", drop="reply")

    def delete():
        ann.create_commit("ann/pairs", [CommitOperationDelete(SHARD)], commit_message="Delete", repo_type="dataset")

    with pytest.raises(BROKEN):
        delete()
    with pytest.raises(EntryNotFoundError):
        delete()
    assert SHARD not in hub.paths("ann/pairs")


def test_writers_who_take_turns(hub, ann, push):
    """Each rebuilds on the new head when it was too late; nothing is lost."""
    conflicts = []

    def write(writer: int) -> None:
        for number in range(2):
            while True:
                head = ann.dataset_info("ann/pairs").sha
                operation = CommitOperationAdd(f"{writer}-{number}.txt", b"text")
                try:
                    ann.create_commit(
                        "ann/pairs", [operation], commit_message="Turn", repo_type="dataset", parent_commit=head
                    )
                    break
                except HfHubHTTPError as error:
                    assert error.response.status_code == 412
                    conflicts.append(writer)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, range(3)))
    assert commits_made(hub) == 6 and len(hub.paths("ann/pairs")) == 7
    assert len(hub.requests_to("/commit/")) == 6 + len(conflicts)


def test_a_failed_commit_goes_on_with_the_same_operation(hub, ann, push, transport):
    addition = CommitOperationAdd(SHARD, noise(60_000))

    def commit():
        return ann.create_commit("ann/pairs", [addition], commit_message="Pairs", repo_type="dataset")

    hub.fail("/commit/", status=503)
    with pytest.raises(HfHubHTTPError):
        commit()
    before = len(hub.requests)
    commit()
    assert [request.path.split("/")[-2] for request in hub.requests[before:]] == ["commit"]
    with pytest.raises(ValueError):
        commit()


@pytest.mark.parametrize(("drop", "commits"), [("before", 1), ("during", 1), ("after", 2), ("reply", 2)])
def test_a_folder_is_committed_again_even_if_it_was(hub, ann, push, waits, monkeypatch, tmp_path, drop, commits):
    """`upload_folder` over Xet repeats its commit, and after a lost reply that makes a second, empty one."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    (tmp_path / "a.parquet").write_bytes(noise(9000))
    hub.fail("/commit/", drop=drop)
    ann.upload_folder(repo_id="ann/pairs", repo_type="dataset", folder_path=tmp_path)
    assert (commits_made(hub), waits) == (commits, [1])
    assert hub.commits("ann/pairs")[0].files == hub.commits("ann/pairs")[commits - 1].files


def test_a_folder_with_a_parent_sees_its_own_commit_as_a_strangers(hub, ann, push, waits, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    (tmp_path / "a.parquet").write_bytes(noise(9000))
    hub.fail("/commit/", drop="reply")
    with pytest.raises(HfHubHTTPError) as error:
        ann.upload_folder(
            repo_id="ann/pairs",
            repo_type="dataset",
            folder_path=tmp_path,
            parent_commit=hub.commits("ann/pairs")[0].oid,
        )
    assert error.value.response.status_code == 412 and commits_made(hub) == 1


def test_a_late_commit_still_lands(hub, push, transport):
    def factory():
        client = default_client_factory()
        client.timeout = httpx2.Timeout(0.5)
        return client

    set_client_factory(factory)
    try:
        fault = hub.fail("/commit/", delay=0.8)
        with pytest.raises(httpx2.ReadTimeout):
            push()
    finally:
        set_client_factory(default_client_factory)
    assert (fault.hits, commits_made(hub)) == (1, 0)
    until = time.monotonic() + 10
    while not commits_made(hub) and time.monotonic() < until:
        time.sleep(0.02)
    assert commits_made(hub) == 1
    push()
    assert commits_made(hub) == 1


def test_a_hub_that_is_gone_and_comes_back(hub, ann, push, waits):
    push()
    hub.stop()
    with pytest.raises(httpx2.ConnectError):
        ann.dataset_info("ann/pairs")
    hub.start()
    assert ann.dataset_info("ann/pairs").sha == hub.commits("ann/pairs")[0].oid


def test_a_download_that_breaks_goes_on_where_it_was(hub, ann, push, over_lfs, monkeypatch):
    push()
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.fail("^GET .*/resolve/", drop="after")
    path = ann.hf_hub_download("ann/pairs", SHARD, repo_type="dataset")
    with open(path, "rb") as file:
        assert file.read() == noise(60_000)
    ranges = [request.headers.get("range", "") for request in hub.requests_to("^GET .*/resolve/")]
    assert ranges == ["", "bytes=30000-"]


def test_a_fault_strikes_only_its_route_and_its_number_of_times(hub, ann, push, waits):
    fault = hub.fail("^GET /api/datasets/ann/pairs$", status=418, times=2)
    other = hub.fail("/nowhere/", status=500, times=None)
    for _ in range(2):
        with pytest.raises(HfHubHTTPError):
            ann.dataset_info("ann/pairs")
    ann.dataset_info("ann/pairs")
    assert (fault.hits, other.hits) == (2, 0)
    with pytest.raises(ValueError, match="drops before"):
        hub.fail("/", drop="never")
    with pytest.raises(ValueError, match="needs a status"):
        hub.fail("/")
