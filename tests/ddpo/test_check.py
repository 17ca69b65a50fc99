import subprocess
import sys

import pytest

from rlhfv.corrections.images import ImageShelf
from rlhfv.ddpo.check import check_run
from rlhfv.ddpo.config import RECIPES, TrainingConfig
from rlhfv.ddpo.cost import Cost, count_cost, pairs_at_once
from rlhfv.ddpo.train import train
from rlhfv.models.catalog import fetch_config, find_entry
from rlhfv.run_folder import RunFolder
from tests.ddpo.conftest import SHORT, make_pair


def test_importing_the_check_costs_no_torch():
    code = "import rlhfv.ddpo.check, sys; print([m for m in ('torch', 'transformers', 'gradio') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("family", ["llava", "smolvlm", "qwen2_5_vl"])
def test_usable_and_skipped_rows_with_reasons_and_costs(bases, find_image, names, pairs, family):
    rows = [
        *pairs,
        make_pair("same", names[0], edits=[]),
        make_pair("gone", "e" * 64 + ".png"),
        make_pair("long", names[0], answer="knife " * 500),
        make_pair("voted", names[0], outcome="preferred", chosen="a cat", edits=[]),
    ]
    report = check_run(rows, SHORT.changed(max_length=500), find_entry(str(bases[family])), find_image)
    assert report.usable == 12
    reasons = dict(report.skipped)
    assert reasons.keys() == {"same", "gone", "long", "voted"}
    assert "identical" in reasons["same"]
    assert "missing" in reasons["gone"]
    assert "length limit of 500" in reasons["long"]
    assert "not asked for" in reasons["voted"]
    assert report.steps == 9
    assert 0 < report.seconds < 60
    assert 0 < report.memory < report.available
    assert report.longest < 500
    assert any("too few" in warning for warning in report.warnings)
    assert report.to_dict()["usable"] == 12


@pytest.mark.parametrize("family", ["llava", "smolvlm", "qwen2_5_vl"])
def test_packed_rows_are_counted_as_the_shorter_ones_they_are(bases, find_image, pairs, monkeypatch, family):
    monkeypatch.setattr("rlhfv.ddpo.cost.measure_speed", lambda *_: 1e6)  # so slow that the start counts for nothing
    entry = find_entry(str(bases[family]))
    packed, plain = (check_run(pairs, SHORT.changed(packed=way), entry, find_image) for way in ("auto", "off"))
    assert 1.15 < plain.seconds / packed.seconds < 2.0
    assert packed.memory < plain.memory
    assert packed.steps == plain.steps


def test_pictures_that_the_shelf_lost_or_that_are_broken_are_reasons(bases, find_image, names, pairs, tmp_path):
    """The studio asks its shelf, which has no path for what it does not hold."""
    shelf = ImageShelf(tmp_path / "shelf")
    kept = [shelf.intake(find_image(name).read_bytes()).name for name in names[:3]]
    (shelf.folder / kept[1]).unlink()
    (shelf.folder / kept[2]).write_bytes(b"not a picture")
    rows = [make_pair(f"p{number}", name) for number, name in enumerate(kept)]
    report = check_run(rows, SHORT, find_entry(str(bases["llava"])), shelf.path)
    assert report.usable == 1
    assert [identity for identity, _ in report.skipped] == ["p1", "p2"]
    assert "missing" in report.skipped[0][1]
    assert "cannot be opened" in report.skipped[1][1]


def test_the_check_says_of_each_pair_what_the_run_says(bases, images, find_image, names, pairs, tmp_path):
    config = RECIPES["vl-rlhf"].changed(batch_size=4, max_length=200, eval_fraction=0.0)
    rows = [*pairs[:6], make_pair("same", names[0], edits=[]), make_pair("long", names[0], answer="knife " * 500)]
    report = check_run(rows, config, find_entry(str(bases["llava"])), find_image)
    train(rows, config, images=images, output=tmp_path / "run", model=str(bases["llava"]))
    events, _ = RunFolder(tmp_path / "run").read_events()
    assert {event["pair"] for event in events if event["kind"] == "skip"} == {
        identity for identity, _ in report.skipped
    }
    assert [event["pairs"] for event in events if "pairs" in event] == [report.usable]
    assert next(event["total_steps"] for event in events if event["kind"] == "step") == report.steps


def test_nothing_usable_is_a_report_and_no_error(bases, find_image, names):
    report = check_run([make_pair("same", names[0], edits=[])], SHORT, find_entry(str(bases["llava"])), find_image)
    assert (report.usable, report.steps) == (0, 0)
    assert len(report.skipped) == 1


def test_trained_parameters_are_counted_exactly(bases):
    from rlhfv.ddpo.base import load_base, make_trainable

    for config in (SHORT, SHORT.changed(full_tuning=True)):
        for folder in bases.values():
            entry = find_entry(str(folder))
            model = make_trainable(load_base(entry, config), config)
            trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
            assert count_cost(fetch_config(entry), config, False).trained == trained


def test_the_share_of_a_batch_that_fits_divides_it():
    cost = Cost(0, 0, fixed=1000, per_token=10, step_flops=0, reference_flops=0, image_flops=0)
    assert pairs_at_once(16, 200, cost, available=10**9) == 16
    assert pairs_at_once(16, 200, cost, available=20_000) == 4
    assert pairs_at_once(16, 150, cost, available=20_000) == 8
    assert pairs_at_once(6, 200, cost, available=14_000) == 3
    assert pairs_at_once(16, 200, cost, available=0) == 1


def test_memory_grows_with_full_tuning_and_shrinks_with_checkpointing(bases):
    config = fetch_config(find_entry(str(bases["llava"])))
    plain, full, again = (
        count_cost(config, TrainingConfig(**change), False).memory(4096)
        for change in ({}, {"full_tuning": True}, {"gradient_checkpointing": True})
    )
    assert again < plain < full
