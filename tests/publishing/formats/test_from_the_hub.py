"""Datasets on the Hub, streamed by the real client from a Hub of our own."""

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd

from rlhfv.cli import main
from rlhfv.corrections.exchange import RowProblem
from rlhfv.errors import InvalidData
from rlhfv.publishing import formats
from rlhfv.publishing.formats import rlhfv
from tests.publishing.formats.rows import read_parquet, rlhfv_row, texts, with_metadata, write_parquet

ROWS = [rlhfv_row(1, with_metadata(1)), rlhfv_row(2, text="{"), rlhfv_row(3), rlhfv_row(4)]


@pytest.fixture
def owner(hub):
    return hub.user("ann")


@pytest.fixture
def publish(hub, owner, connect, tmp_path):
    """Puts two shards of rows into a dataset; afterwards the machine is signed in as nobody."""

    def publish(private: bool) -> str:
        ann = connect(owner)
        ann.create_repo("ann/pairs", repo_type="dataset", private=private)
        shards = [write_parquet(rows, tmp_path / f"{n}.parquet") for n, rows in enumerate((ROWS[:2], ROWS[2:]))]
        operations = [CommitOperationAdd(f"data/train-{n}.parquet", shard) for n, shard in enumerate(shards)]
        ann.create_commit("ann/pairs", operations, commit_message="Pairs", repo_type="dataset")
        connect(None)
        return "ann/pairs"

    return publish


def test_rows_are_streamed_and_come_back_byte_for_byte(publish, shelf, find, tmp_path):
    name = publish(private=False)
    assert formats.recognise(name)[0] == "rlhf-v"
    one, problem, three, four = formats.read(name, "rlhf-v", shelf)
    assert isinstance(problem, RowProblem) and str(problem).startswith("Row 2 of train: ")
    assert [pair.prompt.question for pair in (one, three, four)] == [texts(seed)["question"] for seed in (1, 3, 4)]
    rlhfv.write([one, three, four], tmp_path / "out", find)
    assert read_parquet(tmp_path / "out" / rlhfv.FILE) == [ROWS[0], *ROWS[2:]]


def test_a_private_dataset_needs_its_own_token(publish, owner, shelf, monkeypatch):
    name = publish(private=True)
    monkeypatch.setenv("HF_TOKEN", owner)
    with pytest.raises(InvalidData, match="could not be opened") as refused:
        formats.recognise(name)
    assert owner not in str(refused.value), "the machine's token was not used"
    assert len(list(formats.read(name, "rlhf-v", shelf, token=owner))) == 4


def test_a_dataset_that_is_not_there_is_told(connect, shelf):
    connect(None)
    with pytest.raises(InvalidData, match="The dataset nobody/nothing could not be opened"):
        list(formats.read("nobody/nothing", "trl", shelf))


def test_the_command_reads_with_the_token_that_it_is_told_to_take(publish, owner, tmp_path, monkeypatch, capsys):
    """What `hf auth login` left on the machine is taken for `--login` only."""
    name, saved = publish(private=True), tmp_path / "saved-token"
    saved.write_text(owner)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(saved))
    imports = ["pairs", "import", name, "--data-dir", str(tmp_path / "data")]
    assert main(imports) == 2 and "could not be opened" in capsys.readouterr().err
    assert main([*imports, "--login"]) == 0 and "3 pairs imported" in capsys.readouterr().err
    monkeypatch.setenv("MY_TOKEN", owner)
    assert main([*imports, "--token-env", "MY_TOKEN"]) == 0 and owner not in capsys.readouterr().err
    saved.unlink()
