"""Rows in the shape of other people's datasets, with real pictures in them."""

import io
import json
import random
from functools import lru_cache
from pathlib import Path

import numpy
from PIL import Image

THINGS = "fork spoon dog cat man woman car tree table chair cup bird horse kite boat clock".split()
COLOURS = "red green blue white black yellow brown grey".split()
PLACES = "on the left,on the right,in the background,near the window,behind the fence,under the lamp".split(",")


@lru_cache
def picture(seed: int = 0, format: str = "JPEG", size: tuple[int, int] = (64, 48), noise: int = 8, **options) -> bytes:
    """An encoded picture of its own for each seed; the smaller `noise`, the more bytes it takes."""
    generator = numpy.random.default_rng(seed)
    coarse = generator.integers(0, 255, (max(size[1] // noise, 1), max(size[0] // noise, 1), 3), dtype=numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.BICUBIC).save(buffer, format, **options)
    return buffer.getvalue()


def with_metadata(seed: int = 0, orientation: int = 1) -> bytes:
    """A JPEG with EXIF, a GPS remark and a comment, which is what cleaning takes away."""
    tags = Image.Exif()
    tags[0x0112], tags[0x010E] = orientation, "GPS 48.1 11.5"
    return picture(seed, exif=tags.tobytes(), comment=b"a remark")


def texts(seed: int, words: int = 64) -> dict:
    """Question, chosen and rejected: a description with about three differences, as the paper counts them."""
    generator = random.Random(seed)
    rejected = []
    while sum(len(sentence.split()) for sentence in rejected) < words:
        colour, thing, place = (generator.choice(pool) for pool in (COLOURS, THINGS, PLACES))
        rejected.append(f"There is a {colour} {thing} {place}, number {generator.randrange(10)}.")
    chosen = list(rejected)
    for index in generator.sample(range(len(chosen)), min(3, len(chosen))):
        colour, thing = generator.choice(COLOURS), generator.choice(THINGS)
        chosen[index] = chosen[index].replace("There is a", f"One can see the {colour} {thing} and a", 1)
    return {"question": f"What is there ({seed})?", "chosen": " ".join(chosen), "rejected": " ".join(rejected)}


def rlhfv_row(seed: int = 0, image: bytes | None = None, **changes) -> dict:
    """A row as RLHF-V-Dataset has had it since 2024."""
    path = f"llava1.5_raw_images/{seed:05}/{seed:09}.jpg"
    return {
        "ds_name": "RLHF-V",
        "image": {"bytes": picture(seed) if image is None else image, "path": path.rpartition("/")[2]},
        "text": json.dumps(texts(seed)),
        "origin_dataset": "LCS-558K",
        "origin_split": json.dumps({"model": "Muffin", "type": "detailed_description"}),
        "idx": seed,
        "image_path": path,
    } | changes


def flat_row(seed: int = 0, image: bytes | None = None, **changes) -> dict:
    """A row as RLAIF-V-Dataset has it."""
    row = rlhfv_row(seed, image)
    head = {name: row[name] for name in ("ds_name", "image")} | texts(seed)
    return (
        head
        | {name: row[name] for name in row if name not in ("ds_name", "image", "text")}
        | {"idx": f"{seed}"}
        | changes
    )


def features(**columns: str):
    """`datasets.Features` of a picture in `image` and these columns."""
    from datasets import Features, Image, Value

    return Features({name: Image() if name == "image" else Value(type) for name, type in columns.items()})


RLHFV = {
    "ds_name": "string",
    "image": "image",
    "text": "string",
    "origin_dataset": "string",
    "origin_split": "string",
    "idx": "int64",
    "image_path": "string",
}
FLAT = {"ds_name": "string", "image": "image", "question": "string", "chosen": "string", "rejected": "string"} | {
    "origin_dataset": "string",
    "origin_split": "string",
    "idx": "string",
    "image_path": "string",
}


def write_parquet(rows: list[dict], file: Path, columns: dict[str, str] = RLHFV, group: int = 100) -> Path:
    from pyarrow import Table
    from pyarrow.parquet import write_table

    file.parent.mkdir(parents=True, exist_ok=True)
    write_table(Table.from_pylist(rows, schema=features(**columns).arrow_schema), file, row_group_size=group)
    return file


def read_parquet(file: Path) -> list[dict]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as opened:
        return opened.read().to_pylist()
