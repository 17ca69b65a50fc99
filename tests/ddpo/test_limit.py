"""A machine that many share gives a run so many seconds, and what it has learnt by then is kept."""

from types import SimpleNamespace

import pytest

from rlhfv.ddpo import limit
from rlhfv.ddpo.train import train
from rlhfv.run_folder import RunFolder
from tests.ddpo.conftest import SHORT

pytestmark = pytest.mark.usefixtures("few_looks")


def test_a_run_ends_in_time_with_its_adapter(bases, images, pairs, tmp_path, monkeypatch):
    begin, looks = limit.TimeLimit.on_train_begin, []

    def on_train_begin(self, *arguments, **more):
        looks.append("begin")
        begin(self, *arguments, **more)

    def monotonic() -> float:
        """The time is over at the fourth step."""
        looks.extend(["step"] if looks else [])
        return 1e12 if looks.count("step") >= 4 else 0.0

    monkeypatch.setenv("RLHFV_RUN_SECONDS", "0.5")
    monkeypatch.setattr(limit.TimeLimit, "on_train_begin", on_train_begin)
    monkeypatch.setattr(limit, "time", SimpleNamespace(monotonic=monotonic))
    result = train(pairs, SHORT, images=images, output=tmp_path / "run", model=str(bases["llava"]))
    assert (result.state, result.figures["steps"]) == ("done", 4)
    assert (result.path / "adapter_model.safetensors").is_file()
    events, _ = RunFolder(tmp_path / "run").read_events()
    said = [event["text"] for event in events if event["kind"] == "log"]
    assert any("a run has 0.5 seconds" in text for text in said)
    assert any("are over at step 4 of 9; the adapter holds" in text for text in said)
    assert events[-1]["kind"] == "done"


def test_a_run_whose_time_is_over_before_it_learns_says_so(bases, images, pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("RLHFV_RUN_SECONDS", "0.5")
    monkeypatch.setattr(limit, "time", SimpleNamespace(monotonic=lambda: 1e12))
    result = train(pairs, SHORT, images=images, output=tmp_path / "run", model=str(bases["llava"]))
    assert (result.state, result.path) == ("stopped", None)
    events, _ = RunFolder(tmp_path / "run").read_events()
    [said] = [event["text"] for event in events if "are over" in event.get("text", "")]
    assert said.endswith("are over before the first step; nothing was learnt.")


def test_a_run_that_ends_by_itself_says_nothing_of_it(bases, images, pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("RLHFV_RUN_SECONDS", "600")
    config = SHORT.changed(epochs=1)
    train(pairs[:4], config, images=images, output=tmp_path / "run", model=str(bases["llava"]))
    events, _ = RunFolder(tmp_path / "run").read_events()
    assert not any("are over" in event.get("text", "") for event in events)
