import json
import shutil

import pytest
import torch
from transformers import AutoModelForImageTextToText

from rlhfv.corrections.conversation import Sampling
from rlhfv.ddpo.export import export_run
from rlhfv.ddpo.train import train
from rlhfv.errors import ModelUnavailable, RunFailed
from rlhfv.models.local import load_model
from rlhfv.run_folder import RunFolder
from rlhfv.runs.local import LocalRuns
from tests.ddpo.conftest import SHORT

pytestmark = pytest.mark.usefixtures("few_looks")
PROCESSOR = {
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"),
}


def answers(folder, prompts, find_image, adapter=None):
    model = load_model(str(folder), [adapter] if adapter else [])
    try:
        voice = next(iter(model.adapters()), None)
        return model.answer_many(prompts, voice, Sampling(max_new_tokens=24), find_image, 1)
    finally:
        model.unload()


def assert_served_like(base, folder):
    """What loads the base loads the folder: the same processor, byte for byte, and no place of this machine in it."""
    kept = {path.name: path.read_bytes() for path in base.iterdir() if path.name in PROCESSOR}
    assert len(kept) >= 5
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    for path in folder.iterdir():
        assert str(base.parent).encode() not in path.read_bytes(), path.name


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
    prompts = [pair.prompt for pair in pairs[:3]]
    told = answers(target, prompts, find_image)
    assert told == answers(bases["llava"], prompts, find_image, run_folder.adapter)
    assert told != answers(bases["llava"], prompts, find_image)
    assert AutoModelForImageTextToText.from_pretrained(target).dtype == torch.float32
    assert_served_like(bases["llava"], target)


@pytest.mark.parametrize("family", ["smolvlm", pytest.param("qwen2_5_vl", marks=pytest.mark.slow)])
def test_a_merged_model_keeps_the_video_half_of_its_processor(bases, images, pairs, tmp_path, find_image, family):
    """The processor in memory has none, and vLLM loads no Qwen-VL without it."""
    base = shutil.copytree(bases[family], tmp_path / "base")
    settings = json.loads((base / "generation_config.json").read_text()) | {"do_sample": True, "temperature": 0.6}
    (base / "generation_config.json").write_text(json.dumps(settings))
    config = SHORT.changed(steps=3, learning_rate=1e-2)
    train(pairs[:4], config, images=images, output=tmp_path / "run", model=str(base))
    run_folder = RunFolder(tmp_path / "run")
    target = export_run(run_folder, tmp_path / "merged", merge=True, base_path=base)
    assert (target / "video_preprocessor_config.json").is_file()
    assert_served_like(base, target)
    prompts = [pair.prompt for pair in pairs[:2]]
    assert answers(target, prompts, find_image) == answers(base, prompts, find_image, run_folder.adapter)


@pytest.mark.parametrize(
    "family", ["llava", *(pytest.param(name, marks=pytest.mark.slow) for name in ("smolvlm", "qwen2_5_vl"))]
)
def test_a_whole_model_is_given_and_is_a_base(bases, images, pairs, tmp_path, find_image, family):
    runs = LocalRuns(tmp_path / "data")
    config = SHORT.changed(full_tuning=True, learning_rate=1e-3, steps=2)
    result = train(pairs[:4], config, images=images, output=runs.folder / "whole", model=str(bases[family]))
    run = runs.get("whole")
    assert (run.state, run.has_adapter, run.has_model) == ("done", False, True)
    done = runs.open("whole").read_events()[0][-1]
    assert (done["kind"], done["made"]) == ("done", "model")
    assert "--model" in done["message"]
    target = runs.export("whole", tmp_path / "given")
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in result.path.iterdir()
    }
    assert_served_like(bases[family], target)
    assert "All weights" in (target / "README.md").read_text()
    prompts = [pair.prompt for pair in pairs[:2]]
    assert answers(target, prompts, find_image) != answers(bases[family], prompts, find_image)
    model = load_model(str(target))
    try:
        assert model.identity.name == "whole", "the run that made it, wherever it lies"
    finally:
        model.unload()


def test_an_adapter_of_its_base_does_not_fit_a_whole_model(run_folder, bases, images, pairs, tmp_path):
    config = SHORT.changed(full_tuning=True, learning_rate=1e-3, steps=2)
    result = train(pairs[:4], config, images=images, output=tmp_path / "whole", model=str(bases["llava"]))
    with pytest.raises(ModelUnavailable, match="was trained on llava@"):
        load_model(str(result.path), [run_folder.adapter])


@pytest.mark.slow
def test_an_adapter_can_be_trained_on_a_whole_model(bases, images, pairs, tmp_path):
    config = SHORT.changed(full_tuning=True, learning_rate=1e-3, steps=2)
    first = train(pairs[:4], config, images=images, output=tmp_path / "whole", model=str(bases["llava"]))
    again = train(pairs[:4], SHORT.changed(steps=2), images=images, output=tmp_path / "again", model=str(first.path))
    model = load_model(str(first.path), [again.path])
    try:
        assert next(iter(model.adapters().values())).card["base"]["name"] == "whole"
    finally:
        model.unload()


def test_nothing_is_overwritten_and_no_adapter_is_no_export(run_folder, tmp_path):
    with pytest.raises(RunFailed, match="exists already"):
        export_run(run_folder, tmp_path)
    with pytest.raises(RunFailed, match="made neither adapter nor model"):
        export_run(RunFolder(tmp_path / "nothing"), tmp_path / "out")


def test_another_base_is_refused(run_folder, bases, tmp_path):
    with pytest.raises(RunFailed, match="Bring that base back"):
        export_run(run_folder, tmp_path / "merged", merge=True, base_path=bases["smolvlm"])
