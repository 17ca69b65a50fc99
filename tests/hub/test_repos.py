"""Repositories through the real client: create, look, move, delete; models, datasets and spaces."""

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.hub.storage import folder_oids


@pytest.mark.parametrize("repo_type", ["model", "dataset", "space"])
def test_a_repository_from_birth_to_death(hub, ann, transport, repo_type):
    sdk = {"space_sdk": "gradio"} if repo_type == "space" else {}
    url = ann.create_repo("ann/thing", repo_type=repo_type, private=True, **sdk)
    assert (url.repo_id, url.repo_type, url.endpoint) == ("ann/thing", repo_type, hub.endpoint)
    info = ann.repo_info("ann/thing", repo_type=repo_type, files_metadata=True)
    assert (info.id, info.private, info.author) == ("ann/thing", True, "ann")
    assert [sibling.rfilename for sibling in info.siblings] == [".gitattributes"]
    assert info.sha == hub.commits("ann/thing", repo_type=repo_type)[0].oid
    for name, data in {"notes/a.txt": b"hello", "weights.safetensors": bytes(range(256)) * 20}.items():
        made = ann.upload_file(path_or_fileobj=data, path_in_repo=name, repo_id="ann/thing", repo_type=repo_type)
        assert (made.repo_url.repo_id, made.repo_url.repo_type) == ("ann/thing", repo_type)
        with open(ann.hf_hub_download("ann/thing", name, repo_type=repo_type), "rb") as file:
            assert file.read() == data == hub.file("ann/thing", name, repo_type=repo_type)
    assert ann.file_exists("ann/thing", "notes/a.txt", repo_type=repo_type)
    assert not ann.file_exists("ann/thing", "notes/b.txt", repo_type=repo_type)
    ann.update_repo_settings("ann/thing", repo_type=repo_type, private=False)
    assert HfApi(endpoint=hub.endpoint, token=False).repo_exists("ann/thing", repo_type=repo_type)
    ann.delete_repo("ann/thing", repo_type=repo_type)
    assert not ann.repo_exists("ann/thing", repo_type=repo_type)
    with pytest.raises(RepositoryNotFoundError):
        ann.delete_repo("ann/thing", repo_type=repo_type)


def test_a_name_is_taken_once(hub, ann):
    first = ann.create_repo("pairs", repo_type="dataset")
    assert first.repo_id == "ann/pairs"
    assert ann.create_repo("ann/pairs", repo_type="dataset", exist_ok=True) == first
    with pytest.raises(HfHubHTTPError) as error:
        ann.create_repo("ann/pairs", repo_type="dataset")
    assert error.value.response.status_code == 409
    assert ann.create_repo("ann/pairs", repo_type="model").repo_type == "model"


def test_the_tree(hub, ann, transport):
    ann.create_repo("ann/pairs", repo_type="dataset")
    ann.create_commit(
        "ann/pairs",
        [
            CommitOperationAdd("README.md", b"---\nlicense: mit\n---\n"),
            CommitOperationAdd("data/train-00000.parquet", b"PAR1" + bytes(2000)),
            CommitOperationAdd("data/old/readme.txt", b"text"),
        ],
        commit_message="Three files",
        repo_type="dataset",
    )
    assert ann.list_repo_files("ann/pairs", repo_type="dataset") == hub.paths("ann/pairs")
    top = {entry.path: entry for entry in ann.list_repo_tree("ann/pairs", repo_type="dataset", expand=True)}
    assert sorted(top) == [".gitattributes", "README.md", "data"]
    assert top["README.md"].last_commit.title == "Three files"
    assert top[".gitattributes"].last_commit.title == "initial commit"
    below = {
        entry.path: entry for entry in ann.list_repo_tree("ann/pairs", "data", recursive=True, repo_type="dataset")
    }
    assert sorted(below) == ["data/old", "data/old/readme.txt", "data/train-00000.parquet"]
    shard = below["data/train-00000.parquet"]
    assert (shard.size, shard.lfs.size) == (2004, 2004)
    assert (shard.xet_hash is not None) == (transport == "xet")
    assert below["data/old/readme.txt"].lfs is None
    found = ann.get_paths_info("ann/pairs", ["data", "data/train-00000.parquet", "nothing"], repo_type="dataset")
    assert [entry.path for entry in found] == ["data", "data/train-00000.parquet"]
    assert found[1].blob_id == shard.blob_id and found[0].tree_id == top["data"].tree_id


def test_a_long_listing_comes_in_pages(hub, ann, monkeypatch):
    monkeypatch.setattr("tests.hub.files.TREE_PAGE", 2)
    monkeypatch.setattr("tests.hub.files.COMMITS_PAGE", 2)
    ann.create_repo("ann/pairs", repo_type="dataset")
    for index in range(4):
        hub.commit_as("bob", "ann/pairs", {f"{index}.txt": b"text"}, f"File {index}")
    assert ann.list_repo_files("ann/pairs", repo_type="dataset") == hub.paths("ann/pairs")
    titles = [commit.title for commit in ann.list_repo_commits("ann/pairs", repo_type="dataset")]
    assert titles == ["File 3", "File 2", "File 1", "File 0", "initial commit"]
    assert len(hub.requests_to("/tree/")) == 3 and len(hub.requests_to("/commits/")) == 3


def test_old_revisions_can_be_read(hub, ann):
    ann.create_repo("ann/pairs", repo_type="dataset")
    first = hub.commit_as("bob", "ann/pairs", {"a.txt": b"one"})
    second = hub.commit_as("bob", "ann/pairs", {"a.txt": b"two", "b.txt": b"new"})
    assert ann.dataset_info("ann/pairs").sha == second
    assert ann.repo_info("ann/pairs", repo_type="dataset", revision=first).sha == first
    assert ann.list_repo_files("ann/pairs", repo_type="dataset", revision=first) == [".gitattributes", "a.txt"]
    path = ann.hf_hub_download("ann/pairs", "a.txt", repo_type="dataset", revision=first)
    with open(path, "rb") as file:
        assert file.read() == b"one"
    with pytest.raises(RevisionNotFoundError):
        ann.repo_info("ann/pairs", repo_type="dataset", revision="nowhere")
    refs = ann.list_repo_refs("ann/pairs", repo_type="dataset")
    assert [(branch.name, branch.target_commit) for branch in refs.branches] == [("main", second)]


def test_a_moved_repository_is_found_under_both_names(hub, ann):
    ann.create_repo("ann/pairs", repo_type="dataset", private=True)
    hub.commit_as("ann", "ann/pairs", {"a.txt": b"one"})
    ann.move_repo("ann/pairs", "ann/corrections", repo_type="dataset")
    assert ann.dataset_info("ann/corrections").id == "ann/corrections"
    assert ann.dataset_info("ann/pairs").id == "ann/corrections"
    path = ann.hf_hub_download("ann/pairs", "a.txt", repo_type="dataset")
    with open(path, "rb") as file:
        assert file.read() == b"one"


def test_git_would_give_the_same_ids(hub, ann):
    """What `git write-tree` prints for these files."""
    files = {"README.md": b"hello\n", "data/a.txt": b"a", "data/deep/b.txt": b"b", "data.txt": b"c"}
    ann.create_repo("ann/pairs", repo_type="dataset")
    hub.commit_as("ann", "ann/pairs", {".gitattributes": None, **files})
    assert folder_oids(hub.commits("ann/pairs")[0].files)[""] == "2a9dc5004f4df43e93a3e2ccc0ff9d88a52495ee"
