"""Recorded comparisons: what is written is read back, and what does not say whence it is, is refused."""

import hashlib
import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from rlhfv.corrections.conversation import Sampling
from rlhfv.corrections.recorded import (
    FILE,
    Recorded,
    Saying,
    Source,
    credit,
    find_recorded,
    read_recorded,
    write_recorded,
)
from rlhfv.errors import InvalidData, InvalidImage


def encode(format="JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), "teal").save(buffer, format, **options)
    return buffer.getvalue()


MADE = Recorded(
    "",
    "What is there?",
    Saying("Baseline", "m@1", "A dog and a frisbee 🐕."),
    Saying("Aligned", "m@1 + a@2", "A dog 🐕."),
    "2026-11-22",
    Source("my camera", "CC-BY-4.0", "Ann"),
    sampling=Sampling(seed=3),
)


def change(folder, **fields) -> None:
    document = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**document, **fields}))


def test_it_is_read_back_as_it_was_written_without_what_the_picture_told_of_its_maker(tmp_path):
    tags = Image.Exif()
    tags[0x010E] = "home address"
    folder = write_recorded(MADE, encode(exif=tags.tobytes()), tmp_path / "one")
    read = read_recorded(folder)
    assert replace(read, picture="") == MADE and not read.by_people
    data = (folder / read.picture).read_bytes()
    assert read.picture == f"{hashlib.sha256(data).hexdigest()}.jpg" and b"home address" not in data
    assert credit(read.source) == "Picture: my camera by Ann (CC-BY-4.0)."


@pytest.mark.parametrize(
    "fields",
    [
        {"day": "2026-13-45"},
        {"source": {"name": "x", "licence": "y", "revision": 5, "row": 1}},
        {"source": {"name": "x", "licence": "y", "row": float("inf")}},
        {"source": {"name": None, "licence": "y"}},
        {"source": "my camera"},
    ],
)
def test_a_day_or_a_source_that_is_none_is_refused_in_words(tmp_path, fields):
    folder = write_recorded(MADE, encode(), tmp_path / "one")
    change(folder, **fields)
    with pytest.raises(InvalidData, match="cannot be shown"):
        read_recorded(folder)


def test_a_recording_is_never_mixed_with_another(tmp_path):
    write_recorded(MADE, encode(), tmp_path / "one")
    with pytest.raises(InvalidData, match="is there already"):
        write_recorded(MADE, encode(), tmp_path / "one")


def test_all_of_a_folder_are_found_in_order_or_the_one_that_it_is(tmp_path):
    for name in ("2", "1"):
        write_recorded(MADE, encode(), tmp_path / name)
    assert [folder.name for folder in find_recorded(tmp_path)] == ["1", "2"]
    assert find_recorded(tmp_path / "2") == [tmp_path / "2"]
    with pytest.raises(InvalidData, match="holds no recorded comparison"):
        find_recorded(tmp_path / "none")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"v": 9}, "of no version"),
        ({"question": " "}, "is empty"),
        ({"question": 5}, "5 is no text"),
        ({"left": {"voice": "B", "model": "", "text": "A cat."}}, "which model answered"),
        ({"right": {"voice": "B", "model": "m", "text": MADE.left.text}}, "Both answers are the same"),
        ({"right": {"voice": "B", "model": "m"}}, "lacks a field"),
        ({"day": "yesterday"}, "no day"),
        ({"source": {"name": "the web", "licence": ""}}, "under which licence"),
        ({"source": {"name": "", "licence": "CC0"}}, "where the picture is from"),
        ({"source": {"name": "x", "licence": "y", "price": 3}}, "does not belong there"),
        ({"picture": "../../secret.png"}, "cannot be read"),
        ({"left": {"voice": "B", "model": "m", "text": "x" * 5000}}, "more than 4,000"),
    ],
)
def test_what_does_not_say_what_it_is_is_refused_in_three_parts(tmp_path, fields, told):
    folder = write_recorded(MADE, encode(), tmp_path / "one")
    change(folder, **fields)
    with pytest.raises(InvalidData, match="cannot be shown") as refused:
        read_recorded(folder)
    assert told in refused.value.why and "rlhfv record" in refused.value.fix


def test_another_picture_than_the_one_that_was_asked_about_is_refused(tmp_path):
    folder = write_recorded(MADE, encode(), tmp_path / "one")
    picture = folder / read_recorded(folder).picture
    picture.write_bytes(encode(quality=20))
    with pytest.raises(InvalidData, match="another one than that which was recorded"):
        read_recorded(folder)
    forged = b"<svg onload=alert(1)>"
    name = f"{hashlib.sha256(forged).hexdigest()}.png"
    (folder / name).write_bytes(forged)
    change(folder, picture=name)
    with pytest.raises(InvalidData, match="cannot be shown"):
        read_recorded(folder)


def test_nothing_is_written_of_what_would_not_be_shown(tmp_path):
    with pytest.raises(InvalidData, match="licence"):
        write_recorded(replace(MADE, source=Source("the web", "")), encode(), tmp_path / "one")
    with pytest.raises(InvalidImage):
        write_recorded(MADE, b"no picture", tmp_path / "one")
    assert list(tmp_path.iterdir()) == []
