"""LLaMA-Factory's documented format, field by field, as its `data/README.md` describes preference and image data."""

import json

import pytest

from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.errors import InvalidData
from rlhfv.publishing import formats
from rlhfv.publishing.formats import llama_factory
from tests.publishing.formats.rows import picture


@pytest.fixture
def pairs(shelf):
    names = [shelf.intake(picture(seed)).name for seed in range(2)]
    first = {"question": "What is it?", "answer": "A cup.", "images": names[:1]}
    second = {"question": "Sure?", "answer": "Yes.", "images": []}
    prompts = [
        {"question": "What is there?", "images": names[:1]},
        {"question": "And here?", "images": names[1:], "history": [first, second]},
        {"question": "Without a picture?"},
    ]
    answers = {"chosen": "A cat 🐈.\nIt sleeps.", "rejected": "A dog.\nIt sleeps."}
    return [PreferencePair.from_row(prompt | answers) for prompt in prompts]


def test_every_field_is_as_documented(tmp_path, pairs, find):
    assert llama_factory.write(pairs, tmp_path, find) == 3
    (entry,) = json.loads((tmp_path / "dataset_info.json").read_text()).values()
    assert entry == {
        "file_name": "rlhfv_studio.json",
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {
            "messages": "conversations",
            "chosen": "chosen",
            "rejected": "rejected",
            "images": "images",
        },
    }
    rows = json.loads((tmp_path / entry["file_name"]).read_text())
    assert len(rows) == 3
    for row, pair in zip(rows, pairs, strict=True):
        assert row.keys() == {"conversations", "chosen", "rejected", "images"}
        messages = row["conversations"]
        assert all(message.keys() == {"from", "value"} for message in [*messages, row["chosen"], row["rejected"]])
        assert len(messages) % 2 == 1, "a preference prompt has an odd number of messages"
        assert [message["from"] for message in messages] == ["human", "gpt"] * (len(messages) // 2) + ["human"]
        assert row["chosen"] == {"from": "gpt", "value": pair.chosen}
        assert row["rejected"] == {"from": "gpt", "value": pair.rejected}
        for answer in ("chosen", "rejected"):
            said = "".join(message["value"] for message in [*messages, row[answer]])
            assert said.count("<image>") == len(row["images"]), "as many places as pictures"
        assert [(tmp_path / path).read_bytes() for path in row["images"]] == [
            find(name).read_bytes() for name in pair.prompt.all_images
        ]
    assert rows[1]["conversations"][0]["value"] == "<image>What is it?"
    assert rows[1]["conversations"][4]["value"] == "<image>And here?"


def test_datasets_loads_it_as_llama_factory_does(tmp_path, pairs, find):
    from datasets import load_dataset

    llama_factory.write(pairs, tmp_path / "data", find)
    files = [str(tmp_path / "data" / "rlhfv_studio.json")]
    dataset = load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert dataset[1]["chosen"] == {"from": "gpt", "value": pairs[1].chosen} and len(dataset) == 3


def test_it_comes_back(tmp_path, pairs, shelf, find):
    llama_factory.write(pairs, tmp_path, find)
    assert formats.recognise(tmp_path) == ("llama-factory", "dataset_info.json")
    for source in (tmp_path, tmp_path / "rlhfv_studio.json"):
        again = list(formats.read(source, "llama-factory", shelf))
        assert [(pair.prompt, pair.chosen, pair.rejected, pair.edits) for pair in again] == [
            (pair.prompt, pair.chosen, pair.rejected, pair.edits) for pair in pairs
        ]
        assert {pair.provenance.edits for pair in again} == {"inferred"}


def test_an_entry_may_name_other_columns_and_tags(tmp_path, shelf):
    info = {
        "sft": {"file_name": "sft.json"},
        "elsewhere": {"hf_hub_url": "someone/pairs", "formatting": "sharegpt", "ranking": True},
        "mine": {
            "file_name": "mine.jsonl",
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {"messages": "messages", "chosen": "good", "rejected": "bad", "images": "pictures"},
            "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
        },
    }
    row = {
        "messages": [{"role": "user", "content": "<image>\n<image>\nCompare."}],
        "good": {"role": "assistant", "content": "Both are cats."},
        "bad": {"role": "assistant", "content": "Both are dogs."},
        "pictures": ["sub/a.jpg", "sub/b.jpg"],
    }
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").write_bytes(picture(1))
    (tmp_path / "sub" / "b.jpg").write_bytes(picture(2))
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    for source in (tmp_path, tmp_path / "mine.jsonl"):
        (pair,) = formats.read(source, "llama-factory", shelf)
        assert pair.prompt.question == "Compare." and len(pair.prompt.images) == 2 and pair.chosen == "Both are cats."


def test_other_entries_stay(tmp_path, pairs, find):
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    llama_factory.write(pairs, tmp_path, find)
    llama_factory.write(pairs[:1], tmp_path, find)
    assert list(json.loads((tmp_path / "dataset_info.json").read_text())) == ["mine", "rlhfv_studio"]
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(InvalidData, match=r"dataset_info.json could not be read"):
        llama_factory.write(pairs, tmp_path, find)
    assert (tmp_path / "dataset_info.json").read_text() == "{"


def test_a_text_that_would_be_taken_for_a_picture_is_left_out_and_told(tmp_path, pairs, shelf, find):
    asked = PreferencePair.from_row({"question": "What does <image> mean?", "chosen": "A tag.", "rejected": "A name."})
    assert "1 pair with '<image>' or the like in a text: left out" in " ".join(llama_factory.losses([*pairs, asked]))
    assert llama_factory.write([*pairs, asked], tmp_path, find) == 3
    assert not [row for row in formats.read(tmp_path, "llama-factory", shelf) if isinstance(row, RowProblem)]
    with pytest.raises(InvalidData, match="no pair that the format can carry"):
        llama_factory.write([asked], tmp_path / "none", find)
