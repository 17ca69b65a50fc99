"""What others do with the data set: `load_dataset`, map and streaming, TRL's collator; also after the schema grew."""

import io

import pytest
from datasets import Value, get_dataset_config_names, load_dataset

from rlhfv.corrections.conversation import Prompt, Turn
from rlhfv.publishing import pusher as pusher_module
from rlhfv.publishing.schema import FEATURES, PAIRS
from rlhfv.publishing.shards import read_shard, write_shard
from tests.models.tiny import BUILDERS
from tests.publishing.conftest import REPO


@pytest.fixture
def data_set(hub, bench, push, connect, ann):
    """Three pairs, one of them from a longer conversation with two pictures, and a judgement, on the Hub."""
    connect(ann.secret)
    bench.add(1, 2)
    pictures = [bench.picture(seed) for seed in (50, 51)]
    history = (Turn("First?", "Yes.", (pictures[0],)),)
    bench.store.add_pairs([bench.pair(3, prompt=Prompt("And here?", (pictures[1],), history))])
    bench.judge("j1", "tie", answers=2)
    push(bench)
    return bench


def test_map_and_streaming(data_set, transport):
    pairs = load_dataset(REPO, split="train")
    assert pairs.features == PAIRS and pairs["id"][:] == ["pair-1", "pair-2", "pair-3"]
    streamed = list(load_dataset(REPO, split="train", streaming=True))
    assert [row["segments"] for row in streamed] == pairs["segments"][:]
    for row, pair in zip(pairs, data_set.store.all_pairs(), strict=True):
        assert row["chosen"] == [{"role": "assistant", "content": pair.chosen}]
        shelf = [data_set.shelf.path(name).read_bytes() for name in pair.prompt.all_images]
        assert [_pixels(data) for data in shelf] == [image.convert("RGB").tobytes() for image in row["images"]]
        for segment in row["segments"]:
            start, end = segment["chosen_start"], segment["chosen_end"]
            assert row["chosen"][0]["content"][start:end] == segment["chosen_text"]
    assert get_dataset_config_names(REPO) == ["default", "judgements"]
    (judged,) = load_dataset(REPO, "judgements", split="train")
    assert judged["outcome"] == "tie" and [answer["text"] for answer in judged["answers"]] == [
        "Answer 0 of j1.",
        "Answer 1 of j1.",
    ]


def _pixels(data: bytes) -> bytes:
    from PIL import Image

    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_trl_takes_the_rows_as_they_are(data_set, tmp_path, family):
    from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

    from rlhfv.models.processors import load_processor

    processor = load_processor(BUILDERS[family](tmp_path / family))
    rows = list(load_dataset(REPO, split="train"))
    said = [{side: row[side][0]["content"] for side in ("chosen", "rejected")} for row in rows]
    batch = DataCollatorForVisionPreference(processor)(rows)  # which changes the rows
    assert batch["input_ids"].shape[0] == 2 * len(rows) and batch["pixel_values"].ndim >= 2
    mask = batch["completion_mask"].bool()
    for number, answers in enumerate(said):
        for side, place in (("chosen", number), ("rejected", number + len(said))):
            text = processor.tokenizer.decode(batch["input_ids"][place][mask[place]], skip_special_tokens=True)
            assert answers[side] in text
    image_tokens = (batch["input_ids"] == processor.image_token_id).sum(1)
    assert image_tokens[2] == 2 * image_tokens[0] > 0


@pytest.mark.parametrize("newest_first", [True, False], ids=["new shard first", "old shard first"])
def test_a_column_is_added(hub, bench, push, connect, ann, monkeypatch, tmp_path, newest_first):
    monkeypatch.setattr("rlhfv.corrections.published.SHARD_ROWS", 1)
    connect(ann.secret)
    bench.add(1, 2)
    bench.judge("j1")
    push(bench)
    grown = {**FEATURES, "pairs": PAIRS.copy()}
    grown["pairs"]["weather"] = Value("string")
    pair_to_row = pusher_module.pair_to_row
    monkeypatch.setattr(pusher_module, "FEATURES", grown)
    monkeypatch.setattr(pusher_module, "pair_to_row", lambda *row: pair_to_row(*row) | {"weather": "rain"})
    changed = 1 if newest_first else 2
    bench.add(changed, colour="green")
    push(bench)
    for streaming in (False, True):
        rows = list(load_dataset(REPO, split="train", streaming=streaming))
        weather = {row["id"]: row["weather"] for row in rows}
        assert weather == {f"pair-{changed}": "rain", f"pair-{3 - changed}": None}
        assert all(row["images"][0].size == (24, 24) for row in rows)
    assert len(load_dataset(REPO, "judgements", split="train")) == 1


def test_the_schema_only_grows():
    """What the first release published; a column may be added, none may go or change."""
    first = {
        "pairs": {
            "id revision updated_at images image_sha256 image_turns prompt chosen rejected segments provenance "
            "ds_name origin_dataset origin_split idx image_path"
        },
        "judgements": {
            "id outcome images image_sha256 image_turns prompt answers flags reason annotator created active_seconds "
            "licence consent"
        },
    }
    for part, (names,) in first.items():
        assert list(FEATURES[part])[: len(names.split())] == names.split()


def test_an_emptied_shard_loads(hub, bench, push, connect, ann, monkeypatch):
    monkeypatch.setattr("rlhfv.corrections.published.SHARD_ROWS", 1)
    connect(ann.secret)
    bench.add(1, 2)
    push(bench)
    bench.store.delete("pair-1", "Ann Lee")
    push(bench)
    assert load_dataset(REPO, split="train")["id"][:] == ["pair-2"]
    assert [row["id"] for row in load_dataset(REPO, split="train", streaming=True)] == ["pair-2"]
    assert list(load_dataset(REPO, "judgements", split="train", streaming=True)) == []


def test_the_same_rows_give_the_same_bytes(hub, bench, other, push, pull, tmp_path):
    bench.add(1, 2, 3)
    push(bench)
    pull(other)
    data = {path: hub.file(REPO, path) for path in hub.paths(REPO) if path.endswith(".parquet")}
    push(other, repo="ann/copy")
    assert {path: hub.file("ann/copy", path) for path in data} == data
    rows = list(read_shard(_file(tmp_path, data["data/train-00000.parquet"])))
    write_shard(tmp_path / "again.parquet", rows, PAIRS)
    assert (tmp_path / "again.parquet").read_bytes() == data["data/train-00000.parquet"]


def _file(folder, data: bytes):
    (folder / "shard.parquet").write_bytes(data)
    return folder / "shard.parquet"
