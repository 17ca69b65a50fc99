import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.corrections.conversation import ModelIdentity, Prompt, Sampling, Turn
from rlhfv.corrections.edits import Edit, from_texts
from rlhfv.corrections.pairs import MAX_ORIGIN_CHARS, PreferencePair, Provenance, dump_row, load_pairs, pair_id
from rlhfv.errors import InvalidCorrection, InvalidData, StudioError

IMAGE = "a" * 64 + ".png"
ROW = {"question": "What is there?", "chosen": "A cat.", "rejected": "A dog."}
TEXT = st.text(max_size=30)


@st.composite
def pairs(draw):
    rejected, chosen = draw(TEXT), draw(TEXT.filter(str.strip))
    if rejected == chosen:
        chosen += "!"
    outcome = draw(st.sampled_from(["corrected", "preferred"]))
    turns = draw(st.lists(st.builds(Turn, TEXT, TEXT, st.sampled_from([(), (IMAGE,)])), max_size=2))
    return PreferencePair(
        draw(st.from_regex(r"[0-9A-Za-z][0-9A-Za-z._-]{0,20}", fullmatch=True)),
        Prompt(draw(TEXT), draw(st.sampled_from([(), (IMAGE,), (IMAGE, IMAGE)])), tuple(turns)),
        chosen,
        rejected,
        from_texts(rejected, chosen) if outcome == "corrected" else (),
        outcome,
        Provenance(
            ModelIdentity(draw(TEXT), "r", draw(st.none() | TEXT)),
            Sampling(0.7, 0.9, 64, draw(st.integers(0, 2**63 - 1))),
            ("baseline", "mine@1"),
            "2025-01-01",
            annotator=draw(TEXT),
            consent=draw(st.booleans()),
            row=1,
            chosen_model=draw(st.none() | st.just(ModelIdentity("other", "s"))),
        ),
        draw(st.integers(0, 9)),
    )


@given(pairs())
def test_rows_and_back(pair):
    line = dump_row(pair.to_row())
    assert "\n" not in line
    assert PreferencePair.from_row(json.loads(line)) == pair
    assert PreferencePair.from_own_row(json.loads(line)) == pair
    assert dump_row(PreferencePair.from_row(json.loads(line)).to_row()) == line


def test_row_has_the_documented_fields_in_order():
    pair = PreferencePair.from_row(ROW | {"images": [IMAGE], "id": "x"})
    row = pair.to_row()
    assert list(row) == [
        *("id", "images", "history", "question", "chosen", "rejected", "edits", "outcome", "provenance", "revision")
    ]
    assert row["edits"] == [{"start": 2, "end": 5, "text": "dog", "replacement": "cat", "kind": "object"}]
    assert {"model", "sampling", "row_layout", "created", "annotator", "app_version", "licence", "consent"} < set(
        row["provenance"]
    )


def test_characters_are_written_as_they_are():
    pair = PreferencePair.from_row(ROW | {"chosen": "猫 👩‍🚀 \u202e<img onerror=x> ${a} {{b}} `c` e\u0301"})
    assert "猫 👩‍🚀 \u202e<img onerror=x> ${a} {{b}} `c` e\u0301" in dump_row(pair.to_row())


def test_a_bare_row_gets_inferred_edits_and_a_stable_id():
    pair = PreferencePair.from_row(ROW)
    assert pair.edits == (Edit(2, 5, "cat", "object"),)
    assert pair.provenance.edits == "inferred"
    assert PreferencePair.from_row(ROW).id == pair.id
    assert PreferencePair.from_row(ROW | {"question": "And now?"}).id != pair.id


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (None, "row"),
        ([], "row"),
        ({"question": "x", "chosen": "y"}, "rejected"),
        (ROW | {"question": 3}, "question"),
        (ROW | {"chosen": ROW["rejected"]}, "nothing to learn"),
        (ROW | {"chosen": " \n"}, "empty"),
        (ROW | {"outcome": "tie"}, "'tie'"),
        (
            ROW | {"outcome": "preferred", "edits": [{"start": 0, "end": 1, "replacement": "x", "kind": "other"}]},
            "pref",
        ),
        (ROW | {"edits": []}, "0 corrections"),
        (ROW | {"edits": [{"start": 2, "end": 5, "replacement": "cow", "kind": "object"}]}, "A cow."),
        (ROW | {"edits": [{"start": 2, "end": 99, "replacement": "cat.", "kind": "object"}]}, "99"),
        (ROW | {"edits": [{"start": 2, "end": 5, "text": "dgo", "replacement": "cat", "kind": "object"}]}, "dgo"),
        (ROW | {"images": ["../../etc/passwd"]}, "passwd"),
        (ROW | {"images": "x"}, "images"),
        (ROW | {"images": [None]}, "images"),
        (ROW | {"id": "../x"}, "../x"),
        (ROW | {"id": ""}, "id"),
        (ROW | {"id": "x\n"}, "id"),
        (ROW | {"history": ["x"]}, "history[1]"),
        (ROW | {"history": [{"question": "x", "answer": "y", "images": [3]}]}, "history[1].images"),
        (ROW | {"revision": "1"}, "revision"),
        (ROW | {"revision": True}, "revision"),
        (ROW | {"revision": -1}, "revision"),
        (ROW | {"revision": 2**31}, "revision"),
        (ROW | {"provenance": {"row": -1}}, "provenance.row"),
        (ROW | {"provenance": {"sampling": {"temperature": float("nan")}}}, "nan"),
        (ROW | {"provenance": {"sampling": {"top_p": float("inf")}}}, "inf"),
        (ROW | {"provenance": {"sampling": {"seed": 10**40}}}, "seed"),
        (ROW | {"provenance": {"consent": "yes"}}, "consent"),
        (ROW | {"provenance": {"model": {"name": "x"}}}, "revision"),
        (ROW | {"provenance": {"sampling": {"seed": "7"}}}, "seed"),
        (ROW | {"provenance": {"edits": "guessed"}}, "guessed"),
        (ROW | {"provenance": {"annotator": "x" * 1001}}, "1,001"),
        (ROW | {"question": "\ud800"}, "U+D800"),
        (ROW | {"provenance": {"source": "\udfff"}}, "U+DFFF"),
        (ROW | {"rejected": "x" * 100_001}, "100,001"),
    ],
)
def test_bad_rows_are_refused_in_three_parts(row, said):
    with pytest.raises(StudioError) as caught:
        PreferencePair.from_row(row)
    assert said in str(caught.value)
    assert caught.value.what and caught.value.why and caught.value.fix


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([*PreferencePair.from_row(ROW).to_row(), "provenance.model", "provenance.sampling"]), JSON)
def test_any_json_in_any_field_is_taken_or_refused_with_a_reason(field, value):
    row = PreferencePair.from_row(ROW).to_row()
    owner = row["provenance"] if "." in field else row
    owner[field.rpartition(".")[2]] = value
    try:
        pair = PreferencePair.from_row(row)
    except StudioError:
        return
    line = dump_row(pair.to_row())
    assert PreferencePair.from_row(json.loads(line, parse_constant=lambda _: pytest.fail(f"no JSON: {line}"))) == pair


def test_pair_id_names_answers_and_annotator():
    assert pair_id(("a", "b"), "ann") == pair_id(("b", "a"), "ann")
    assert (
        len({pair_id(("a",), "ann"), pair_id(("a",), "bob"), pair_id(("b",), "ann"), pair_id(("a", "b"), "ann")}) == 4
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"outcome": "nice"}, "nice"),
        ({"flags": ("rude",)}, "rude"),
        ({"answers": ()}, "0 answers"),
        ({"answers": ("a", "b")}, "2 answers"),
        ({"outcome": "tie"}, "1 answers"),
        ({"outcome": "tie", "answers": ("a", "a")}, "2 answers"),
        ({"reason": "x" * 1001}, "1,001"),
        ({"annotator": "\ud800"}, "half a character"),
        ({"active_seconds": float("nan")}, "nan"),
        ({"active_seconds": -1.0}, "-1"),
        ({"id": "a b"}, "a b"),
    ],
)
def test_bad_judgements_are_refused(make_judgement, changes, said):
    make_judgement("j", "a").validate()
    make_judgement("j", "a", flags=("omission", "not answered")).validate()
    with pytest.raises(InvalidCorrection, match=said):
        replace(make_judgement("j", "a"), **changes).validate()


def test_load_pairs_reads_a_file_and_a_folder(tmp_path):
    lines = [dump_row(ROW | {"id": f"p{i}"}) for i in range(3)]
    (tmp_path / "pairs.jsonl").write_text("\n\n".join(lines) + "\n", encoding="utf-8-sig")
    assert [pair.id for pair in load_pairs(tmp_path)] == ["p0", "p1", "p2"]
    assert load_pairs(str(tmp_path / "pairs.jsonl")) == load_pairs(tmp_path)


def test_a_line_separator_inside_a_text_ends_no_row(tmp_path):
    (tmp_path / "pairs.jsonl").write_text(dump_row(ROW | {"chosen": "A\u2028cat\x85."}) + "\n", encoding="utf-8")
    assert load_pairs(tmp_path)[0].chosen == "A\u2028cat\x85."


def test_load_pairs_names_the_row(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(dump_row(ROW) + "\n{broken\n")
    with pytest.raises(InvalidData, match=r"Row 2 of mine\.jsonl"):
        load_pairs(file)
    file.write_text(dump_row(ROW) + "\n\n" + dump_row(ROW | {"chosen": ""}) + "\n")
    with pytest.raises(InvalidData, match=r"Row 3 of mine\.jsonl"):
        load_pairs(file)
    with pytest.raises(InvalidData, match="could not be read"):
        load_pairs(tmp_path / "nothing.jsonl")


def test_the_origin_has_room_and_older_rows_have_none():
    long = "é" * MAX_ORIGIN_CHARS
    pair = PreferencePair.from_row(ROW | {"provenance": {"origin": long}})
    assert PreferencePair.from_row(pair.to_row()) == pair == PreferencePair.from_own_row(pair.to_row())
    with pytest.raises(InvalidCorrection, match="The origin has 500,001 characters"):
        PreferencePair.from_row(ROW | {"provenance": {"origin": long + "x"}})
    older = pair.to_row()
    del older["provenance"]["origin"]
    assert PreferencePair.from_own_row(older).provenance.origin == ""
    assert PreferencePair.from_row(older).provenance.origin == ""
