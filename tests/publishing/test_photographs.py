"""Photographs out of a data set on a Hub of our own, as the page of a Space opens on them."""

import json

import pytest
from huggingface_hub import CommitOperationAdd

from rlhfv.cli import main
from rlhfv.corrections.recorded import find_recorded, read_recorded
from rlhfv.errors import InvalidData
from rlhfv.publishing.hub import Hub
from rlhfv.publishing.photographs import BY_PEOPLE, DATASET, fetch_photographs
from tests.publishing.formats.rows import picture, rlhfv_row, texts, write_parquet

CARD = b"---\nlicense: cc-by-nc-4.0\n---\nPhotographs.\n"
REJECTED = "A young man stands on a stage in white shoes and holds a long blue kite."
CHOSEN = "A young man stands on a stage in white shoes and holds a red kite."


def row(number: int, size=(320, 260), **changes) -> dict:
    said = {"question": f"What is in picture {number}?", "chosen": CHOSEN, "rejected": REJECTED}
    given = {"text": json.dumps(said), "image": picture(number, size=size)}
    return rlhfv_row(number, **given | changes)


ROWS = [
    row(1, size=(100, 300)),  # too small
    row(2, text=json.dumps(texts(2))),  # too long
    row(3, text="{"),
    row(4, origin_split=json.dumps({"type": "detailed_description"})),  # nobody said it
    row(5, origin_dataset="WikiArt"),
    row(6, text=json.dumps({"question": "?", "chosen": CHOSEN, "rejected": CHOSEN})),
    row(7, image=b"no picture"),
    row(8),
    row(9),
    row(10),
]


def put_dataset(hub, connect, tmp_path, rows=ROWS, card=CARD, name=DATASET) -> str:
    """Puts the rows on the Hub; returns the commit."""
    owner = name.partition("/")[0]
    api = connect(hub.user(owner))
    api.create_repo(name, repo_type="dataset", exist_ok=True)
    operations = [
        CommitOperationAdd("README.md", card),
        CommitOperationAdd("RLHF-V-Dataset.parquet", write_parquet(rows, tmp_path / "rows.parquet").read_bytes()),
    ]
    return api.create_commit(name, operations, commit_message="Rows", repo_type="dataset").oid


def test_the_first_that_fit_are_taken_with_row_commit_licence_and_origin(hub, connect, tmp_path):
    commit = put_dataset(hub, connect, tmp_path)
    connect(None)
    fetch_photographs(Hub(False), DATASET, 2, tmp_path / "out")
    one, two = map(read_recorded, find_recorded(tmp_path / "out"))
    assert [one.source.row, two.source.row] == [8, 9]
    source = one.source
    assert (source.revision, source.licence, source.origin) == (commit, "cc-by-nc-4.0", "LCS-558K")
    fetch_photographs(Hub(False), f"{DATASET}@main", 1, tmp_path / "branch")
    assert read_recorded(tmp_path / "branch" / "1").source.revision == commit, "a branch would be another one tomorrow"
    assert (one.left.voice, one.left.text) == ("Muffin", REJECTED)
    assert (one.right.voice, one.right.text, one.by_people) == (BY_PEOPLE, CHOSEN, True)
    assert one.question == "What is in picture 8?" and one.sampling is None


def test_a_commit_that_is_named_is_the_one_that_is_read(hub, connect, tmp_path, capsys):
    commit = put_dataset(hub, connect, tmp_path)
    put_dataset(hub, connect, tmp_path, [row(20)])
    connect(None)
    words = ["record", "--dataset", f"{DATASET}@{commit}", "--count", "1", "--output", str(tmp_path / "out")]
    assert main(words) == 0 and "1 comparison" in capsys.readouterr().err
    (folder,) = find_recorded(tmp_path / "out")
    assert read_recorded(folder).source.row == 8


def test_what_may_not_be_shown_or_does_not_fit_is_told(hub, connect, tmp_path):
    put_dataset(hub, connect, tmp_path, card=b"---\ntags: [x]\n---\n")
    with pytest.raises(InvalidData, match="names no licence"):
        fetch_photographs(Hub(False), DATASET, 1, tmp_path / "out")
    put_dataset(hub, connect, tmp_path, ROWS[:7])
    with pytest.raises(InvalidData, match="None of the first rows"):
        fetch_photographs(Hub(False), DATASET, 1, tmp_path / "out")
    with pytest.raises(InvalidData, match="no data set 'nobody/nothing'"):
        fetch_photographs(Hub(False), "nobody/nothing", 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()
