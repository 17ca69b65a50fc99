"""Large imports: how long they take and how much memory, from a Parquet file into the store."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.apps import ROOT
from tests.publishing.formats.rows import RLHFV, features, picture, rlhfv_row

DENSITY = slice(14, 18)  # of the JFIF header: pixels an inch, which no cleaner changes and no decoder minds

IMPORT = """
import json, sys, time
from pathlib import Path
from rlhfv.services import build_services, local_actor
from rlhfv.settings import Settings
import datasets, pyarrow.parquet

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

services, sizes = build_services(Settings(data_dir=Path(sys.argv[2]))), []
before, began, work = resident(), time.perf_counter(), time.process_time()
look = lambda rows: sizes.append(resident()) if rows % 20 == 0 else None
report = services.corrections.import_from(local_actor(), Path(sys.argv[1]), progress=look)
seconds, work = time.perf_counter() - began, time.process_time() - work
growth, half = max(sizes) - before, max(sizes[: len(sizes) // 2]) - before
print(json.dumps({"pairs": report.pairs, "problems": len(report.problems), "format": report.format,
                  "seconds": seconds, "work": work, "growth": growth, "half": half}))
"""


def write_rows(file, rows: int, size, noise: int) -> int:
    """A table of `rows` rows in the shape of RLHF-V-Dataset, each with a JPEG of its own; returns its bytes."""
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    pictures = [picture(seed, "JPEG", size, noise, quality=90) for seed in range(min(rows, 64))]

    def row(number: int) -> dict:
        data = bytearray(pictures[number % len(pictures)])
        data[DENSITY] = (number + 1).to_bytes(4, "big")
        return rlhfv_row(number, bytes(data))

    schema = features(**RLHFV).arrow_schema
    with ParquetWriter(file, schema) as writer:
        for start in range(0, rows, 1000):
            group = [row(number) for number in range(start, min(start + 1000, rows))]
            writer.write_table(Table.from_pylist(group, schema=schema))
    return file.stat().st_size


def measure(tmp_path, rows: int, size, noise: int) -> dict:
    written = write_rows(tmp_path / "rows.parquet", rows, size, noise)
    command = [sys.executable, "-c", IMPORT, str(tmp_path / "rows.parquet"), str(tmp_path / "data")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert (measured["format"], measured["pairs"], measured["problems"]) == ("rlhf-v", rows, 0)
    assert len(list((tmp_path / "data" / "images").iterdir())) == rows
    print(
        f"\n{rows:,} rows of {written / rows / 1000:.0f} kB: {measured['seconds']:.1f} s ({measured['work']:.1f} s of"
        f" work), memory grew by {measured['growth'] / 2**20:.0f} MB of {written / 2**20:.0f} MB"
    )
    return measured


def test_five_hundred_rows(tmp_path):
    measured = measure(tmp_path, 500, (320, 240), 4)
    assert measured["growth"] < 150 * 2**20


@pytest.mark.slow
def test_the_rows_of_rlhf_v(tmp_path):
    """5,733 rows with pictures as large as the true ones (879 MB in all) come in, and go out as they were.

    A page of a Parquet file holds up to 1,024 rows; the page and its unpacked copy are in memory, however many follow.
    """
    measured = measure(tmp_path, 5_733, (640, 427), 3)
    crowd = max(1.0, os.getloadavg()[0] / os.cpu_count())  # what else runs on this machine takes its share
    assert measured["work"] < 60 and measured["seconds"] < 60 * crowd
    assert measured["growth"] < 450 * 2**20
    assert measured["growth"] - measured["half"] < 60 * 2**20, "the second half takes no more than the first"

    began = time.perf_counter()
    command = [sys.executable, "-m", "rlhfv", "pairs", "export", str(tmp_path / "out"), "--format", "rlhf-v"]
    subprocess.run([*command, "--data-dir", str(tmp_path / "data")], cwd=ROOT, check=True, capture_output=True)
    print(f"exported in {time.perf_counter() - began:.1f} s")
    written, exported = (rows_of(tmp_path / name) for name in ("rows.parquet", "out/RLHF-V-Dataset.parquet"))
    assert all(one == other for one, other in zip(written, exported, strict=True))
    for folder in ("data", "out"):
        shutil.rmtree(tmp_path / folder)
    (tmp_path / "rows.parquet").unlink()


def rows_of(file):
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file, buffer_size=2**20, pre_buffer=False) as opened:
        for batch in opened.iter_batches(8):
            yield from batch.to_pylist()


def test_an_export_holds_few_pictures(tmp_path):
    """Writing goes in groups, whatever the number of pairs."""
    from rlhfv.publishing.formats import tables

    rows = ({"image": {"bytes": bytes(4_000_000), "path": None}} for _ in range(30))
    groups = [sum(len(row["image"]["bytes"]) for row in group) for group in tables._groups(rows)]
    assert sum(groups) == 120_000_000 and max(groups) <= tables.GROUP_BYTES + 4_000_000
