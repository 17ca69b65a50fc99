"""Files of a browser, laid out for `read_tasks`."""

import json
import zipfile
from pathlib import Path

import pytest

from rlhfv.corrections import uploads
from rlhfv.corrections.task_files import TASKS_FILE
from rlhfv.corrections.uploads import lay_out
from rlhfv.errors import InvalidData


def put(folder: Path, name: str, data: bytes = b"x") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def pack(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def laid_out(*files: Path) -> dict[str, bytes]:
    with lay_out(files) as folder:
        return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_pictures_of_the_same_name_are_all_kept(tmp_path):
    files = [put(tmp_path, f"{camera}/IMG_1.jpg", camera.encode()) for camera in "ab"]
    assert sorted(laid_out(*files).values()) == [b"a", b"b"]
    assert all(file.exists() for file in files), "the uploads themselves stay as they are"


def test_rows_lie_beside_their_pictures_under_the_name_that_is_looked_for(tmp_path):
    rows = put(tmp_path, "my rows.jsonl", json.dumps({"image": "a.png"}).encode())
    assert set(laid_out(rows, put(tmp_path, "a.png"))) == {TASKS_FILE, "a.png"}


def test_a_zip_with_a_folder_in_it(tmp_path):
    archive = pack(tmp_path / "work.zip", **{"work/rows.jsonl": b"{}", "work/pics/a.png": b"a"})
    with lay_out([archive]) as folder:
        assert (folder / TASKS_FILE).read_bytes() == b"{}" and (folder / "pics" / "a.png").read_bytes() == b"a"
    assert not folder.exists()


def test_a_zip_never_writes_outside_of_its_folder(tmp_path):
    archive = pack(tmp_path / "evil.zip", **{"../../escaped.png": b"!", "/tmp/escaped.png": b"!", "a.png": b"a"})
    assert laid_out(archive) == {"a.png": b"a"}
    assert not (tmp_path.parent / "escaped.png").exists() and not Path("/tmp/escaped.png").exists()


def test_what_is_neither_a_picture_nor_rows_is_left_packed(tmp_path):
    assert laid_out(pack(tmp_path / "a.zip", **{"a.png": b"a", "run.sh": b"rm", "notes.txt": b""})) == {"a.png": b"a"}


def test_a_bomb_is_refused_while_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_UNPACKED_BYTES", 3 * 1024**2)
    archive = pack(tmp_path / "bomb.zip", **{"a.png": bytes(4 * 1024**2)})
    assert archive.stat().st_size < 10_000
    with pytest.raises(InvalidData, match="more than"):
        laid_out(archive)


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_MEMBERS", 2)
    with pytest.raises(InvalidData, match="3 files"):
        laid_out(pack(tmp_path / "many.zip", **{f"{n}.png": b"" for n in range(3)}))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not really", b"x" * 100])
def test_a_damaged_zip_is_told(tmp_path, data):
    with pytest.raises(InvalidData, match="could not be unpacked"):
        laid_out(put(tmp_path, "broken.zip", data))


def test_several_files_of_rows_are_refused(tmp_path):
    with pytest.raises(InvalidData, match=r"2 JSONL files.*a\.jsonl, b\.jsonl"):
        laid_out(put(tmp_path, "a.jsonl"), put(tmp_path, "b.jsonl"))
