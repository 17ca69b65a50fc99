import json

import pytest
from huggingface_hub import ModelCard, snapshot_download

from rlhfv.ddpo.card import write_card
from rlhfv.ddpo.config import RECIPES
from rlhfv.errors import InvalidData, RunFailed
from rlhfv.publishing.adapters import DataLink, push_adapter
from rlhfv.publishing.hub import Hub

REPO = "ann/adapter"
BASE = {"name": "llava-hf/llava-1.5-7b-hf", "revision": "b" * 40}


@pytest.fixture
def make_adapter(tmp_path, bench):
    """A run's adapter folder: weights of a few bytes, the config as PEFT leaves it, both cards."""

    def make(base=BASE, annotators=("Ann Lee", "oracle", "")):
        folder = tmp_path / "run-1" / "adapter"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
        config = {"base_model_name_or_path": str(tmp_path / "models" / "llava"), "revision": None, "r": 16}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        pairs = [bench.pair(number, annotator=name).to_row() for number, name in enumerate(annotators)]
        write_card(folder, "run-1", base, RECIPES["demo"], pairs, 0, {"loss": 0.1})
        return folder

    return make


@pytest.fixture
def push(hub, ann, tmp_path, waits):
    def push(folder, shown=None, **options):
        shown = shown or {"Ann Lee": "annotator-1", "oracle": "oracle", "unnamed": "unnamed"}
        rights = Hub(ann, hub.endpoint)
        return push_adapter(folder, REPO, rights, tmp_path / "work", shown, wait=waits.append, **options)

    return push


def read(hub, path: str) -> str:
    return hub.file(REPO, path, repo_type="model").decode()


def test_an_adapter_with_its_card_and_its_data(hub, make_adapter, push, transport, tmp_path):
    folder = make_adapter()
    pushed = push(folder, data=DataLink("ann/pairs", "c" * 40))
    assert pushed.commit == hub.commits(REPO, repo_type="model")[0].oid and hub.repo(REPO, "model").private
    assert not (tmp_path / "work").exists()
    card = ModelCard(read(hub, "README.md"))
    assert card.data.base_model == BASE["name"] and card.data.datasets == ["ann/pairs"]
    assert card.data.library_name == "peft" and "c" * 40 in card.text and "annotator-1 (1), oracle (1)" in card.text
    assert json.loads(read(hub, "rlhfv.json"))["dataset"] == {"repo": "ann/pairs", "commit": "c" * 40}
    config = json.loads(read(hub, "adapter_config.json"))
    assert (config["base_model_name_or_path"], config["revision"]) == (BASE["name"], BASE["revision"])
    assert not hub.find("Ann Lee", history=True) and not hub.find(str(tmp_path), history=True)
    assert (folder / "rlhfv.json").read_text().count("Ann Lee") == 1, "the run itself was changed"
    assert push(folder, data=DataLink("ann/pairs", "c" * 40)).commit == pushed.commit


def test_whoever_agreed_is_named(hub, make_adapter, push):
    push(make_adapter(), {"Ann Lee": "Ann Lee", "oracle": "oracle", "unnamed": "unnamed"}, private=False)
    assert "Ann Lee (1), oracle (1), unnamed (1)" in read(hub, "README.md")
    assert not hub.repo(REPO, "model").private


def test_a_base_that_is_no_repository(hub, make_adapter, push):
    push(make_adapter({"name": "demo", "revision": "d" * 64}))
    assert ModelCard(read(hub, "README.md")).data.base_model is None
    assert json.loads(read(hub, "adapter_config.json"))["base_model_name_or_path"] == "demo"


def test_a_card_in_which_a_name_may_hide(make_adapter, push):
    folder = make_adapter()
    (folder / "README.md").write_text("# Mine\n\nWith the help of Ann Lee.\n")
    with pytest.raises(InvalidData, match="changed by hand"):
        push(folder)


def test_a_run_without_an_adapter(tmp_path, push):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(RunFailed, match="no adapter to publish"):
        push(tmp_path / "adapter")


@pytest.mark.parametrize("fault", [{"drop": "reply"}, {"status": 503}], ids=str)
def test_a_broken_push_is_made_once(hub, make_adapter, push, fault):
    hub.fail("POST .*/commit/", **fault)
    hub.fail("POST /api/repos/create", **fault)
    pushed = push(make_adapter())
    assert [commit.oid for commit in hub.commits(REPO, repo_type="model")][:-1] == [pushed.commit]


def test_it_is_loaded_by_its_commit(hub, make_adapter, push, connect, ann, tmp_path):
    connect(ann.secret)
    pushed = push(make_adapter())
    folder = snapshot_download(REPO, revision=pushed.commit, allow_patterns=["adapter_*"], local_dir=tmp_path / "got")
    assert (tmp_path / "got" / "adapter_model.safetensors").read_bytes() == b"weights" and folder
