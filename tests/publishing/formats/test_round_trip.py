"""What came in goes out as it was."""

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.publishing import formats
from rlhfv.publishing.formats import rlaifv, rlhfv, rlhfv_2023
from tests.publishing.formats.rows import (
    FLAT,
    RLHFV,
    flat_row,
    picture,
    read_parquet,
    rlhfv_row,
    texts,
    with_metadata,
    write_parquet,
)


def read_all(format, source, shelf):
    pairs = list(formats.read(source, format, shelf))
    assert [pair for pair in pairs if isinstance(pair, RowProblem)] == []
    return pairs


def through_the_store(pairs, store):
    """As they are after a save and a restart."""
    assert store.add_pairs(pairs) == len(pairs)
    return [replace(pair, revision=0) for pair in store.all_pairs()]


PICTURES = {
    "clean": picture(1),
    "with EXIF and a comment": with_metadata(2),
    "lying on its side": with_metadata(3, orientation=6),
    "PNG": picture(4, "PNG"),
    "GIF": picture(5, "GIF"),
    "WebP": picture(6, "WEBP"),
    "with bytes behind its end": picture(7) + b"trailing",
}
TEXTS = {
    "as json.dumps writes it": json.dumps(texts(1)),
    "characters as they are": json.dumps(
        {"question": "Où ?", "chosen": "Un chat 🐈.", "rejected": "Un chien."}, ensure_ascii=False
    ),
    "another order, other blanks": '{ "rejected":"A dog.",\n "chosen" : "A \\u0063at." ,"question":"What?"}',
    "with log-probabilities": json.dumps(texts(2) | {"logps": [[-1.5, -0.25], -3e-05]}),
    "an escaped slash": '{"question": "a\\/b?", "chosen": "yes", "rejected": "no"}',
}


@pytest.mark.parametrize("image", PICTURES.values(), ids=PICTURES)
@pytest.mark.parametrize(("row", "format", "columns"), [(rlhfv_row, rlhfv, RLHFV), (flat_row, rlaifv, FLAT)])
def test_pictures_come_back_byte_for_byte(tmp_path, shelf, store, find, row, format, columns, image):
    rows = [row(1, image), row(2)]
    source = write_parquet(rows, tmp_path / "in.parquet", columns)
    pairs = through_the_store(read_all(format.NAME, source, shelf), store)
    assert formats.write(format.NAME, pairs, tmp_path / "out", find) == 2
    assert read_parquet(tmp_path / "out" / format.FILE) == rows
    assert b"GPS" not in shelf.path(pairs[0].prompt.images[0]).read_bytes()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_text_comes_back_character_by_character(tmp_path, shelf, store, find, text):
    source = write_parquet([rlhfv_row(text=text)], tmp_path / "in.parquet")
    (pair,) = through_the_store(read_all("rlhf-v", source, shelf), store)
    parsed = json.loads(text)
    assert (pair.prompt.question, pair.chosen, pair.rejected) == tuple(
        parsed[name] for name in ("question", "chosen", "rejected")
    )
    rlhfv.write([pair], tmp_path / "out", find)
    assert read_parquet(tmp_path / "out" / rlhfv.FILE)[0]["text"] == text


def test_columns_keep_their_order_types_and_empty_values(tmp_path, shelf, store, find):
    rows = [
        rlhfv_row(1, score=0.1, checked=True, note="é", count=2**40, origin_split=None),
        rlhfv_row(2, score=None, checked=None, note=None, count=None, origin_dataset=None, image_path=""),
        rlhfv_row(
            3, image={"bytes": picture(3), "path": None}["bytes"], score=1e300, checked=False, note="", count=-1
        ),
    ]
    rows[2]["image"]["path"] = None
    columns = RLHFV | {"score": "float64", "checked": "bool", "note": "string", "count": "int64"}
    source = write_parquet(rows, tmp_path / "in.parquet", columns)
    pairs = through_the_store(read_all("rlhf-v", source, shelf), store)
    rlhfv.write(pairs, tmp_path / "out", find)
    given = read_parquet(tmp_path / "out" / rlhfv.FILE)
    assert given == rows and [list(row) for row in given] == [list(row) for row in rows]


def test_a_flat_copy_keeps_numbers_as_its_idx(tmp_path, shelf, find):
    rows = [flat_row(seed, idx=seed) for seed in range(3)]
    source = write_parquet(rows, tmp_path / "in.parquet", FLAT | {"idx": "int64"})
    rlaifv.write(read_all("rlaif-v", source, shelf), tmp_path / "out", find)
    assert read_parquet(tmp_path / "out" / rlaifv.FILE) == rows


def first_generation(seed, text, **changes):
    split = json.dumps({"model": "Muffin", "type": "question answering"})
    return {
        "dataset_name": "RLHF-V-Hall_v0",
        "image": f"coco/{seed}.jpg",
        "text": text,
        "origin_dataset": "dpo/cvpr",
        "origin_split": base64.b64encode(split.encode()).decode(),
        "origin_split_inner_idx": str(seed),
        "image_path": f"{seed}",
    } | changes


def test_the_first_generation_comes_back(tmp_path, shelf, store, find):
    one, two, three = (texts(seed) for seed in (1, 2, 3))
    listed = [three["question"], three["chosen"], three["rejected"]]
    rows = [
        first_generation(1, one),
        first_generation(2, json.dumps(two, ensure_ascii=False), image="train2014", image_path="coco/2.jpg"),
        first_generation(3, base64.b64encode(json.dumps(listed).encode()).decode()),
        first_generation(4, texts(4), image=base64.b64encode(picture(4)).decode()),
    ]
    (tmp_path / "in" / "coco").mkdir(parents=True)
    for seed in (1, 2, 3):
        (tmp_path / "in" / "coco" / f"{seed}.jpg").write_bytes(with_metadata(seed))
    source = tmp_path / "in" / "RLHF-V-Dataset.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert formats.recognise(source)[0] == "rlhf-v-2023"

    pairs = through_the_store(read_all("rlhf-v-2023", source, shelf), store)
    assert [pair.provenance.model.name for pair in pairs] == ["Muffin"] * 4
    rlhfv_2023.write(pairs, tmp_path / "out", find)
    written = (tmp_path / "out" / rlhfv_2023.FILE).read_text().splitlines()
    assert [json.loads(line) for line in written] == rows
    assert [list(json.loads(line)) for line in written] == [list(row) for row in rows]
    for seed in (1, 2, 3):
        assert (tmp_path / "out" / "coco" / f"{seed}.jpg").read_bytes() == with_metadata(seed)


def test_a_changed_pair_goes_out_with_its_new_text(tmp_path, shelf, find):
    logps = json.dumps(texts(1) | {"logps": [1.5]})
    source = write_parquet([rlhfv_row(1, text=logps)], tmp_path / "in.parquet")
    (pair,) = read_all("rlhf-v", source, shelf)
    changed = PreferencePair.from_row(
        {"id": pair.id, "question": pair.prompt.question, "images": list(pair.prompt.images)}
        | {"rejected": pair.rejected, "chosen": "Nothing of all that.", "provenance": pair.provenance.to_row()}
    )
    rlhfv.write([changed], tmp_path / "out", find)
    (row,) = read_parquet(tmp_path / "out" / rlhfv.FILE)
    assert json.loads(row["text"]) == {
        "question": pair.prompt.question,
        "chosen": "Nothing of all that.",
        "rejected": pair.rejected,
    }, "log-probabilities of another text are gone"
    assert row | {"text": ""} == rlhfv_row(1, text="")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    written=st.fixed_dictionaries(
        {name: st.text(min_size=1, max_size=40) for name in ("question", "chosen", "rejected")}
    ),
    ascii=st.booleans(),
    idx=st.integers(-(2**63), 2**63 - 1),
    name=st.text(max_size=20),
    split=st.none() | st.text(max_size=30) | st.just('{"model": "m", "type": 3}'),
)
def test_any_row_comes_back(tmp_path_factory, shelf, find, written, ascii, idx, name, split):
    if written["chosen"] == written["rejected"] or not written["chosen"].strip():
        return
    folder = tmp_path_factory.mktemp("row")
    text = json.dumps(written, ensure_ascii=ascii)
    row = rlhfv_row(0, text=text, idx=idx, ds_name=name, origin_split=split)
    pairs = read_all("rlhf-v", write_parquet([row], folder / "in.parquet"), shelf)
    assert pairs[0].corrected_answer.corrected == written["chosen"]
    rlhfv.write(pairs, folder / "out", find)
    assert read_parquet(folder / "out" / rlhfv.FILE) == [row]


def test_the_same_file_twice_gives_the_same_pairs(tmp_path, shelf, store):
    rows = [rlhfv_row(1), rlhfv_row(1, idx=2), rlhfv_row(3)]
    source = write_parquet(rows, tmp_path / "in.parquet")
    pairs = read_all("rlhf-v", source, shelf)
    assert len({pair.id for pair in pairs}) == 3, "the same texts under two numbers are two rows"
    assert store.add_pairs(pairs) == 3 and store.add_pairs(read_all("rlhf-v", source, shelf)) == 0


def test_the_pair_says_what_the_row_says(tmp_path, shelf):
    source = write_parquet([rlhfv_row(1)], tmp_path / "in.parquet")
    (pair,) = read_all("rlhf-v", source, shelf)
    assert pair.provenance.edits == "inferred" and pair.edits and pair.outcome == "corrected"
    assert (pair.provenance.model.name, pair.provenance.source) == ("Muffin", "LCS-558K")
    assert not pair.provenance.consent and not pair.provenance.licence
    (flat,) = read_all("rlaif-v", write_parquet([flat_row(1)], tmp_path / "flat.parquet", FLAT), shelf)
    assert flat.provenance.chosen_model == flat.provenance.model


def test_a_forged_origin_does_no_harm(tmp_path, shelf, find):
    """A pair can come from anywhere with an origin that no import wrote."""
    name = shelf.intake(picture()).name
    base = {"images": [name], **texts(1)}
    forged = [
        "{",
        "[]",
        '{"format": "rlhf-v"}',
        '{"format": "rlhf-v", "row": {"idx": "7", "image": 3, "ds_name": {"a": 1}}, "original": 5}',
        '{"format": "rlhf-v", "row": {"text": 5, "idx": 1e400}, "original": "../../secret.original"}',
        '{"format": "rlhf-v", "row": {"ds_name": "\\ud800"}, "original": ""}',
        '{"format": "rlhf-v-2023", "row": {"image": "../../evil.jpg", "image_path": "/evil.jpg"}}',
    ]
    pairs = [
        PreferencePair.from_row(base | {"id": f"p{index}", "provenance": {"origin": text}})
        for index, text in enumerate(forged)
    ]
    assert formats.write("rlhf-v", pairs, tmp_path / "a", find) == len(forged)
    assert formats.write("rlhf-v-2023", pairs, tmp_path / "b" / "c", find) == len(forged)
    rows = read_parquet(tmp_path / "a" / rlhfv.FILE)
    assert all(row["image"]["bytes"] == shelf.path(name).read_bytes() for row in rows)
    assert [path.name for path in tmp_path.rglob("evil.jpg")] == []
    assert all(json.loads(row["text"]) == texts(1) for row in rows)


def test_two_pictures_of_one_name_do_not_replace_each_other(tmp_path, shelf, find):
    pairs = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "a.jpg").write_bytes(picture(seed))
        (folder / "rows.jsonl").write_text(json.dumps(first_generation(seed, texts(seed), image="a.jpg")))
        pairs += read_all("rlhf-v-2023", folder / "rows.jsonl", shelf)
    rlhfv_2023.write(pairs, tmp_path / "out", find)
    again = read_all("rlhf-v-2023", tmp_path / "out", shelf)
    assert [pair.prompt.images for pair in again] == [pair.prompt.images for pair in pairs]
