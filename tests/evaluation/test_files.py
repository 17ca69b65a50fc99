"""The files a benchmark wants: all that are missing are named at once, with where they come from."""

import pytest

from rlhfv.errors import InvalidData
from rlhfv.evaluation.files import WantedFile, list_files, require_files, sha256_of

WANTED = (
    WantedFile("pope/random.json", "3,000 questions", "github.com/RUCAIBox/POPE"),
    WantedFile("coco/val2014/", "the pictures", "cocodataset.org"),
    WantedFile("pope/notes.txt", "notes", "nowhere", required=False),
)


def test_every_missing_file_is_named_with_its_source(tmp_path):
    with pytest.raises(InvalidData) as told:
        require_files(tmp_path, WANTED)
    assert "2 files" in told.value.what
    for part in ("pope/random.json", "3,000 questions", "github.com/RUCAIBox/POPE", "coco/val2014/"):
        assert part in told.value.what
    assert "notes.txt" not in str(told.value)


def test_one_missing_file_is_told_as_one(tmp_path):
    (tmp_path / "coco/val2014").mkdir(parents=True)
    (tmp_path / "coco/val2014/1.jpg").touch()
    with pytest.raises(InvalidData) as told:
        require_files(tmp_path, WANTED)
    assert told.value.what.startswith("A file of the benchmark is missing")
    assert "val2014" not in told.value.what


def test_what_is_there_is_told_apart_from_what_is_not(tmp_path):
    (tmp_path / "pope").mkdir()
    (tmp_path / "pope/random.json").write_text("[]")
    (tmp_path / "coco/val2014").mkdir(parents=True)
    assert [file.there for file in list_files(tmp_path, WANTED)] == [True, False, False], "an empty folder holds none"


def test_nothing_is_raised_where_all_required_files_are_there(tmp_path):
    require_files(tmp_path, WANTED[2:])


def test_a_file_is_known_by_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
