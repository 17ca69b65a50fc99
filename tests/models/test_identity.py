import json
import os
import shutil

import pytest

from rlhfv.errors import ModelUnavailable
from rlhfv.models.identity import adapter_identity, folder_identity


def test_digest_depends_on_weights_and_config_and_not_on_the_path(folders, tmp_path):
    copy = shutil.copytree(folders["llava"], tmp_path / "elsewhere" / "llava")
    original = folder_identity(folders["llava"])
    assert folder_identity(copy) == original
    assert original.name == "llava"
    assert len(original.revision) == 64
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "image_seq_length": 5}))
    assert folder_identity(copy).revision != original.revision


def test_changed_weights_of_the_same_size_are_another_model(folders, tmp_path):
    copy = shutil.copytree(folders["llava"], tmp_path / "llava")
    before = folder_identity(copy)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1_000_000))
    assert folder_identity(copy).revision != before.revision


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match="holds no model"):
        folder_identity(tmp_path)


def test_adapter_identity_ignores_where_its_base_lay(folders, tmp_path):
    copy = shutil.copytree(folders["llava-adapter"], tmp_path / "adapter")
    config = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/gone/llava"}))
    digest = adapter_identity(folders["llava-adapter"]).rpartition("@")[2]
    assert adapter_identity(copy) == f"adapter@{digest}"
    assert len(digest) == 12
    (copy / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 99}))
    assert adapter_identity(copy) != f"adapter@{digest}"


def test_an_adapter_is_named_by_its_run(folders, tmp_path):
    copy = shutil.copytree(folders["llava-adapter"], tmp_path / "adapter")
    (copy / "rlhfv.json").write_text(json.dumps({"run": "run-7"}))
    assert adapter_identity(copy).startswith("run-7@")
    assert adapter_identity(copy, "mine").startswith("mine@")


@pytest.mark.parametrize("card", ["not json", "[]", '{"base": "llava"}', '{"base": {"name": "llava"}}'])
def test_a_broken_card_is_refused(folders, tmp_path, card):
    copy = shutil.copytree(folders["llava-adapter"], tmp_path / "adapter")
    (copy / "rlhfv.json").write_text(card)
    with pytest.raises(ModelUnavailable, match=r"rlhfv\.json"):
        adapter_identity(copy)


def test_a_run_name_that_is_no_name_is_ignored(folders, tmp_path):
    copy = shutil.copytree(folders["llava-adapter"], tmp_path / "adapter")
    (copy / "rlhfv.json").write_text(json.dumps({"run": "../<img onerror=x>"}))
    assert adapter_identity(copy).startswith("adapter@")


def test_a_folder_without_an_adapter_is_refused(folders):
    with pytest.raises(ModelUnavailable, match="holds no adapter"):
        adapter_identity(folders["llava"])
