import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rlhfv.corrections.conversation import ModelIdentity, Prompt, Turn
from rlhfv.corrections.edits import from_texts
from rlhfv.errors import StudioError
from rlhfv.publishing.schema import (
    PAIRS,
    judgement_from_row,
    judgement_to_row,
    pair_from_row,
    pair_to_row,
)
from rlhfv.publishing.shards import read_shard, write_shard
from tests.publishing.conftest import CREATED


@pytest.fixture
def through(bench, tmp_path):
    """A pair through a Parquet file and back."""

    def through(pair, **changes):
        row = pair_to_row(pair, CREATED, pair.provenance.annotator, lambda name: bench.shelf.path(name).read_bytes())
        write_shard(tmp_path / "shard.parquet", [row], PAIRS)
        (row,) = read_shard(tmp_path / "shard.parquet")
        return pair_from_row(row | changes, lambda data: bench.shelf.intake(data).name)

    return through


def test_a_pair_comes_back_as_it_was(bench, through):
    pictures = [bench.picture(seed) for seed in range(3)]
    history = (Turn("First?", "Yes.", (pictures[0], pictures[1])), Turn("Second?", "No."))
    prompt = Prompt("And here?", (pictures[2],), history)
    pair = bench.pair(1, prompt=prompt, revision=7, source="demo:pairs/12", origin='{"format": "x"}')
    assert through(pair) == pair
    preferred = bench.pair(2, outcome="preferred", edits=(), revision=1)
    assert through(preferred) == preferred


def test_the_model_of_a_preferred_answer_comes_back(bench, through):
    from dataclasses import replace

    pair = bench.pair(2, outcome="preferred", edits=(), revision=1)
    pair = replace(pair, provenance=replace(pair.provenance, chosen_model=ModelIdentity("m", "1", "mine@2")))
    assert through(pair) == pair


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_segments_name_the_text_they_cover(rejected, chosen):
    from tests.publishing.conftest import MODEL, PreferencePair, Provenance

    try:
        pair = PreferencePair(
            "p", Prompt("?"), chosen, rejected, from_texts(rejected, chosen), "corrected", Provenance(MODEL)
        )
        pair.validate()
    except StudioError:
        return
    row = pair_to_row(pair, CREATED, "", lambda name: b"")
    for segment in row["segments"]:
        assert rejected[segment["rejected_start"] : segment["rejected_end"]] == segment["rejected_text"]
        assert chosen[segment["chosen_start"] : segment["chosen_end"]] == segment["chosen_text"]
        assert segment["op"] in ("replace", "insert", "delete")


def test_pictures_are_published_as_they_lie_on_the_shelf(bench, tmp_path):
    pair = bench.pair(1)
    (name,) = pair.prompt.images
    row = pair_to_row(pair, CREATED, "x", lambda name: bench.shelf.path(name).read_bytes())
    write_shard(tmp_path / "shard.parquet", [row], PAIRS)
    (row,) = read_shard(tmp_path / "shard.parquet")
    assert row["images"] == [{"bytes": bench.shelf.path(name).read_bytes(), "path": name}]
    assert row["image_sha256"] == [name.partition(".")[0]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chosen": [{"role": "assistant", "content": "Another text."}]}, "corrections"),
        ({"chosen": []}, "'chosen'"),
        ({"prompt": [{"role": "assistant", "content": "?"}]}, "roles"),
        ({"prompt": []}, "roles"),
        ({"images": [{"bytes": None, "path": "http://elsewhere/a.png"}]}, "no bytes"),
        ({"images": [{"bytes": b"not a picture", "path": "a.png"}]}, "image"),
        ({"image_turns": [3]}, "image_turns"),
        ({"id": "../etc"}, "id"),
        ({"id": None}, "id"),
        ({"revision": 2_000_000}, "revision"),
        ({"provenance": None}, "licence"),
    ],
)
def test_a_broken_row_is_told(bench, through, change, said):
    with pytest.raises(StudioError) as error:
        through(bench.pair(1, revision=1), **change)
    assert said in str(error.value)


def test_a_segment_that_names_another_text_is_told(bench):
    row = pair_to_row(bench.pair(1, revision=1), CREATED, "x", lambda name: bench.shelf.path(name).read_bytes())
    row["segments"][0]["rejected_text"] = "green"
    with pytest.raises(StudioError, match="green"):
        pair_from_row(row, lambda data: bench.shelf.intake(data).name)


def test_rows_of_another_format_keep_their_columns(bench):
    origin = '{"format": "rlhf-v", "original": "", "row": {"ds_name": "RLHF-V", "idx": 12, "image_path": "a.jpg"}}'
    row = pair_to_row(bench.pair(1, origin=origin), CREATED, "x", lambda name: b"")
    assert (row["ds_name"], row["idx"], row["image_path"]) == ("RLHF-V", 12, "a.jpg")
    forged = origin.replace("12", str(2**70)).replace('"a.jpg"', "[1]")
    row = pair_to_row(bench.pair(1, origin=forged), CREATED, "x", lambda name: b"")
    assert row["ds_name"] == "RLHF-V" and 0 <= row["idx"] < 2**32 and row["image_path"].endswith(".png")


def test_a_judgement_comes_back_with_its_answers(bench):
    judgement = bench.judge("j1", "tie", answers=2)
    _, answers = bench.published.judgement("j1")
    row = judgement_to_row(judgement, answers, "Ann Lee", lambda name: bench.shelf.path(name).read_bytes())
    found, back = judgement_from_row(row, lambda data: bench.shelf.intake(data).name)
    assert found == judgement
    assert [(one.id, one.prompt, one.text, one.model, one.sampling, one.row) for one in back] == [
        (one.id, one.prompt, one.text, one.model, one.sampling, one.row) for one in answers
    ]
    with pytest.raises(StudioError, match="not whole"):
        judgement_from_row(row | {"answers": None}, lambda data: "")


def test_pictures_open(bench, tmp_path):
    from datasets import load_dataset

    row = pair_to_row(bench.pair(1), CREATED, "x", lambda name: bench.shelf.path(name).read_bytes())
    write_shard(tmp_path / "shard.parquet", [row], PAIRS)
    loaded = load_dataset("parquet", data_files=str(tmp_path / "shard.parquet"), split="train", cache_dir=tmp_path)
    assert loaded.features == PAIRS
    expected = Image.open(io.BytesIO(row["images"][0]["bytes"]))
    assert loaded[0]["images"][0].tobytes() == expected.tobytes()
