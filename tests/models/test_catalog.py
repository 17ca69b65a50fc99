import importlib.util
import json
import shutil
import socket
import subprocess
import sys

import huggingface_hub.constants
import pytest
import torch
from transformers import AutoConfig, CLIPVisionConfig, Gemma3nConfig, LlamaConfig, LlavaConfig

from rlhfv.errors import ModelUnavailable
from rlhfv.models import catalog
from rlhfv.models.demo.objects import CLASSES
from rlhfv.models.local import LocalModel, Row, load_model
from tests.models.conftest import FAMILIES, generate, one_turn
from tests.models.tiny import build_llava

CPU = torch.device("cpu")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_importing_the_catalog_costs_neither_torch_nor_transformers():
    code = (
        "import rlhfv.models.catalog, sys; print([m for m in ('torch', 'transformers', 'gradio') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_folder_is_an_entry_with_the_licence_of_its_card(folders, tmp_path):
    folder = shutil.copytree(folders["llava"], tmp_path / "my-llava")
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A model\n")
    entry = catalog.find_entry(str(folder))
    assert (entry.id, entry.licence, entry.is_local, entry.world) == ("my-llava", "cc-by-nc-4.0", True, None)


def test_what_has_no_revisions_refuses_one(folders):
    for name in ("demo", str(folders["llava"])):
        with pytest.raises(ModelUnavailable, match="Only models of the Hub have revisions"):
            catalog.find_entry(name, "abc")


def test_a_hub_id_is_an_entry_without_touching_the_network():
    entry = catalog.find_entry("someone/some-model", "abc")
    assert (entry.id, entry.revision, entry.is_local, entry.notice) == ("someone/some-model", "abc", False, "")


@pytest.mark.parametrize("name", ["/no/such/folder", "a/b/c", "", "../up", "has space/x"])
def test_names_that_are_nothing_are_refused(name):
    with pytest.raises(ModelUnavailable, match="no model"):
        catalog.find_entry(name)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_counted_without_loading(folders, loaded, family):
    estimate = catalog.estimate_memory(AutoConfig.from_pretrained(folders[family]), torch.bfloat16)
    parameters = sum(parameter.numel() for parameter in loaded[family][0].model.parameters())
    lora = sum(p.numel() for name, p in loaded[family][0].model.named_parameters() if "lora_" in name)
    assert estimate.parameters == parameters - lora
    assert estimate.weights == 2 * estimate.parameters
    assert estimate.working > 0


@pytest.fixture(scope="module")
def seven_billion(tmp_path_factory):
    """Config of a LLaVA-1.5-7B without any weights."""
    folder = tmp_path_factory.mktemp("big") / "llava-7b"
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=336,
            patch_size=14,
        ),
        text_config=LlamaConfig(vocab_size=32064),
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    return folder


def test_a_model_that_does_not_fit_is_refused_from_its_config_with_figures(seven_billion):
    entry = catalog.find_entry(str(seven_billion))
    with pytest.raises(ModelUnavailable) as refusal:
        catalog.refuse_if_too_large(entry, CPU, available=8 * 10**9)
    assert "7.06 billion parameters" in refusal.value.what
    assert "8.0 GB are free on cpu" in refusal.value.why
    assert "14.1 GB" in refusal.value.why
    assert "smaller model" in refusal.value.fix


@pytest.mark.parametrize(("free", "dtype"), [(40 * 10**9, torch.float32), (20 * 10**9, torch.bfloat16)])
def test_half_precision_on_the_cpu_only_where_float32_does_not_fit(seven_billion, free, dtype):
    chosen, estimate = catalog.refuse_if_too_large(catalog.find_entry(str(seven_billion)), CPU, available=free)
    assert chosen == dtype
    assert estimate.total <= free


def test_precision_follows_the_device(seven_billion):
    config = AutoConfig.from_pretrained(seven_billion)
    assert catalog.possible_dtypes(config, torch.device("cpu"), 7 * 10**9)[0] == torch.float32
    assert catalog.possible_dtypes(config, torch.device("cuda"), 3 * 10**6) == (torch.float32,)


def test_a_container_limit_counts_as_memory():
    assert 0 < catalog.available_memory(CPU) < 10**15


def test_a_small_model_stored_in_bfloat16_is_loaded_in_float32(tmp_path):
    folder = build_llava(tmp_path / "llava", dtype=torch.bfloat16)
    model = LocalModel.load(str(folder))
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert {parameter.dtype for parameter in model.model.parameters()} == {torch.float32}
    model.unload()


def test_a_text_model_is_refused(tmp_path):
    LlamaConfig().save_pretrained(tmp_path / "llama")
    with pytest.raises(ModelUnavailable, match="llama model"):
        LocalModel.load(str(tmp_path / "llama"))


def test_an_unknown_architecture_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_llama"}))
    with pytest.raises(ModelUnavailable, match="never run"):
        LocalModel.load(str(tmp_path))


def test_weights_that_need_a_package_are_refused_by_its_name(folders, tmp_path):
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    folder = shutil.copytree(folders["llava"], tmp_path / "llava")
    config = json.loads((folder / "config.json").read_text())
    quantised = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantised}))
    with pytest.raises(ModelUnavailable, match="bitsandbytes"):
        LocalModel.load(str(folder))


def test_an_architecture_that_needs_a_package_is_refused_from_its_config(tmp_path):
    if importlib.util.find_spec("timm"):
        pytest.skip("timm is installed")
    Gemma3nConfig().save_pretrained(tmp_path / "gemma3n")
    with pytest.raises(ModelUnavailable, match="timm"):
        catalog.refuse_if_too_large(catalog.find_entry(str(tmp_path / "gemma3n")), CPU)


def test_the_cache_of_keys_and_values_is_counted_from_the_layers(folders):
    """Two layers of two heads of 16 for keys and as much for values, two rows of 2,048 tokens, four bytes each."""
    estimate = catalog.estimate_memory(AutoConfig.from_pretrained(folders["llava"]), torch.float32)
    assert estimate.working - estimate.weights // 10 == 2 * 2048 * 2 * (2 * 16 + 2 * 16) * 4


def test_missing_weights_are_refused(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["llava"], tmp_path / "llava")
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if "up_proj" in name)]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match="lacks 1 of its weights"):
        LocalModel.load(str(folder))
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        LocalModel.load(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        LocalModel.load(str(folder))


def test_a_model_of_the_hub_loads_from_its_copy_here_and_is_named_by_its_commit(
    folders, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--someone--tiny-llava"
    snapshot = shutil.copytree(folders["llava"], repository / "snapshots" / COMMIT)
    (snapshot / "README.md").write_text("---\nlicense: mit\n---\n")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    model = load_model("someone/tiny-llava")
    assert model.identity.base == f"someone/tiny-llava@{COMMIT}"
    assert (model.entry.licence, model.entry.revision) == ("mit", COMMIT)
    assert generate(model, [Row(None, one_turn(pictures[0]))])[0].text
    adapter = tmp_path / "models--someone--adapter"
    snapshot = shutil.copytree(folders["llava-adapter"], adapter / "snapshots" / COMMIT)
    (adapter / "refs").mkdir()
    (adapter / "refs" / "main").write_text(COMMIT)
    assert catalog.local_adapter("someone/adapter") == snapshot
    assert model.attach("someone/adapter").startswith("someone/adapter@")
    model.unload()
    with pytest.raises(ModelUnavailable, match="no copy on this machine"):
        load_model("someone/other-model")


def test_adapters_are_looked_for_here_without_the_network_and_fetched_when_wanted(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there

    def no_network(*_, **__):
        raise AssertionError("the network was asked")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        assert catalog.local_adapter("someone/adapter") is None
        assert catalog.local_adapter(str(folders["llava-adapter"])) == folders["llava-adapter"]
        with pytest.raises(ModelUnavailable, match="no adapter"):
            catalog.local_adapter("/no/such/folder")
    with pytest.raises(ModelUnavailable) as refusal:
        catalog.adapter_folder("someone/adapter")
    assert "'someone/adapter' cannot be fetched" in refusal.value.what
    assert refusal.value.why and refusal.value.fix
    # A copy that a broken download left half is none.
    half = tmp_path / "cache" / "models--someone--adapter" / "snapshots" / COMMIT
    half.mkdir(parents=True)
    shutil.copy(folders["llava-adapter"] / "adapter_config.json", half)
    (half.parents[1] / "refs").mkdir()
    (half.parents[1] / "refs" / "main").write_text(COMMIT)
    assert catalog.local_adapter("someone/adapter") is None


def test_the_notice_of_the_demo_counts_what_it_knows():
    entry = catalog.find_entry("demo")
    assert entry.notice == f"Knows {len(CLASSES)} objects in drawn scenes; pick a real model for photos."


def test_a_model_says_whether_it_takes_several_images(loaded):
    assert all(model.takes_several_images for model, _ in loaded.values())
    demo = load_model("demo")
    assert not demo.takes_several_images, "it was never shown two"
    demo.unload()


def test_what_torch_keeps_and_what_a_container_may_forget_counts_as_free(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert catalog.available_memory(torch.device("cuda")) == 1300
    monkeypatch.setattr(catalog, "CONTAINER", tmp_path)
    for name, text in (("max", "5000\n"), ("current", "4000\n"), ("stat", "anon 1000\ninactive_file 2500\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert catalog.available_memory(CPU) == 3500
