"""Whatever is wrong with a row, it is said of that row in three parts, and the rows around it are taken."""

import json

import pytest

from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.publishing import formats
from tests.publishing.formats.rows import FLAT, RLHFV, flat_row, picture, rlhfv_row, texts, write_parquet


def text(**changes) -> dict:
    return {"text": json.dumps(texts(5) | changes)}


# kind of damage: (what is put in the row, words of the message)
RLHFV_ROWS = {
    "text that is no JSON": ({"text": "{'question': 'single quotes'}"}, "It is not JSON"),
    "text without an answer": ({"text": '{"question": "q", "chosen": "c"}'}, "the rejected is None"),
    "text of another shape": ({"text": '["only", "two"]'}, "It holds an object with question, chosen, rejected"),
    "text that is missing": ({"text": None}, "The column 'text' is None"),
    "an answer that is no text": (text(chosen=["a", "list"]), "the chosen is ['a', 'list']"),
    "two answers that are the same": (text(chosen=texts(5)["rejected"]), "The chosen answer is the same"),
    "an empty answer": (text(chosen=" "), "The chosen answer is empty"),
    "an answer that has no end": (text(chosen="x" * 300_000), "The chosen answer has 300,000 characters"),
    "a question that has no end": (text(question="x" * 30_000), "The question has 30,000 characters"),
    "half a character": (text(chosen="a \ud83d cat"), "holds half a character"),
    "no picture": ({"image": None, "image_path": None}, "The row has no picture"),
    "a picture that is none": ({"image": {"bytes": b"<html>", "path": None}}, "could not be read as an image"),
    "a picture that is cut off": ({"image": {"bytes": picture(5)[:-300], "path": None}}, "cut off or damaged"),
    "a picture of vast size": (
        {"image": {"bytes": picture(size=(8000, 6000), format="PNG", noise=2000), "path": None}},
        "pixels",
    ),
    "a picture that lies nowhere": (
        {"image": {"bytes": None, "path": "lost.jpg"}},
        "The picture 'lost.jpg' is missing",
    ),
    "more beside it than can be kept": ({"image_path": "x" * 600_000}, "The origin has"),
}


@pytest.mark.parametrize(("damage", "message"), RLHFV_ROWS.values(), ids=RLHFV_ROWS)
def test_a_broken_row_of_a_table(tmp_path, shelf, damage, message):
    rows = [rlhfv_row(1), rlhfv_row(5) | damage, rlhfv_row(2)]
    check(write_parquet(rows, tmp_path / "rows.parquet"), "rlhf-v", shelf, message)


def message_row(**changes) -> dict:
    return {
        "conversations": [{"from": "human", "value": "<image>What is there?"}],
        "chosen": {"from": "gpt", "value": "A cat."},
        "rejected": {"from": "gpt", "value": "A dog."},
        "images": ["a.jpg"],
    } | changes


def said(*messages: tuple[str, str]) -> dict:
    return {"conversations": [{"from": who, "value": what} for who, what in messages]}


LLAMA_ROWS = {
    "a line that is no JSON": (b"{broken", "is not JSON"),
    "a line in another encoding": (b'{"conversations": "\xff\xfe"}', "is not JSON"),
    "a line that is no object": ([1, 2], "a row is an object with named fields"),
    "a picture outside the folder": (message_row(images=["../secret.jpg"]), "Pictures lie below the folder"),
    "a picture by its place on the machine": (message_row(images=["/etc/passwd"]), "Pictures lie below the folder"),
    "more places than pictures": (message_row(images=[]), "place 1 pictures, and the row has 0"),
    "more pictures than places": (message_row(images=["a.jpg", "a.jpg"]), "place 1 pictures, and the row has 2"),
    "an answer as a list": (message_row(chosen=[{"from": "gpt", "value": "A cat."}]), "not a list"),
    "an answer by nobody known": (
        message_row(chosen={"from": "robot", "value": "A cat."}),
        "A message is from 'robot'",
    ),
    "an answer that a person gives": (message_row(chosen={"from": "human", "value": "A cat."}), "is a question"),
    "an answer without text": (message_row(rejected={"from": "gpt"}), "A message says None"),
    "turns out of order": (
        message_row(**said(("human", "<image>One?"), ("human", "Two?"), ("gpt", "Three."))),
        "Questions and answers take turns",
    ),
    "a conversation that ends with an answer": (
        message_row(**said(("human", "<image>One?"), ("gpt", "Two."))),
        "The conversation has 2 messages (question, answer)",
    ),
    "a system prompt": (
        message_row(**said(("system", "Be brief."), ("human", "<image>One?"))),
        "A message is from 'system'",
    ),
    "tools": (message_row(tools='[{"name": "search"}]'), "The row has tools"),
    "a video": (message_row(**said(("human", "<video>What happens?"))), "nothing for other media"),
    "the row before once more": (message_row(), "The row repeats row 1"),
    "a row that is empty": ({}, "The column 'conversations' is None"),
}


@pytest.mark.parametrize(("damage", "message"), LLAMA_ROWS.values(), ids=LLAMA_ROWS)
def test_a_broken_line(tmp_path, shelf, damage, message):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(picture(1))
    (tmp_path / "secret.jpg").write_bytes(picture(2))
    last = message_row(rejected={"from": "gpt", "value": "A horse."})
    lines = [message_row(), damage, last]
    lines = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    (folder / "rows.jsonl").write_bytes(b"\n".join(lines))
    check(folder / "rows.jsonl", "llama-factory", shelf, message)


def trl_row(**changes) -> dict:
    return {
        "images": ["a.jpg"],
        "prompt": [{"role": "user", "content": "What is there?"}],
        "chosen": [{"role": "assistant", "content": "A cat."}],
        "rejected": [{"role": "assistant", "content": "A dog."}],
    } | changes


def segment(**changes) -> dict:
    span = {"op": "replace", "kind": "object", "rejected_start": 2, "rejected_end": 5, "rejected_text": "dog"}
    return {"segments": [span | {"chosen_start": 2, "chosen_end": 5, "chosen_text": "cat"} | changes]}


TRL_ROWS = {
    "a prompt that is no list": (trl_row(prompt=7), "The column 'prompt' is 7"),
    "a role that no pair has": (trl_row(prompt=[{"role": "tool", "content": "x"}]), "A message has the role 'tool'"),
    "a block of another kind": (
        trl_row(prompt=[{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "x"}]}]),
        "blocks of type 'text' and 'image'",
    ),
    "answers with their prompt": (
        trl_row(chosen=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "A cat."}]),
        "The column 'chosen' holds 2 messages",
    ),
    "a segment that names another word": (
        trl_row(**segment(rejected_text="cow")),
        "says that characters 2 to 5 are 'cow'",
    ),
    "segments of another answer": (trl_row(**segment(chosen_text="cow")), "the corrections belong to another text"),
    "a segment outside the answer": (
        trl_row(**segment(rejected_end=99, rejected_text=None)),
        "covers characters 2 to 99",
    ),
    "a segment of no kind": (trl_row(**segment(kind="colour")), "A correction has the kind 'colour'"),
    "a provenance that is no JSON": (trl_row(**segment(), provenance="{"), "The column 'provenance' is '{'"),
}


@pytest.mark.parametrize(("damage", "message"), TRL_ROWS.values(), ids=TRL_ROWS)
def test_a_broken_row_for_trl(tmp_path, shelf, damage, message):
    (tmp_path / "a.jpg").write_bytes(picture(1))
    rows = [trl_row(), damage, trl_row(rejected=[{"role": "assistant", "content": "A horse."}])]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    check(tmp_path / "rows.json", "trl", shelf, message)


def check(source, format, shelf, message):
    before, problem, after = formats.read(source, format, shelf)
    assert isinstance(before, PreferencePair) and isinstance(after, PreferencePair)
    assert isinstance(problem, RowProblem) and problem.row == 2
    assert message in str(problem)
    assert problem.what and problem.why and problem.fix, "what, why, and how to mend it"
    assert str(problem).startswith("Row 2: ")


def test_a_column_that_a_flat_row_lacks(tmp_path, shelf):
    rows = [flat_row(1), flat_row(2, question=None), flat_row(3)]
    check(write_parquet(rows, tmp_path / "rows.parquet", FLAT), "rlaif-v", shelf, "The column 'question' is None")


def test_text_in_a_table_that_is_not_utf8(tmp_path, shelf):
    import pyarrow
    from pyarrow.parquet import read_table, write_table

    table = read_table(write_parquet([rlhfv_row(seed) for seed in (1, 2, 3)], tmp_path / "rows.parquet"))
    index = table.schema.get_field_index("ds_name")
    broken = pyarrow.array([b"good", b"\xff\xfe", b"good"], pyarrow.binary()).view(pyarrow.string())
    write_table(table.set_column(index, "ds_name", broken), tmp_path / "rows.parquet")
    check(tmp_path / "rows.parquet", "rlhf-v", shelf, "The row could not be decoded.")


def test_a_damaged_part_of_a_table_loses_that_part(tmp_path, shelf):
    rows = [rlhfv_row(seed, picture(seed, noise=1)) for seed in range(12)]
    file = write_parquet(rows, tmp_path / "rows.parquet", RLHFV, group=4)
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as opened:
        column = opened.metadata.row_group(1).column(opened.schema_arrow.get_field_index("image"))
    data = bytearray(file.read_bytes())
    start = column.data_page_offset
    data[start : start + 60] = bytes(60)
    file.write_bytes(data)
    read = list(formats.read(file, "rlhf-v", shelf))
    problems = [row for row in read if isinstance(row, RowProblem)]
    assert len(read) - len(problems) == 8 and len(problems) == 1
    assert problems[0].row == 5 and "Rows 5 to 8 could not be read" in problems[0].what


def test_a_broken_shard_loses_that_shard(tmp_path, shelf):
    for number in range(3):
        write_parquet([rlhfv_row(number)], tmp_path / "data" / f"train-{number}.parquet")
    (tmp_path / "data" / "train-1.parquet").write_bytes(b"PAR1 and nothing else")
    (tmp_path / "data" / "train-3.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    first, broken, last, pointer = formats.read(tmp_path, "rlhf-v", shelf)
    assert isinstance(first, PreferencePair) and isinstance(last, PreferencePair)
    assert str(broken).startswith("data/train-1.parquet: ") and "could not be opened" in str(broken)
    assert "git lfs pull" in pointer.fix


def test_the_end_of_a_broken_list_is_told(tmp_path, shelf):
    (tmp_path / "a.jpg").write_bytes(picture(1))
    file = tmp_path / "rows.json"
    file.write_text(f"[{json.dumps(trl_row())}, {{'no': json}}, {json.dumps(trl_row())}]")
    pair, problem = formats.read(file, "trl", shelf)
    assert isinstance(pair, PreferencePair) and problem.row == 2
    assert "From row 2 on the list could not be read" in str(problem) and "one object a line" in problem.fix


def test_hundred_broken_rows_among_good_ones(tmp_path, shelf):
    kinds = [damage for damage, _ in RLHFV_ROWS.values()]
    rows = [rlhfv_row(n) | (kinds[n // 2 % len(kinds)] if n % 2 else {}) for n in range(200)]
    read = list(formats.read(write_parquet(rows, tmp_path / "rows.parquet"), "rlhf-v", shelf))
    good = [row for row in read if isinstance(row, PreferencePair)]
    assert [row.row for row in read if isinstance(row, RowProblem)] == list(range(2, 201, 2))
    assert [pair.prompt.question for pair in good] == [texts(n)["question"] for n in range(0, 200, 2)]
