"""The settings that ruined the first demo model have to warn before they end; the recipe `demo` must not."""

import pytest

from benchmarks.ddpo_grid import RUIN, configure
from rlhfv.ddpo.config import RECIPES
from rlhfv.ddpo.train import train
from rlhfv.evaluation.oracle_pairs import oracle_pairs
from rlhfv.models.catalog import find_entry
from rlhfv.models.local import LocalModel
from rlhfv.run_folder import RunFolder

PAIRS = 240

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    entry = find_entry("demo")
    model = LocalModel.load(entry)
    try:
        return oracle_pairs(model, entry.world, PAIRS, folder), folder / "images"
    finally:
        model.unload()


def run(pool, config, folder):
    pairs, images = pool
    result = train(pairs, config, images=images, output=folder)
    events, _ = RunFolder(folder).read_events()
    steps = max(event["step"] for event in events if event["kind"] == "step")
    return result, steps, [event for event in events if event["kind"] == "warn"]


def test_ruinous_settings_warn_before_the_end(pool, tmp_path):
    result, steps, warned = run(pool, configure("demo", **RUIN), tmp_path / "run")
    assert warned
    assert warned[0]["step"] < 0.8 * steps, "too late to stop it"
    assert result.warnings


def test_asked_to_it_stops_there(pool, tmp_path):
    config = configure("demo", **RUIN).changed(stop_on_warning=True)
    result, steps, warned = run(pool, config, tmp_path / "run")
    assert result.state == "stopped"
    assert steps < 3 * PAIRS // 16
    assert len(warned) >= 1


def test_the_recipe_itself_does_not_warn(pool, tmp_path):
    result, _, warned = run(pool, RECIPES["demo"].changed(eval_fraction=0.0), tmp_path / "run")
    assert result.state == "done"
    assert warned == []
