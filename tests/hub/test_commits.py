"""Commits through the real client, on both transports."""

import io

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, constants
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RevisionNotFoundError

from tests.hub.conftest import SHARD, noise


@pytest.fixture
def push(ann):
    ann.create_repo("ann/pairs", repo_type="dataset", private=True)

    def push(files: dict, message="Pairs", **options):
        """bytes and paths are added, None deletes"""
        operations = [
            CommitOperationDelete(path) if data is None else CommitOperationAdd(path, data)
            for path, data in files.items()
        ]
        return ann.create_commit("ann/pairs", operations, commit_message=message, repo_type="dataset", **options)

    return push


def test_one_commit_holds_all_changes(hub, push, transport):
    first = push({SHARD: noise(50_000), "README.md": b"---\nlicense: mit\n---\n", "notes.txt": b"a"})
    second = push({SHARD: noise(50_000, 1), "notes.txt": None, "empty.txt": b""}, "Edit", parent_commit=first.oid)
    newest, older, initial = hub.commits("ann/pairs")
    assert (newest.oid, newest.parents, newest.title, newest.author) == (second.oid, (first.oid,), "Edit", "ann")
    assert older.parents == (initial.oid,)
    assert hub.paths("ann/pairs") == [".gitattributes", "README.md", SHARD, "empty.txt"]
    assert hub.file("ann/pairs", SHARD) == noise(50_000, 1)
    assert hub.file("ann/pairs", SHARD, first.oid) == noise(50_000)
    over_lfs = len(hub.requests_to("^PUT /lfs-storage/"))
    assert over_lfs == (2 if transport == "lfs" else 0)
    assert (hub.xet_bytes > 100_000) == (transport == "xet")
    assert (hub.received_bytes > 100_000) == (transport == "lfs")


def test_a_stale_parent_is_refused(hub, push, transport):
    seen = push({SHARD: noise(2000)}).oid
    foreign = hub.commit_as("bob", "ann/pairs", {"README.md": b"by hand"})
    with pytest.raises(HfHubHTTPError) as error:
        push({SHARD: noise(2000, 1)}, parent_commit=seen)
    assert error.value.response.status_code == 412
    assert hub.commits("ann/pairs")[0].oid == foreign
    assert push({SHARD: noise(2000, 1)}, parent_commit=foreign).oid == hub.commits("ann/pairs")[0].oid


def test_nothing_new_makes_no_commit(hub, push, transport):
    first = push({SHARD: noise(2000), "README.md": b"---\nlicense: mit\n---\n"})
    again = push({SHARD: noise(2000), "README.md": b"---\nlicense: mit\n---\n"})
    assert again.oid == first.oid and len(hub.requests_to("/commit/")) == 1


def test_bytes_that_are_known_are_not_sent_again(hub, push, transport):
    push({SHARD: noise(300_000)})
    before = hub.received_bytes + hub.xet_bytes
    push({"data/copy.parquet": noise(300_000)})
    assert hub.received_bytes + hub.xet_bytes - before < 10_000
    assert hub.file("ann/pairs", "data/copy.parquet") == noise(300_000)


def test_xet_sends_only_changed_chunks(hub, push, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    push({SHARD: noise(3_000_000)})
    before = hub.xet_bytes
    push({SHARD: noise(3_000_000)[:1_500_000] + b"edit" + noise(3_000_000)[1_500_000:]})
    assert 0 < hub.xet_bytes - before < 300_000


def test_files_from_disk_and_from_a_stream(hub, push, tmp_path, transport):
    path = tmp_path / "shard.parquet"
    path.write_bytes(noise(20_000))
    push({SHARD: str(path), "data/stream.parquet": io.BytesIO(noise(20_000, 1))})
    assert hub.file("ann/pairs", SHARD) == noise(20_000)
    assert hub.file("ann/pairs", "data/stream.parquet") == noise(20_000, 1)


def test_upload_now_commit_later(hub, ann, push, transport):
    push({"README.md": b"---\nlicense: mit\n---\n"})
    additions = [CommitOperationAdd(f"data/{index}.parquet", noise(5000, index)) for index in range(3)]
    for addition in additions:
        ann.preupload_lfs_files("ann/pairs", [addition], repo_type="dataset")
    assert len(hub.commits("ann/pairs")) == 2
    ann.create_commit("ann/pairs", additions, commit_message="Later", repo_type="dataset")
    assert hub.file("ann/pairs", "data/2.parquet") == noise(5000, 2)


def test_an_upload_in_parts(hub, push, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    hub.part_size = 30_000
    push({SHARD: noise(100_000)})
    assert [request.received for request in hub.requests_to(r"^PUT /lfs-storage/.*/\d+$")] == [30_000] * 3 + [10_000]
    assert hub.file("ann/pairs", SHARD) == noise(100_000)


def test_a_folder(hub, ann, push, tmp_path, transport):
    for name, data in {"adapter.safetensors": noise(9000), "config.json": b"{}", "checkpoint-1/x.bin": b"x"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    push({"old.txt": b"old"})
    done = ann.upload_folder(
        repo_id="ann/pairs",
        repo_type="dataset",
        folder_path=tmp_path,
        ignore_patterns=["checkpoint-*/**"],
        delete_patterns="*.txt",
        parent_commit=hub.commits("ann/pairs")[0].oid,
    )
    assert hub.paths("ann/pairs") == [".gitattributes", "adapter.safetensors", "config.json"]
    assert hub.file("ann/pairs", "adapter.safetensors") == noise(9000)
    assert hub.commits("ann/pairs")[0].oid == done.oid


def test_copies_and_deletes(hub, ann, push, transport):
    push({SHARD: noise(4000), "data/b.txt": b"text", "more/c.txt": b"c", "more/d.txt": b"d"})
    ann.create_commit(
        "ann/pairs",
        [
            CommitOperationCopy(SHARD, "archive/old.parquet"),
            CommitOperationCopy("data/b.txt", "archive/b.txt"),
            CommitOperationDelete("more/"),
        ],
        commit_message="Archive",
        repo_type="dataset",
    )
    assert hub.file("ann/pairs", "archive/old.parquet") == noise(4000)
    assert [path for path in hub.paths("ann/pairs") if path.startswith(("archive/", "more/"))] == [
        "archive/b.txt",
        "archive/old.parquet",
    ]
    ann.delete_file("data/b.txt", "ann/pairs", repo_type="dataset")
    with pytest.raises(EntryNotFoundError):
        ann.delete_file("data/b.txt", "ann/pairs", repo_type="dataset")


def test_a_pointer_to_nothing_is_refused(ann, push):
    addition = CommitOperationAdd(SHARD, noise(100))
    addition._upload_mode, addition._should_ignore, addition._is_uploaded = "lfs", False, True
    push({"README.md": b"---\nlicense: mit\n---\n"})
    with pytest.raises(HfHubHTTPError, match="does not exist"):
        ann.create_commit("ann/pairs", [addition], commit_message="Lie", repo_type="dataset")


def test_a_card_is_checked_before_anything_is_sent(hub, push):
    with pytest.raises(ValueError, match="Invalid metadata"):
        push({"README.md": b"---\nlicense: [mit\n---\n", SHARD: noise(100)})
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        push({"README.md": b"no metadata"})
    assert len(hub.requests_to("/preupload/")) == 1


def test_the_history_can_be_forgotten(hub, ann, push, transport):
    first = push({SHARD: noise(6000), "secret.txt": b"a face"})
    push({SHARD: noise(6000, 1), "secret.txt": None})
    assert hub.find("a face", history=True) and hub.find("a face") == []
    ann.super_squash_history("ann/pairs", repo_type="dataset", commit_message="Fresh")
    assert [commit.title for commit in hub.commits("ann/pairs")] == ["Fresh"]
    assert hub.file("ann/pairs", SHARD) == noise(6000, 1)
    assert hub.find("a face", history=True) == []
    with pytest.raises(RevisionNotFoundError):
        ann.repo_info("ann/pairs", repo_type="dataset", revision=first.oid)


def test_large_files_can_be_deleted_for_good(hub, ann, push, transport):
    push({SHARD: noise(6000), "data/b.parquet": noise(7000, 1), "notes.txt": b"a"})
    push({SHARD: None})
    listed = {file.filename: file for file in ann.list_lfs_files("ann/pairs", repo_type="dataset")}
    assert {name: file.size for name, file in listed.items()} == {SHARD: 6000, "data/b.parquet": 7000}
    ann.permanently_delete_lfs_files("ann/pairs", [listed[SHARD]], repo_type="dataset")
    assert hub.find(noise(6000), history=True) == [] and hub.find(noise(7000, 1))
    assert [SHARD in commit.files for commit in hub.commits("ann/pairs")] == [False] * 3
    assert push({SHARD: noise(6000)}).oid == hub.commits("ann/pairs")[0].oid
    assert hub.file("ann/pairs", SHARD) == noise(6000)
