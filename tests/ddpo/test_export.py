import json

import pytest
import torch
from transformers import AutoModelForImageTextToText

from rlhfv.corrections.conversation import Sampling
from rlhfv.ddpo.export import export_run
from rlhfv.ddpo.train import train
from rlhfv.errors import RunFailed
from rlhfv.models.local import load_model
from rlhfv.run_folder import RunFolder
from tests.ddpo.conftest import SHORT


@pytest.fixture(scope="module")
def run_folder(bases, images, pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a-run"
    train(pairs, SHORT.changed(learning_rate=1e-2), images=images, output=folder, model=str(bases["llava"]))
    return RunFolder(folder)


def test_an_adapter_is_given_as_it_lies(run_folder, tmp_path):
    target = export_run(run_folder, tmp_path / "out" / "adapter")
    given = {path.name: path.read_bytes() for path in target.iterdir()}
    assert given == {path.name: path.read_bytes() for path in run_folder.adapter.iterdir()}


def test_a_merged_model_answers_as_base_and_adapter(run_folder, bases, tmp_path, pairs, find_image):
    target = export_run(run_folder, tmp_path / "merged", merge=True, base_path=bases["llava"])
    assert json.loads((target / "rlhfv.json").read_text())["run"] == "a-run"
    prompts, sampling = [pair.prompt for pair in pairs[:3]], Sampling(max_new_tokens=24)
    merged, base = load_model(str(target)), load_model(str(bases["llava"]))
    try:
        voice = base.attach(run_folder.adapter)
        told = merged.answer_many(prompts, None, sampling, find_image, 1)
        assert told == base.answer_many(prompts, voice, sampling, find_image, 1)
        assert told != base.answer_many(prompts, None, sampling, find_image, 1)
    finally:
        merged.unload()
        base.unload()
    assert AutoModelForImageTextToText.from_pretrained(target).dtype == torch.float32


def test_nothing_is_overwritten_and_no_adapter_is_no_export(run_folder, tmp_path):
    with pytest.raises(RunFailed, match="exists already"):
        export_run(run_folder, tmp_path)
    with pytest.raises(RunFailed, match="made no adapter"):
        export_run(RunFolder(tmp_path / "nothing"), tmp_path / "out")


def test_another_base_is_refused(run_folder, bases, tmp_path):
    with pytest.raises(RunFailed, match="Bring that base back"):
        export_run(run_folder, tmp_path / "merged", merge=True, base_path=bases["smolvlm"])
