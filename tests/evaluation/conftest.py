"""The public benchmark data with its answer keys, read in place, and judges to ask."""

from pathlib import Path

import pytest

from rlhfv.evaluation import judge
from tests.evaluation.ask_judge import KEY, OWN_TOKEN
from tests.evaluation.judge_server import JudgeServer

BENCHMARKS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "benchmarks"


@pytest.fixture(scope="session")
def benchmarks() -> Path:
    """The folder of the public data: `amber/`, `pope/`, `chair/`, `mmhal/`, `llava_bench_coco/`, `opera_captions/`."""
    if not BENCHMARKS.is_dir():
        pytest.skip(
            "the public benchmark data is not here: it lies in ../shared/data/benchmarks from the project's root"
        )
    return BENCHMARKS


@pytest.fixture
def open_server(monkeypatch):
    """`open_server(plan, …)` starts a judge's server, whose key and pauses are set for the test."""
    monkeypatch.setattr(judge, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("TEST_JUDGE_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", OWN_TOKEN)
    servers = []

    def start(plan=None, **fields):
        servers.append(JudgeServer(plan, **fields))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
