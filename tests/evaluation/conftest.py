"""The public benchmark data with its answer keys, read in place."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "benchmarks"


@pytest.fixture(scope="session")
def benchmarks() -> Path:
    """The folder of the public data: `amber/`, `pope/`, `chair/`, `mmhal/`, `llava_bench_coco/`, `opera_captions/`."""
    if not BENCHMARKS.is_dir():
        pytest.skip(
            "the public benchmark data is not here: it lies in ../shared/data/benchmarks from the project's root"
        )
    return BENCHMARKS
