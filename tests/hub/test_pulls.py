"""Pull requests and discussions through the real client."""

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError


@pytest.fixture
def bob(hub, ann):
    ann.create_repo("ann/pairs", repo_type="dataset")
    hub.commit_as("ann", "ann/pairs", {"a.txt": b"one"})
    return HfApi(endpoint=hub.endpoint, token=hub.user("bob"))


def propose(api, name, data, **options):
    return api.create_commit(
        "ann/pairs",
        [CommitOperationAdd(name, data)],
        commit_message="A proposal",
        commit_description="Why",
        repo_type="dataset",
        create_pr=True,
        **options,
    )


def test_a_proposal_instead_of_a_push(hub, ann, bob):
    with pytest.raises(HfHubHTTPError, match="create_pr=1"):
        bob.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="ann/pairs", repo_type="dataset")
    made = propose(bob, "b.txt", b"two", parent_commit=hub.commits("ann/pairs")[0].oid)
    assert (made.pr_num, made.pr_revision) == (1, "refs/pr/1")
    assert made.pr_url == f"{hub.endpoint}/datasets/ann/pairs/discussions/1"
    assert "b.txt" not in hub.paths("ann/pairs") and "b.txt" in hub.paths("ann/pairs", "refs/pr/1")
    found = bob.hf_hub_download("ann/pairs", "b.txt", repo_type="dataset", revision="refs/pr/1")
    with open(found, "rb") as file:
        assert file.read() == b"two"
    bob.comment_discussion("ann/pairs", 1, "Please look", repo_type="dataset")
    [listed] = ann.get_repo_discussions("ann/pairs", repo_type="dataset")
    assert (listed.title, listed.author, listed.status, listed.is_pull_request) == ("A proposal", "bob", "open", True)
    ann.merge_pull_request("ann/pairs", 1, repo_type="dataset")
    assert hub.file("ann/pairs", "b.txt") == b"two" and hub.file("ann/pairs", "a.txt") == b"one"
    details = ann.get_discussion_details("ann/pairs", 1, repo_type="dataset")
    assert (details.status, details.target_branch) == ("merged", "refs/heads/main")
    assert details.merge_commit_oid == hub.commits("ann/pairs")[0].oid
    assert [event.content for event in details.events if event.type == "comment"] == ["Why", "Please look"]


def test_a_stale_proposal_is_refused_and_a_clashing_one_is_not_merged(hub, ann, bob):
    seen = hub.commits("ann/pairs")[0].oid
    hub.commit_as("ann", "ann/pairs", {"c.txt": b"new"})
    with pytest.raises(HfHubHTTPError) as error:
        propose(bob, "b.txt", b"two", parent_commit=seen)
    assert error.value.response.status_code == 412 and hub.repo("ann/pairs").discussions == []
    propose(bob, "a.txt", b"bob's")
    hub.commit_as("ann", "ann/pairs", {"a.txt": b"ann's"})
    assert ann.get_discussion_details("ann/pairs", 1, repo_type="dataset").conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError, match="conflicts in a"):
        ann.merge_pull_request("ann/pairs", 1, repo_type="dataset")
    ann.change_discussion_status("ann/pairs", 1, "closed", repo_type="dataset")
    assert [one.status for one in ann.get_repo_discussions("ann/pairs", repo_type="dataset")] == ["closed"]


def test_a_proposal_of_a_large_file(hub, ann, bob, transport):
    """A stranger's large files reach a pull request over Xet only: LFS asks for the right to write."""
    shard = bytes(range(256)) * 40
    if transport == "lfs":
        with pytest.raises(HfHubHTTPError) as error:
            propose(bob, "data/b.parquet", shard)
        assert error.value.response.status_code == 403
    else:
        propose(bob, "data/b.parquet", shard)
        assert hub.file("ann/pairs", "data/b.parquet", "refs/pr/1") == shard
    made = propose(ann, "data/own.parquet", shard)
    assert hub.file("ann/pairs", "data/own.parquet", made.pr_revision) == shard


def test_a_folder_as_a_proposal(hub, ann, bob, tmp_path, transport):
    (tmp_path / "a.parquet").write_bytes(bytes(5000))
    made = ann.upload_folder(repo_id="ann/pairs", repo_type="dataset", folder_path=tmp_path, create_pr=True)
    assert hub.file("ann/pairs", "a.parquet", made.pr_revision) == bytes(5000)
    assert "a.parquet" not in hub.paths("ann/pairs")
