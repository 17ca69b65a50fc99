"""Where rows come from, how their format is told, and that they come one at a time."""

import json

import pytest

from rlhfv.corrections.pairs import PreferencePair
from rlhfv.errors import InvalidData
from rlhfv.publishing import formats
from rlhfv.publishing.formats import source
from rlhfv.publishing.formats.source import open_rows
from tests.publishing.formats.rows import FLAT, flat_row, picture, rlhfv_row, texts, write_parquet


def values(path):
    return [row.values for row in open_rows(path)]


def test_the_card_says_which_files_are_the_data(tmp_path):
    write_parquet([rlhfv_row(1)], tmp_path / "data" / "train-00000.parquet")
    write_parquet([rlhfv_row(2)], tmp_path / "data" / "train-00001.parquet")
    write_parquet([flat_row(3)], tmp_path / "judgements" / "train-00000.parquet", FLAT)
    write_parquet([rlhfv_row(9)], tmp_path.parent / "outside.parquet")
    assert len(values(tmp_path)) == 3
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: judgements\n  data_files: judgements/*.parquet\n- config_name: pairs\n"
        "  default: true\n  data_files:\n  - split: train\n    path: [data/*.parquet, ../*.parquet, /etc/hos*]\n---\n"
    )
    assert [row["idx"] for row in values(tmp_path)] == [1, 2]
    assert [(row.number, row.file) for row in open_rows(tmp_path)] == [
        (1, "data/train-00000.parquet"),
        (1, "data/train-00001.parquet"),
    ]
    (tmp_path / "README.md").write_text("---\nconfigs: {broken\n---\n")
    assert len(values(tmp_path)) == 3, "a card that cannot be read names nothing"


def test_pictures_may_lie_beside_the_rows(tmp_path, shelf):
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "deep" / "a.jpg").write_bytes(picture(1))
    (tmp_path / "b.jpg").write_bytes(picture(2))
    (tmp_path / "link.jpg").symlink_to("/etc/hostname")
    rows = [
        rlhfv_row(1, image="deep/a.jpg", text=texts(1)),
        rlhfv_row(2, image="b.jpg"),
        rlhfv_row(3, image="link.jpg", image_path=None),
        rlhfv_row(4, image="x" * 300 + ".jpg", image_path=None),
    ]
    for row in rows:
        row["image"] = row["image"]["bytes"]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    one, two, link, long = formats.read(tmp_path, "rlhf-v", shelf)
    assert isinstance(one, PreferencePair) and isinstance(two, PreferencePair)
    assert "missing" in link.what and "missing" in long.what


@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_is_read_element_by_element(tmp_path, monkeypatch, indent):
    monkeypatch.setattr(source, "_CHUNK", 7)
    rows = [{"a": "é" * n, "b": [{"c": n}, "]", "},{"]} for n in range(30)] + [5, "text", None, -1.5]
    (tmp_path / "rows.json").write_text("\ufeff " + json.dumps(rows, indent=indent, ensure_ascii=False))
    assert values(tmp_path / "rows.json") == rows
    (tmp_path / "empty.json").write_text("[ ]")
    assert values(tmp_path / "empty.json") == []


def test_a_list_with_one_endless_row_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_CHUNK", 100)
    monkeypatch.setattr(source, "MAX_VALUE_CHARS", 1000)
    (tmp_path / "rows.json").write_text('[{"a": 1}, {"a": "' + "x" * 5000 + '"}, {"a": 2}]')
    first, problem = open_rows(tmp_path / "rows.json")
    assert first.values == {"a": 1} and isinstance(problem.values, InvalidData)


def test_rows_come_one_at_a_time(tmp_path, shelf):
    """The reader is a few rows ahead of what is asked for, never at the end of the file."""
    file = write_parquet([rlhfv_row(seed) for seed in range(120)], tmp_path / "rows.parquet", group=10)
    pairs = formats.read(file, "rlhf-v", shelf)
    for _ in range(10):
        next(pairs)
    assert len(list(shelf.folder.iterdir())) < 60
    pairs.close()


COLUMNS = {
    "rlhf-v": rlhfv_row(1, image="a.jpg") | {"image": "a.jpg"},
    "rlhf-v-2023": {"dataset_name": "d", "image": "a.jpg", "text": texts(1), "image_path": "a.jpg"},
    "rlaif-v": flat_row(1) | {"image": "a.jpg"},
    "trl": {"images": [], "prompt": "q", "chosen": "c", "rejected": "r"},
    "llama-factory": {"conversations": [], "chosen": {}, "rejected": {}, "images": []},
    "jsonl": {"question": "q", "chosen": "c", "rejected": "r", "images": []},
}


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_format_is_told_by_its_columns(tmp_path, name):
    (tmp_path / "rows.jsonl").write_text("broken\n" + json.dumps(COLUMNS[name]))
    assert formats.recognise(tmp_path / "rows.jsonl") == (name, f"the columns {', '.join(COLUMNS[name])}")
    (tmp_path / "rows.json").write_text(json.dumps([COLUMNS[name]]))
    assert formats.recognise(tmp_path / "rows.json")[0] == name


def test_what_is_no_data_is_told(tmp_path, shelf):
    for name, content in {"a.jsonl": '{"a": 1}', "b.json": "[]", "c.parquet": "PAR1", "d.txt": "hello"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(InvalidData, match="None of the formats"):
            formats.recognise(tmp_path / name)
    with pytest.raises(InvalidData, match="nothing at"):
        formats.recognise(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidData, match="holds no rows"):
        formats.recognise(tmp_path / "empty")
    with pytest.raises(InvalidData, match="The format is 'csv'"):
        formats.read(tmp_path / "a.jsonl", "csv", shelf)
    with pytest.raises(InvalidData, match="A Hub id reads"):
        formats.recognise("../etc/passwd")
