"""What a format cannot carry is said before the export, and it is what the export then leaves out."""

import pytest

from rlhfv.corrections.pairs import PreferencePair
from rlhfv.errors import InvalidData
from rlhfv.publishing import formats
from tests.publishing.formats.rows import picture, rlhfv_row, with_metadata, write_parquet


@pytest.fixture
def pairs(tmp_path, shelf):
    """One of each kind that some format has trouble with, after one that all formats carry."""
    a, b = (shelf.intake(picture(seed)).name for seed in (1, 2))
    answers = {"chosen": "A cat.", "rejected": "A dog."}
    turn = {"question": "What is it?", "answer": "A cup.", "images": [a]}
    edit = {"start": 2, "end": 5, "replacement": "cat", "kind": "object"}
    rows = {
        "plain": {"question": "q", "images": [a], "edits": [edit]},
        "preferred": {"question": "Which?", "images": [a], "outcome": "preferred"},
        "history": {"question": "q", "history": [turn]},
        "later": {"question": "q", "history": [turn], "images": [b]},
        "none": {"question": "q"},
        "two": {"question": "q", "images": [a, b]},
        "place": {"question": "What is <image>?", "images": [a]},
        "old": {"question": "q?", "images": [a], "revision": 3},
    }
    made = [PreferencePair.from_row(answers | row | {"id": id}) for id, row in rows.items()]
    source = write_parquet([rlhfv_row(1, with_metadata())], tmp_path / "rows.parquet")
    return [*made, *formats.read(source, "rlhf-v", shelf)]


ONE_PICTURE = [
    "2 pairs with earlier turns: left out, since a row has one question.",
    "1 pair with several pictures: left out, since a row has one picture.",
    "1 pair without a picture: left out, since every row has one.",
    "1 correction: their places and kinds are not written; readers find them by a diff.",
    "1 preferred pair: written like corrected ones.",
    "8 pairs not from this format: annotator, licence, consent, time and sampling are not written.",
    "1 pair with earlier revisions: only the newest is written.",
]
LOSSES = {
    "rlhf-v": ONE_PICTURE,
    "rlhf-v-2023": [sentence.replace("8 pairs", "9 pairs") for sentence in ONE_PICTURE],
    "rlaif-v": [sentence.replace("8 pairs", "9 pairs") for sentence in ONE_PICTURE],
    "trl": [
        "1 pair with pictures in a later turn: TRL places all before the first question.",
        "1 preferred pair: trained by TRL like corrected ones; 'outcome' tells them apart.",
        "1 pair with earlier revisions: only the newest is written.",
    ],
    "llama-factory": [
        "1 pair with '<image>' or the like in a text: left out, since it would be taken for a picture.",
        "1 correction: their places and kinds are not written; readers find them by a diff.",
        "1 preferred pair: written like corrected ones.",
        "9 pairs: model, annotator, licence, consent, time and sampling are not written.",
        "1 pair with earlier revisions: only the newest is written.",
    ],
    "jsonl": [
        "1 picture that lost bytes when cleaned: go out clean; the format they came in restores them.",
        "1 pair with earlier revisions: only the newest is written.",
    ],
}


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_loss_is_told(pairs, name):
    assert formats.losses(name, iter(pairs)) == LOSSES[name]
    assert formats.losses(name, []) == []


@pytest.mark.parametrize("name", formats.FORMATS)
def test_what_is_left_out_is_what_was_told(tmp_path, pairs, shelf, find, name):
    left_out = sum(int(line.split()[0]) for line in formats.losses(name, pairs) if "left out" in line)
    assert formats.write(name, pairs, tmp_path / "out", find) == len(pairs) - left_out
    again = list(formats.read(tmp_path / "out", name, shelf))
    assert len(again) == len(pairs) - left_out and all(isinstance(pair, PreferencePair) for pair in again)
    assert formats.recognise(tmp_path / "out")[0] == name


@pytest.mark.parametrize("name", sorted(set(formats.FORMATS) - {"jsonl"}))
def test_an_export_of_nothing_is_refused(tmp_path, find, name):
    with pytest.raises(InvalidData, match="no pair that the format can carry"):
        formats.write(name, [], tmp_path / "out", find)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_second_export_replaces_the_first(tmp_path, pairs, shelf, find, name):
    formats.write(name, pairs, tmp_path / "out", find)
    formats.write(name, pairs[:1], tmp_path / "out", find)
    (pair,) = formats.read(tmp_path / "out", name, shelf)
    assert pair.prompt == pairs[0].prompt
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")]
