"""The build at the smallest scale: it ends with a folder that loads, and goes on where it was interrupted."""

import pytest
import torch
from safetensors.torch import load_file

from rlhfv.errors import InvalidData
from rlhfv.models.demo.build import build, load
from rlhfv.models.demo.plan import TINY, choose, rate_at


class Interrupted(Exception):
    pass


@pytest.mark.slow
def test_an_interrupted_build_ends_with_the_same_weights(tmp_path):
    def interrupt_at(step):
        def progress(line):
            if line.startswith(step):
                raise Interrupted

        return progress

    for step in ("tower step=4", "language step=2"):
        with pytest.raises(Interrupted):
            build(tmp_path / "work", tmp_path / "out", progress=interrupt_at(step), plan=TINY)
    lines = []
    figures = build(tmp_path / "work", tmp_path / "out", progress=lines.append, plan=TINY)
    assert set(figures) >= {"response_rate", "recall", "words"}
    assert "language resumed step=2" in lines
    build(tmp_path / "work at once", tmp_path / "out at once", progress=lines.append, plan=TINY)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "out at once"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert load(tmp_path / "out")[0].dtype == torch.float32
    assert str(tmp_path) not in (tmp_path / "out" / "build_log.jsonl").read_text()


def test_the_output_may_not_hold_the_work_folder(tmp_path):
    with pytest.raises(InvalidData):
        build(tmp_path / "out" / "work", tmp_path / "out", plan=TINY)


def test_a_step_depends_on_seed_and_number_alone():
    assert choose(0, 7, 100, 5) == choose(0, 7, 100, 5) != choose(0, 8, 100, 5)
    assert rate_at(0, 1_000) < rate_at(149, 1_000) == 1.0 > rate_at(999, 1_000) > 0
