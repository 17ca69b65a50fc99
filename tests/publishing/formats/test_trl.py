"""What TRL's own collator makes of exported rows, and what comes back from TRL's format."""

import json

import pytest

from rlhfv.corrections.conversation import Prompt, Turn
from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.corrections.exchange import RowProblem, export_datasets
from rlhfv.corrections.pairs import PreferencePair, Provenance
from rlhfv.publishing import formats
from rlhfv.publishing.formats import trl
from tests.publishing.formats.rows import picture

MODELS = ("llava", "smolvlm", "qwen2_5_vl")


@pytest.fixture
def pairs(shelf):
    """A correction with kinds that no diff finds, a preference, a second turn, and one without a picture."""
    names = [shelf.intake(picture(seed)).name for seed in range(3)]
    rejected = "A red fork 🍴 and two big dogs lie here."
    edits = (Edit(2, 6, "", "attribute"), Edit(17, 20, "three", "number"), Edit(25, 29, "cats 🐈", "object"))
    made = Provenance(annotator="Ada", licence="CC-BY-4.0", consent=True)
    chosen = CorrectedAnswer(rejected, edits).corrected
    turn = Turn("What is it?", "A kitchen.", (names[1],))
    return [
        PreferencePair("one", Prompt("What is there?", (names[0],)), chosen, rejected, edits, "corrected", made),
        PreferencePair("two", Prompt("And here?", (), (turn,)), "A cup.", "A cat.", (), "preferred", made),
        PreferencePair("three", Prompt("Compare.", tuple(names[1:])), chosen, rejected, edits, "corrected", made),
        PreferencePair("four", Prompt("And now?", (names[2],), (turn,)), chosen, rejected, edits, "corrected", made),
    ]


@pytest.fixture(scope="module")
def processors(tmp_path_factory):
    from rlhfv.models.processors import load_processor
    from tests.models.tiny import BUILDERS

    folder = tmp_path_factory.mktemp("tiny")
    return {name: load_processor(BUILDERS[name](folder / name)) for name in MODELS}


def load(folder):
    from datasets import load_dataset

    return load_dataset(str(folder), split="train", cache_dir=str(folder / "cache"))


@pytest.mark.parametrize("name", MODELS)
def test_the_collator_of_trl_takes_the_rows(tmp_path, pairs, find, processors, name):
    from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

    assert trl.write(pairs, tmp_path / "out", find) == 4
    dataset, processor = load(tmp_path / "out"), processors[name]
    collator = DataCollatorForVisionPreference(processor)
    for index, pair in enumerate(pairs):
        batch = collator([dataset[index]])
        ids, shown = batch["input_ids"], batch["completion_mask"].bool()
        spans = [row[mask] for row, mask in zip(ids, shown, strict=True)]
        answers = [processor.decode(span, skip_special_tokens=True).strip() for span in spans]
        assert answers == [pair.chosen, pair.rejected]
        assert batch["pixel_values"].isfinite().all()
        image_token = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
        places = (ids == image_token).sum(1).tolist()
        assert places[0] == places[1] and places[0] >= 4 * len(pair.prompt.all_images)


def test_the_trainer_finds_a_preference_dataset(tmp_path, pairs, find):
    from trl.data_utils import is_conversational

    trl.write(pairs, tmp_path / "out", find)
    dataset = load(tmp_path / "out")
    assert is_conversational(dataset[0])
    assert dataset[0]["images"][0].size == (64, 48)
    assert not {"image", "tools", "chat_template_kwargs"} & set(dataset.column_names)
    segment = dataset[0]["segments"][2]
    assert (segment["kind"], segment["rejected_text"], segment["chosen_text"]) == ("object", "dogs", "cats 🐈")
    chosen = dataset[0]["chosen"][0]["content"]
    assert chosen[segment["chosen_start"] : segment["chosen_end"]] == "cats 🐈"


@pytest.mark.parametrize("write", [trl.write, export_datasets], ids=["parquet", "save_to_disk"])
def test_what_was_exported_comes_back_with_its_true_edits(tmp_path, pairs, shelf, find, write):
    write(pairs, tmp_path / "out", find)
    assert formats.recognise(tmp_path / "out")[0] == "trl"
    again = list(formats.read(tmp_path / "out", "trl", shelf))
    assert again[:3] == pairs[:3]
    assert again[3].edits == pairs[3].edits and again[3].provenance.edits == "made"
    assert again[3].prompt.all_images == pairs[3].prompt.all_images, "they belong to the first question now"


def test_rows_of_others_get_their_edits_from_a_diff(tmp_path, shelf):
    (tmp_path / "a.jpg").write_bytes(picture(1))
    (tmp_path / "b.jpg").write_bytes(picture(2))
    image, text = {"type": "image", "text": None}, lambda text: {"type": "text", "text": text}
    answer = lambda content: [{"role": "assistant", "content": content}]  # noqa: E731
    rows = [
        {
            "image": "a.jpg",
            "prompt": [{"role": "user", "content": "What?"}],
            "chosen": answer("A cat."),
            "rejected": answer("A dog."),
        },
        {
            "images": ["a.jpg", "b.jpg"],
            "prompt": [
                {"role": "user", "content": [image, text("What?")]},
                {"role": "assistant", "content": [text("A cat.")]},
                {"role": "user", "content": [image, text("And this?")]},
            ],
            "chosen": answer([text("A bird.")]),
            "rejected": answer([text("A fish.")]),
        },
        {"images": [], "prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read = list(formats.read(tmp_path / "rows.jsonl", "trl", shelf))
    assert not [row for row in read if isinstance(row, RowProblem)]
    one, two, three = read
    assert [edit.replacement for edit in one.edits] == ["cat"] and one.provenance.edits == "inferred"
    assert [len(turn.images) for turn in two.prompt.history] == [1] and len(two.prompt.images) == 1
    assert two.prompt.history[0].images != two.prompt.images
    assert three.prompt == Prompt("2 + 2?") and three.chosen == "4"


def test_what_a_studio_published_comes_back_whole(tmp_path, pairs, shelf):
    from pyarrow import Table
    from pyarrow.parquet import write_table

    from rlhfv.publishing.schema import PAIRS, pair_to_row

    rows = [pair_to_row(pair, "2026-01-01", "Ada", lambda name: shelf.path(name).read_bytes()) for pair in pairs]
    write_table(Table.from_pylist(rows, schema=PAIRS.arrow_schema), tmp_path / "train-00000.parquet")
    again = list(formats.read(tmp_path, "trl", shelf))
    assert [(pair.id, pair.edits, pair.prompt, pair.provenance) for pair in again] == [
        (pair.id, pair.edits, pair.prompt, pair.provenance) for pair in pairs
    ]
