import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlhfv.errors import GenerationFailed, ModelUnavailable
from rlhfv.models.local import Row, load_model
from tests.models.conftest import GREEDY, generate, one_turn
from tests.models.tiny import add_random_adapter, build_llava

V4_LLAVA = {"model.language_model.": "language_model.model."}
ORIGINAL_LLAVA = {"model.language_model.": "model."}


@pytest.fixture
def model(folders):
    model = load_model(str(folders["llava"]))
    yield model
    model.unload()


@pytest.fixture
def adapter(folders, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(folders["llava-adapter"], tmp_path / "adapter")


def change_weights(folder, change):
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(change(weights), folder / "adapter_model.safetensors")


def change_config(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def rename_keys(weights, names):
    renamed = {}
    for key, value in weights.items():
        for old, new in names.items():
            key = key.replace(old, new)
        renamed[key] = value
    return renamed


def logits(model, pictures, voice):
    answer = generate(model, [Row(voice, one_turn(pictures[0]))])
    return answer[0].tokens


def assert_refused_and_unchanged(model, adapter, pictures, match):
    """The refusal names the reason, and the model is the plain base again, module for module."""
    before, modules = logits(model, pictures, None), [name for name, _ in model.model.named_modules()]
    with pytest.raises(ModelUnavailable, match=match) as refusal:
        model.attach(adapter)
    assert model.adapters() == {}
    assert [name for name, _ in model.model.named_modules()] == modules
    assert logits(model, pictures, None) == before
    return refusal.value


def test_attached_twice_it_is_there_once_and_detached_the_base_is_plain(model, adapter, pictures):
    before, modules = logits(model, pictures, None), [name for name, _ in model.model.named_modules()]
    identity = model.attach(adapter)
    assert model.attach(adapter) == identity
    assert list(model.adapters()) == [identity]
    info = model.adapters()[identity]
    assert (info.mixes, info.touches_vision, info.changes_nothing, info.notice) == (True, False, False, "")
    assert logits(model, pictures, identity) != before
    assert logits(model, pictures, None) == before
    model.detach(identity)
    assert [name for name, _ in model.model.named_modules()] == modules
    assert logits(model, pictures, None) == before


def test_two_adapters_side_by_side(model, folders, pictures, tmp_path):
    first = model.attach(folders["llava-adapter"])
    second = model.attach(add_random_adapter(folders["llava"], tmp_path / "second", seed=2))
    prompt = one_turn(pictures[0])
    both = generate(model, [Row(second, prompt), Row(first, prompt)])
    assert both[0].row_layout == (second, first)
    assert both[0].tokens == logits(model, pictures, second)
    assert both[1].tokens == logits(model, pictures, first)
    model.detach(first)
    assert logits(model, pictures, second) == both[0].tokens


def test_missing_keys_are_refused_and_named(model, adapter, pictures):
    lost = []

    def drop(weights):
        lost.extend(sorted(weights)[:1])
        return {key: value for key, value in weights.items() if key not in lost}

    change_weights(adapter, drop)
    refusal = assert_refused_and_unchanged(model, adapter, pictures, "key for key")
    assert "1 missing" in refusal.why
    assert lost[0].split(".lora_")[0] in refusal.why


def test_unknown_keys_are_refused_and_named(model, adapter, pictures):
    change_weights(adapter, lambda weights: rename_keys(weights, {"layers.1.": "layers.9."}))
    refusal = assert_refused_and_unchanged(model, adapter, pictures, "modules that this model does not have")
    assert "layers.9" in refusal.why


def test_unexpected_keys_are_refused_and_named(model, adapter, pictures):
    """Weights for a module that exists, which the settings do not name."""
    extra = "base_model.model.lm_head.lora_A.weight"
    change_weights(adapter, lambda weights: weights | {extra: torch.zeros(4, 64)})
    refusal = assert_refused_and_unchanged(model, adapter, pictures, "key for key")
    assert "1 unexpected: base_model.model.lm_head.lora_A" in refusal.why


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_weights_that_are_cut_short_are_refused(model, adapter, pictures, name):
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / name).write_bytes(weights[:2000])
    assert_refused_and_unchanged(model, adapter, pictures, "weights of the adapter 'adapter' cannot be read")


def test_other_shapes_are_refused(model, folders, pictures, tmp_path):
    wide = build_llava(tmp_path / "wide", hidden_size=96, intermediate_size=128)
    adapter = add_random_adapter(wide, tmp_path / "adapter")
    change_config(adapter, base_model_name_or_path=None)
    assert_refused_and_unchanged(model, adapter, pictures, "does not fit this model")


def test_a_second_adapter_that_is_refused_leaves_the_first(model, folders, adapter, pictures):
    first = model.attach(folders["llava-adapter"])
    before = logits(model, pictures, first)
    change_weights(adapter, lambda weights: dict(sorted(weights.items())[1:]))
    with pytest.raises(ModelUnavailable, match="key for key"):
        model.attach(adapter)
    assert list(model.adapters()) == [first]
    assert logits(model, pictures, first) == before


@pytest.mark.parametrize(
    ("base", "fits"),
    [
        ({"name": "llava", "revision": "same"}, True),
        ({"name": "renamed", "revision": "same"}, True),
        ({"name": "llava", "revision": "f" * 64}, False),
        ({"name": "someone/llava", "revision": "c" * 40}, True),
        ({"name": "someone/other", "revision": "c" * 40}, False),
    ],
)
def test_the_card_of_a_run_names_its_base(model, adapter, pictures, base, fits):
    base = base | {"revision": model.identity.revision if base["revision"] == "same" else base["revision"]}
    (adapter / "rlhfv.json").write_text(json.dumps({"base": base, "recipe": "demo", "run": "run-1"}))
    if fits:
        identity = model.attach(adapter)
        assert identity.startswith("run-1@")
        assert model.adapters()[identity].card["recipe"] == "demo"
    else:
        assert_refused_and_unchanged(model, adapter, pictures, "was trained on")


def test_the_folder_it_was_trained_on_is_compared(model, folders, pictures, tmp_path):
    other = build_llava(tmp_path / "other", seed=5)
    adapter = add_random_adapter(other, tmp_path / "adapter")
    assert_refused_and_unchanged(model, adapter, pictures, "was trained on other@")


def test_hub_ids_are_compared(model, adapter, pictures):
    from dataclasses import replace

    model.identity = replace(model.identity, name="llava-hf/llava-1.5-7b-hf", revision="c" * 40)
    change_config(adapter, base_model_name_or_path="Qwen/Qwen2.5-VL-3B-Instruct")
    assert_refused_and_unchanged(model, adapter, pictures, "was trained on Qwen/Qwen2.5-VL-3B-Instruct")
    change_config(adapter, base_model_name_or_path="llava-hf/llava-1.5-7b-hf")
    assert model.attach(adapter)


@pytest.mark.parametrize("names", [ORIGINAL_LLAVA, V4_LLAVA], ids=["original LLaVA", "transformers 4"])
def test_keys_of_other_layouts_are_mapped(model, folders, adapter, pictures, names):
    """Loaded as they are they would change nothing; mapped they are the same adapter."""
    expected = logits(model, pictures, model.attach(folders["llava-adapter"]))
    change_weights(adapter, lambda weights: rename_keys(weights, names))
    change_config(
        adapter,
        base_model_name_or_path="liuhaotian/llava-v1.5-7b",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )
    identity = model.attach(adapter)
    assert not model.adapters()[identity].touches_vision
    assert not model.adapters()[identity].changes_nothing
    assert logits(model, pictures, identity) == expected


def test_without_the_mapping_original_keys_would_do_nothing(folders, adapter, pictures):
    """What PEFT does with them: a warning at most, and the base unchanged. This is why keys are checked."""
    from peft import PeftModel

    model = load_model(str(folders["llava"]))
    before = logits(model, pictures, None)
    change_weights(adapter, lambda weights: rename_keys(weights, ORIGINAL_LLAVA))
    with pytest.warns(UserWarning):
        PeftModel.from_pretrained(model.model, adapter)
    assert logits(model, pictures, None) == before
    model.unload()


def test_an_adapter_without_effect_is_told(model, folders, pictures, tmp_path):
    identity = model.attach(add_random_adapter(folders["llava"], tmp_path / "nothing", scale=0.0))
    info = model.adapters()[identity]
    assert info.changes_nothing
    assert info.notice == "this adapter changes nothing"
    prompt = one_turn(pictures[0])
    base, same = generate(model, [Row(None, prompt), Row(identity, prompt)])
    assert base.tokens == same.tokens


def test_an_adapter_of_the_tower_alone_does_change_something(model, folders, pictures, tmp_path):
    identity = model.attach(
        add_random_adapter(folders["llava"], tmp_path / "tower", scale=0.5, target_modules=r".*vision_tower.*_proj")
    )
    info = model.adapters()[identity]
    assert (info.changes_nothing, info.touches_vision, info.mixes) == (False, True, False)


@pytest.mark.parametrize(
    "settings",
    [
        {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 4},
        {"peft_type": "LOHA", "r": 4, "target_modules": ["q_proj"]},
        {"peft_type": "IA3", "target_modules": ["k_proj"], "feedforward_modules": []},
    ],
    ids=lambda settings: settings["peft_type"],
)
def test_other_kinds_than_lora_are_refused_as_what_they_are(model, adapter, pictures, settings):
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    refusal = assert_refused_and_unchanged(model, adapter, pictures, settings["peft_type"])
    assert "LoRA" in refusal.fix


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_adapters_that_would_change_the_baseline_are_refused(model, folders, pictures, tmp_path, start):
    """PEFT takes the start of such an adapter out of the base's own weights, also when it loads one."""
    adapter = add_random_adapter(folders["llava"], tmp_path / "adapter", init_lora_weights=start)
    refusal = assert_refused_and_unchanged(model, adapter, pictures, start)
    assert "the baseline" in refusal.why


def test_an_adapter_that_leaves_a_part_outside_is_refused(model, adapter, pictures):
    """Original LLaVA keeps a trained projector beside the LoRA, where PEFT does not look."""
    torch.save({}, adapter / "non_lora_trainables.bin")
    refusal = assert_refused_and_unchanged(model, adapter, pictures, "non_lora_trainables.bin")
    assert "less than it says" in refusal.why


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"text"',
        '{"peft_type": "LORA", "r": 0, "target_modules": ["q_proj"]}',
        '{"peft_type": "LORA", "r": 4, "target_modules": 5}',
        '{"peft_type": "LORA", "r": 4, "lora_alpha": "much", "target_modules": ["q_proj"]}',
        '{"peft_type": "NEW", "r": 4}',
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["alone", "beside another"])
def test_damaged_settings_are_refused(model, folders, adapter, pictures, text, first):
    if not first:
        model.attach(folders["llava-adapter"])
    before = {voice: logits(model, pictures, voice) for voice in (None, *model.adapters())}
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(ModelUnavailable) as refusal:
        model.attach(adapter)
    assert refusal.value.why and refusal.value.fix
    assert {voice: logits(model, pictures, voice) for voice in (None, *model.adapters())} == before


def test_the_same_weights_under_two_names_are_two_adapters(model, adapter, pictures):
    first, second = model.attach(adapter, "first"), model.attach(adapter, "second")
    assert first != second
    expected = logits(model, pictures, first)
    assert logits(model, pictures, second) == expected
    model.detach(first)
    assert logits(model, pictures, second) == expected
    model.detach(second)
    assert not [name for name, _ in model.model.named_modules() if "lora" in name]


def test_a_model_that_fails_while_an_adapter_is_tried_is_as_before(model, adapter, pictures):
    before = logits(model, pictures, None)

    def explode(*_):
        raise RuntimeError("a layer broke")

    handle = model.model.get_decoder().layers[-1].register_forward_hook(explode)
    with pytest.raises(GenerationFailed, match="a layer broke"):
        model.attach(adapter)
    handle.remove()
    assert model.adapters() == {}
    assert logits(model, pictures, None) == before
    assert logits(model, pictures, model.attach(adapter)) != before


def test_a_name_that_is_no_adapter_is_refused(model, folders):
    with pytest.raises(ModelUnavailable, match="no adapter"):
        model.attach("/no/such/folder")
    with pytest.raises(ModelUnavailable, match="holds no adapter"):
        model.attach(folders["llava"])


def test_an_adapter_that_is_not_attached_cannot_answer(model, pictures):
    with pytest.raises(ModelUnavailable, match="not attached"):
        generate(model, [Row("nobody@123", one_turn(pictures[0]))], GREEDY)
