import io
import json
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy
import pytest
from PIL import Image

from rlhfv.corrections.conversation import Prompt, Turn
from rlhfv.corrections.exchange import RowProblem, export_datasets, export_pairs, read_pairs
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import dump_row, load_pairs
from rlhfv.errors import InvalidData

ROW = {"question": "What is there?", "chosen": "A cat.", "rejected": "A dog."}


def import_pairs(path, shelf) -> SimpleNamespace:
    """Good rows and bad ones, apart."""
    rows = list(read_pairs(path, shelf))
    problems = tuple(row for row in rows if isinstance(row, RowProblem))
    return SimpleNamespace(pairs=tuple(row for row in rows if row not in problems), problems=problems)


@pytest.fixture
def exported(tmp_path, shelf, encode, make_answer, make_pair):
    """Three pairs about two images, the last in a second turn, and the folder they were exported to."""
    first, second = shelf.intake(encode()), shelf.intake(encode(Image.new("RGB", (8, 8), "red"), "JPEG"))
    one = make_answer("one", images=(first.name,))
    later = Prompt("And here?", (second.name,), (Turn("What is it?", "A 猫.", (first.name,)),))
    two = make_answer("two", "A red fork 🍴 and two big dogs.", prompt=later)
    pairs = [
        make_pair(one, "There is a spoon on the table."),
        make_pair(two, "A fork 🍴 and three big dogs, asleep."),
        make_pair(one, "No table.", id="three", edits=(), outcome="preferred"),
    ]
    folder = tmp_path / "export"
    assert export_pairs(pairs, folder, shelf.path) == 3
    return pairs, folder


def test_export_and_import_give_the_same_pairs_and_images(exported, tmp_path, shelf):
    pairs, folder = exported
    assert load_pairs(folder) == pairs
    assert sorted(path.name for path in (folder / "images").iterdir()) == sorted(
        path.name for path in shelf.folder.iterdir()
    )
    other = ImageShelf(tmp_path / "other")
    report = import_pairs(folder, other)
    assert report.problems == ()
    assert list(report.pairs) == pairs
    for name in pairs[1].prompt.all_images:
        assert other.path(name).read_bytes() == shelf.path(name).read_bytes()


def test_the_same_pairs_give_the_same_bytes(exported, tmp_path, shelf):
    pairs, folder = exported
    export_pairs(iter(pairs), tmp_path / "again", shelf.path)
    assert (folder / "pairs.jsonl").read_bytes() == (tmp_path / "again" / "pairs.jsonl").read_bytes()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_no_path_of_the_machine_is_exported(exported, tmp_path):
    _, folder = exported
    assert str(tmp_path) not in (folder / "pairs.jsonl").read_text()


@pytest.mark.parametrize("base", ["", "export/"])
def test_a_zip_is_imported_without_unpacking(exported, tmp_path, base):
    pairs, folder = exported
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, base + str(path.relative_to(folder)))
        archive.writestr("../../evil.png", b"x")
    report = import_pairs(tmp_path / "export.zip", ImageShelf(tmp_path / "other"))
    assert list(report.pairs) == pairs and report.problems == ()


def test_foreign_images_are_cleaned_and_named_by_content(tmp_path, encode):
    (tmp_path / "images").mkdir()
    tags = Image.Exif()
    tags[0x010E] = "SECRET"
    (tmp_path / "images" / "my photo.jpeg").write_bytes(encode(format="JPEG", exif=tags))
    (tmp_path / "pairs.jsonl").write_text(dump_row(ROW | {"images": ["images/my photo.jpeg"]}))
    shelf = ImageShelf(tmp_path / "shelf")
    (pair,) = import_pairs(tmp_path / "pairs.jsonl", shelf).pairs
    assert b"SECRET" not in shelf.path(pair.prompt.images[0]).read_bytes()
    assert pair.prompt.images[0].endswith(".jpg")


def test_bad_rows_are_told_and_good_rows_kept(tmp_path, encode):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "good.png").write_bytes(encode())
    (tmp_path / "images" / "broken.png").write_bytes(encode()[:100])
    (tmp_path / "secret.png").write_bytes(encode())
    rows = [
        dump_row(ROW | {"id": "a", "images": ["good.png"]}),
        "{",
        dump_row(ROW | {"id": "b", "images": ["broken.png"]}),
        "",
        dump_row(ROW | {"id": "c", "images": ["missing.png"]}),
        dump_row(ROW | {"id": "d", "images": ["../secret.png"]}),
        dump_row(ROW | {"id": "a"}),
        dump_row(ROW | {"id": "e", "chosen": 3}),
        "[1]",
        json.dumps(ROW | {"id": "f", "chosen": "\ud800"}),
        "[" * 100_000,
        dump_row(ROW | {"id": "g"}),
    ]
    (tmp_path / "pairs.jsonl").write_bytes("\n".join(rows).encode() + b"\n\xff\xfe\n")
    report = import_pairs(tmp_path, ImageShelf(tmp_path / "shelf"))
    assert [pair.id for pair in report.pairs] == ["a", "g"]
    assert [problem.row for problem in report.problems] == [2, 3, 5, 6, 7, 8, 9, 10, 11, 13]
    assert all(problem.what and problem.why and problem.fix for problem in report.problems)
    assert "missing.png" in report.problems[2].what
    assert "secret.png" in report.problems[3].what


def test_what_cannot_be_read_at_all_is_refused(tmp_path, shelf):
    with pytest.raises(InvalidData, match="could not be read"):
        import_pairs(tmp_path / "nothing", shelf)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(InvalidData, match="holds no pairs"):
        import_pairs(tmp_path / "empty.zip", shelf)


def pack(path, images):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "pairs.jsonl", "\n".join(dump_row(ROW | {"id": id, "images": [f"{id}.png"]}) for id in images)
        )
        for id, data in images.items():
            archive.writestr(f"images/{id}.png", data)
    return path


def test_one_damaged_image_in_a_zip_costs_one_row(tmp_path, shelf, encode):
    path = pack(tmp_path / "export.zip", {"a": b"A" * 200, "b": encode()})
    path.write_bytes(path.read_bytes().replace(b"A" * 200, b"A" * 199 + b"B"))
    report = import_pairs(path, shelf)
    assert [pair.id for pair in report.pairs] == ["b"]
    assert report.problems[0].row == 1 and "unpacked" in report.problems[0].what and "CRC" in report.problems[0].why


@pytest.mark.parametrize(
    "spoil", [lambda data: data[: len(data) // 2], lambda data: data.replace(b"PK\1\2", b"XX\1\2")]
)
def test_a_damaged_zip_is_told_as_one(tmp_path, shelf, encode, spoil):
    path = pack(tmp_path / "export.zip", {"a": encode()})
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InvalidData, match=r"export\.zip could not be unpacked"):
        import_pairs(path, shelf)


def test_an_image_name_that_no_disk_takes_costs_one_row(tmp_path, shelf):
    rows = [ROW | {"id": "a", "images": ["x" * 5000 + ".png"]}, ROW | {"id": "b", "images": ["\udcff.png"]}, ROW]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    report = import_pairs(tmp_path, shelf)
    assert len(report.pairs) == 1 and [problem.row for problem in report.problems] == [1, 2]


def test_a_zip_bomb_is_refused(tmp_path, shelf, monkeypatch):
    monkeypatch.setattr("rlhfv.corrections.exchange.MAX_JSONL_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pairs.jsonl", b"\n" * 100_000)
    with pytest.raises(InvalidData, match="too large"):
        import_pairs(tmp_path / "bomb.zip", shelf)


def test_datasets_folder_loads_with_images_messages_and_segments(exported, tmp_path, shelf):
    import datasets

    pairs, _ = exported
    folder = export_datasets(pairs, tmp_path / "dataset", shelf.path)
    dataset = datasets.load_from_disk(folder)
    assert dataset["id"][:] == [pair.id for pair in pairs]
    row = dataset[1]
    assert [message["role"] for message in row["prompt"]] == ["user", "assistant", "user"]
    assert row["rejected"] == [{"role": "assistant", "content": pairs[1].rejected}]
    assert row["image_names"] == list(pairs[1].prompt.all_images)
    for image, name in zip(row["images"], row["image_names"], strict=True):
        expected = Image.open(io.BytesIO(shelf.path(name).read_bytes()))
        assert numpy.array_equal(numpy.asarray(image), numpy.asarray(expected))
    assert [(s["op"], s["kind"], s["rejected_text"], s["chosen_text"]) for s in row["segments"]] == [
        ("delete", "attribute", " red", ""),
        ("replace", "number", "two", "three"),
        ("insert", "object", "", ", asleep"),
    ]
    for segment in row["segments"]:
        for side in ("rejected", "chosen"):
            text = row[side][0]["content"]
            assert text[segment[f"{side}_start"] : segment[f"{side}_end"]] == segment[f"{side}_text"]
    assert dataset[2]["segments"] == []
    for file in folder.rglob("*.json"):
        assert str(tmp_path) not in file.read_text()
    loaded = datasets.load_dataset(
        "arrow", data_files=str(folder / "*.arrow"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.num_rows == 3


def test_a_datasets_folder_of_no_pairs_is_refused(tmp_path, shelf):
    with pytest.raises(InvalidData, match="no pair"):
        export_datasets([], tmp_path / "none", shelf.path)
    assert not (tmp_path / "none").exists()


def test_pairs_of_a_later_revision_are_exported_with_it(exported, tmp_path, shelf):
    pairs, _ = exported
    export_pairs([replace(pairs[0], revision=4)], tmp_path / "later", shelf.path)
    assert load_pairs(tmp_path / "later")[0].revision == 4
