"""Who may do what, and how a refusal sounds."""

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError


@pytest.fixture
def client(hub, connect):
    connect()

    def client(token) -> HfApi:
        return HfApi(endpoint=hub.endpoint, token=token)

    return client


@pytest.fixture
def private(hub, client):
    client(hub.user("ann")).create_repo("ann/pairs", repo_type="dataset", private=True)
    hub.commit_as("ann", "ann/pairs", {"a.txt": b"one"})
    return "ann/pairs"


def status_of(call, *args, **kwargs) -> int:
    with pytest.raises(HfHubHTTPError) as error:
        call(*args, repo_type="dataset", **kwargs)
    return error.value.response.status_code


def upload(api: HfApi):
    return lambda repo, **options: api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, **options)


def test_whoami(hub, client):
    hub.organization("lab", ann="write", bob="read")
    found = client(hub.user("ann")).whoami()
    assert (found["name"], found["type"], found["auth"]["accessToken"]["role"]) == ("ann", "user", "write")
    assert [(one["name"], one["roleInOrg"]) for one in found["orgs"]] == [("lab", "write")]
    narrow = client(hub.user("bob", {"datasets/lab/pairs": "repo.write"})).whoami()["auth"]["accessToken"]
    assert narrow["role"] == "fineGrained"
    assert narrow["fineGrained"]["scoped"] == [
        {"entity": {"type": "dataset", "name": "datasets/lab/pairs"}, "permissions": ["repo.write"]}
    ]
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        client("hf_wrong").whoami()


def test_a_wrong_token_is_refused_even_where_none_is_needed(hub, client, private):
    ann = client(hub.user("ann"))
    ann.update_repo_settings(private, private=False, repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as error:
        client("hf_wrong").dataset_info(private)
    assert error.value.response.status_code == 401 and not isinstance(error.value, RepositoryNotFoundError)
    token = hub.user("bob")
    assert client(token).dataset_info(private).id == private
    hub.revoke(token)
    assert status_of(client(token).repo_info, private) == 401


def test_to_strangers_a_private_repository_does_not_exist(hub, client, private):
    for api, status in ((client(False), 401), (client(hub.user("bob")), 404)):
        for call in (api.repo_info, api.list_repo_commits, api.auth_check, upload(api)):
            with pytest.raises(RepositoryNotFoundError) as error:
                call(private, repo_type="dataset")
            assert error.value.response.status_code == status
        with pytest.raises(RepositoryNotFoundError):
            api.hf_hub_download(private, "a.txt", repo_type="dataset")


def test_a_token_may_be_for_reading_only(hub, client, private):
    reader = client(hub.user("ann", "read"))
    assert reader.dataset_info(private).private
    reader.auth_check(private, repo_type="dataset")
    assert status_of(reader.auth_check, private, write=True) == 403
    assert status_of(reader.create_repo, "ann/other") == 403
    with pytest.raises(HfHubHTTPError, match="write token"):
        upload(reader)(private, repo_type="dataset")
    assert status_of(reader.delete_repo, private) == 403
    # The client falls back to what exists.
    assert reader.create_repo(private, repo_type="dataset", exist_ok=True).repo_id == private


def test_a_token_for_one_repository(hub, client, private):
    owner = client(hub.user("ann"))
    owner.create_repo("ann/diary", repo_type="dataset", private=True)
    owner.create_repo("ann/open", repo_type="dataset")
    narrow = client(hub.user("ann", {"datasets/ann/pairs": "repo.write", "datasets/ann/open": "repo.content.read"}))
    narrow.auth_check(private, repo_type="dataset", write=True)
    assert upload(narrow)(private, repo_type="dataset").oid == hub.commits(private)[0].oid
    assert status_of(narrow.repo_info, "ann/diary") == 404
    with pytest.raises(HfHubHTTPError, match="permission repo"):
        upload(narrow)("ann/open", repo_type="dataset")
    assert status_of(narrow.create_repo, "ann/more") == 403
    wide = client(hub.user("ann", {"ann": ["repo.write"]}))
    assert wide.create_repo("ann/more", repo_type="dataset").repo_id == "ann/more"


def test_an_organization(hub, client):
    hub.organization("lab", ann="write", bob="read")
    ann, bob, eve = (client(hub.user(name)) for name in ("ann", "bob", "eve"))
    ann.create_repo("lab/pairs", repo_type="dataset", private=True)
    assert bob.dataset_info("lab/pairs").id == "lab/pairs"
    assert status_of(upload(bob), "lab/pairs") == 403
    assert status_of(eve.repo_info, "lab/pairs") == 404
    assert status_of(eve.create_repo, "lab/more") == 403
    assert status_of(bob.create_repo, "lab/more") == 403


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("call", ["upload_file", "upload_folder"])
def test_a_refused_xet_token_sounds_like_a_broken_network(hub, client, monkeypatch, tmp_path, call, status):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    ann = client(hub.user("ann"))
    ann.create_repo("ann/pairs", repo_type="dataset")
    shard = tmp_path / "a.parquet"
    shard.write_bytes(bytes(100))
    one = {"path_or_fileobj": shard, "path_in_repo": "a.parquet"}
    arguments = one if call == "upload_file" else {"folder_path": tmp_path}
    fault = hub.fail("/xet-write-token/", status=status, times=None)
    with pytest.raises(ConnectionError, match=str(status)) as error:
        getattr(ann, call)(repo_id="ann/pairs", repo_type="dataset", **arguments)
    assert not hasattr(error.value, "response") and fault.hits == 1


def test_tokens_in_the_wrong_place_are_seen(hub, client, private):
    token = hub.user("ann")
    ann = client(token)
    ann.dataset_info(private)
    assert hub.leaks == [] and hub.find(token, history=True) == []
    assert not any(token in str(vars(request)) for request in hub.requests)
    ann.upload_file(
        path_or_fileobj=f"my token is {token}".encode(), path_in_repo="log.txt", repo_id=private, repo_type="dataset"
    )
    ann.file_exists(private, token, repo_type="dataset")
    assert [leak.split(" holds ")[0].split("/")[-2] for leak in hub.leaks] == ["preupload", "commit", "main"]
    assert [place.rpartition(":")[2] for place in hub.find(token)] == ["log.txt"]
