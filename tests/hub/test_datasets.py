"""`datasets` and the download functions against the Hub: what anyone does with a published dataset."""

import io
import subprocess
import sys

import pytest
from huggingface_hub import CommitOperationAdd, constants, snapshot_download
from huggingface_hub.errors import EntryNotFoundError

from tests.apps import ROOT

CARD = """---
license: cc-by-4.0
configs:
- config_name: default
  default: true
  data_files:
  - split: train
    path: data/train-*.parquet
- config_name: judgements
  data_files:
  - split: train
    path: judgements/*.parquet
---
# Pairs
"""


@pytest.fixture
def shards(make_picture):
    """Two shards of pairs with embedded pictures, and one of judgements, as Parquet bytes."""
    import datasets

    features = datasets.Features({"id": datasets.Value("string"), "images": datasets.List(datasets.Image())})

    def as_parquet(rows, features=None) -> bytes:
        buffer = io.BytesIO()
        datasets.Dataset.from_list(rows, features=features).to_parquet(buffer)
        return buffer.getvalue()

    def pairs(start: int) -> bytes:
        rows = [
            {"id": f"p{at}", "images": [{"bytes": make_picture(at), "path": None}]} for at in range(start, start + 3)
        ]
        return as_parquet(rows, features)

    return {
        "data/train-00000.parquet": pairs(0),
        "data/train-00001.parquet": pairs(3),
        "judgements/train-00000.parquet": as_parquet([{"id": "j0", "outcome": "tie"}]),
    }


@pytest.fixture
def published(ann, shards, transport):
    ann.create_repo("ann/pairs", repo_type="dataset", private=True)
    files = {"README.md": CARD.encode(), **shards}
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    ann.create_commit("ann/pairs", operations, commit_message="Pairs", repo_type="dataset")
    return "ann/pairs"


def test_load_dataset(hub, published, make_picture):
    import datasets

    loaded = datasets.load_dataset(published, split="train")
    assert loaded["id"][:] == [f"p{at}" for at in range(6)]
    assert loaded.features["images"].feature == datasets.Image()
    assert loaded[4]["images"][0].size == (24, 24)
    raw = loaded.cast_column("images", datasets.List(datasets.Image(decode=False)))
    assert raw[4]["images"][0]["bytes"] == make_picture(4)
    other = datasets.load_dataset(published, "judgements", split="train")
    assert other["outcome"][:] == ["tie"]


def test_stream_a_dataset(hub, published, make_picture):
    import datasets

    streamed = datasets.load_dataset(published, split="train", streaming=True)
    rows = list(streamed)
    assert [row["id"] for row in rows] == [f"p{at}" for at in range(6)]
    assert rows[5]["images"][0].size == (24, 24)
    assert hub.requests_to("^GET /datasets/ann/pairs/resolve/")


def test_a_second_load_fetches_only_what_changed(hub, ann, published, shards):
    import datasets

    datasets.load_dataset(published, split="train")
    hub.requests.clear()
    hub.commit_as("ann", published, {"data/train-00002.parquet": shards["data/train-00000.parquet"][:-4] + b"PAR1"})
    hub.commit_as("ann", published, {"data/train-00002.parquet": shards["data/train-00001.parquet"]})
    loaded = datasets.load_dataset(published, split="train")
    assert len(loaded) == 9
    fetched = {request.path.rpartition("/")[2] for request in hub.requests_to("^GET .*/resolve/.*parquet$")}
    assert fetched <= {"train-00002.parquet"}


def test_a_private_dataset_needs_its_token(hub, connect, published):
    import datasets

    for streaming in (False, True):
        connect()  # again: refused, `load_dataset` would quietly give what its cache holds
        with pytest.raises(datasets.exceptions.DatasetNotFoundError):
            datasets.load_dataset(published, split="train", streaming=streaming)
        rows = datasets.load_dataset(published, split="train", streaming=streaming, token=hub.user("ann", "read"))
        assert sum(1 for _ in rows) == 6


def test_push_to_hub_reads_back(hub, ann, shards, transport):
    import datasets

    rows = datasets.Dataset.from_dict({"id": ["p0", "p1", "p2"]})
    rows.push_to_hub("ann/pushed", private=True)
    assert datasets.load_dataset("ann/pushed", split="train")["id"][:] == ["p0", "p1", "p2"]
    assert hub.repo("ann/pushed").private


def test_one_file_and_its_cache(hub, ann, published, shards):
    def download():
        path = ann.hf_hub_download(published, "data/train-00000.parquet", repo_type="dataset")
        with open(path, "rb") as file:
            assert file.read() == hub.file(published, "data/train-00000.parquet")

    download()
    hub.requests.clear()
    download()
    assert [request.method for request in hub.requests] == ["HEAD"]
    hub.commit_as("bob", published, {"data/train-00000.parquet": shards["data/train-00001.parquet"]})
    download()
    with pytest.raises(EntryNotFoundError):
        ann.hf_hub_download(published, "data/none.parquet", repo_type="dataset")


def test_a_snapshot(hub, ann, published, tmp_path):
    head = hub.commits(published)[0].oid
    folder = snapshot_download(published, repo_type="dataset", revision=head, local_dir=tmp_path / "copy")
    found = {str(path.relative_to(folder)) for path in (tmp_path / "copy").rglob("*.parquet")}
    assert found == {path for path in hub.paths(published) if path.endswith(".parquet")}
    for path in found:
        assert (tmp_path / "copy" / path).read_bytes() == hub.file(published, path)


def test_what_came_over_xet_can_be_had_over_http(hub, ann, published, monkeypatch, transport):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", transport == "xet")
    path = ann.hf_hub_download(published, "data/train-00001.parquet", repo_type="dataset")
    with open(path, "rb") as file:
        assert file.read() == hub.file(published, "data/train-00001.parquet")


@pytest.mark.slow
def test_a_process_of_its_own(hub, published, transport, tmp_path):
    """What the environment is for: nothing in the code names this Hub."""
    code = f"import datasets; print(datasets.load_dataset({published!r}, split='train')['id'][:])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=hub.environment(hub.user("ann"), tmp_path / "home", xet=transport == "xet"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([f"p{at}" for at in range(6)])
    assert bool(hub.requests_to("/xet-read-token/")) == (transport == "xet")
