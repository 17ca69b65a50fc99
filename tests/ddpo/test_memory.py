"""The levers on memory: layers computed again, a base of 4 bits, adapters of float32 that keep no copies, and what was
estimated beside what was measured."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file

from benchmarks import counted
from benchmarks.counted import LiveBytes, Shape
from rlhfv.ddpo import attempt
from rlhfv.ddpo.base import load_base, make_trainable
from rlhfv.ddpo.batches import PairEncoder
from rlhfv.ddpo.check import check_run
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.ddpo.cost import count_cost
from rlhfv.ddpo.outcome import describe_outcome, earlier_seconds, find_estimate, own_peak
from rlhfv.ddpo.packing import PackedCollator
from rlhfv.ddpo.reference import ReferenceCache, StaleReference, describe_setting
from rlhfv.ddpo.scoring import score_at_sites
from rlhfv.ddpo.train import train
from rlhfv.ddpo.trainer import used_memory
from rlhfv.ddpo.vision import ImageInputs, _image_parameters
from rlhfv.ddpo.watch import to_device
from rlhfv.errors import InvalidData, ModelUnavailable
from rlhfv.models.catalog import fetch_config, find_entry
from rlhfv.models.prompts import encode_prompt
from rlhfv.models.quantised import refuse_four_bit_without_its_library
from rlhfv.run_folder import RunFolder
from tests.ddpo.conftest import SHORT
from tests.ddpo.second_device import DEVICE, bytes_there, move, second_device
from tests.models.tiny import BUILDERS, build_llava, build_smolvlm

pytestmark = pytest.mark.usefixtures("few_looks")
DIAL = (0, 4, 2, 1)
"""From none of the layers computed again to all of them."""


def events(folder):
    return RunFolder(folder).read_events()[0]


# ---- layers that are computed again


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A LLaVA of eight layers."""
    return build_llava(tmp_path_factory.mktemp("deep") / "base", num_hidden_layers=8)


def step_of(folder, config, seed=0):
    """Loss and gradients of one step on random tokens behind a picture that goes through the tower."""
    return step_on(load_base(find_entry(str(folder)), config), config, seed)


def step_on(base, config, seed=0):
    score_at_sites(base.model)
    model = make_trainable(base, config).train()
    torch.manual_seed(seed)
    ids = torch.randint(4, 300, (2, 40))
    ids[:, :4] = base.model.config.image_token_id
    sites = torch.arange(2).repeat_interleave(30), torch.arange(8, 38).repeat(2), torch.randint(4, 300, (60,))
    loss = -model(input_ids=ids, pixel_values=torch.randn(2, 3, 28, 28), answer_sites=sites).mean()
    loss.backward()
    return (
        base.model,
        loss.item(),
        {name: value.grad for name, value in model.named_parameters() if value.grad is not None},
    )


@pytest.mark.parametrize("full", [False, True], ids=["adapter", "full"])
def test_no_setting_of_the_dial_changes_loss_or_gradients(deep, full):
    config = SHORT.changed(full_tuning=full)
    _, loss, gradients = step_of(deep, config)
    for every in DIAL[1:]:
        model, other, found = step_of(deep, config.changed(gradient_checkpointing=every))
        assert other == pytest.approx(loss, abs=1e-7)
        assert found.keys() == gradients.keys()
        assert all(torch.allclose(found[name], gradients[name], rtol=1e-5, atol=1e-8) for name in found)
        again = [layer.gradient_checkpointing for layer in model.get_decoder().layers]
        assert sum(again) == 8 // every


def test_no_gradient_reaches_a_frozen_tower(deep):
    def reached(module, inputs, output):
        if output.requires_grad:
            found.append(module)

    for every in DIAL:
        found = []
        config = SHORT.changed(gradient_checkpointing=every)
        base = load_base(find_entry(str(deep)), config)
        model = make_trainable(base, config).train()
        tower = base.model.model.vision_tower
        for module in (tower.embeddings.patch_embedding, base.model.get_input_embeddings()):
            module.register_forward_hook(reached)
        ids = torch.full((1, 12), base.model.config.image_token_id)
        ids[:, 4:] = 20
        model(input_ids=ids, pixel_values=torch.randn(1, 3, 28, 28)).logits.sum().backward()
        assert found == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_live_bytes_fall_along_the_dial_and_so_does_the_estimate():
    shape = Shape("deep", 64, 172, 4, 4, 512, counted.SMALL_TOWER | {"num_hidden_layers": 1}, False, 1.0)
    live = [counted.count_ours(shape, 4, every, 1)["step"].bytes for every in DIAL]
    assert live[0] > 1.1 * live[1] > 1.21 * live[2] > 1.33 * live[3]
    config = counted.LlavaConfig(
        vision_config=counted.CLIPVisionConfig(**counted.SMALL_TOWER),
        text_config=counted.LlamaConfig(
            hidden_size=64, intermediate_size=172, num_hidden_layers=4, num_attention_heads=4, vocab_size=512
        ),
    )
    tokens = counted.IMAGE + counted.PROMPT + counted.CHOSEN + counted.REJECTED - counted.CHOSEN // 3
    for every, counted_bytes in zip(DIAL, live, strict=True):
        cost = count_cost(config, TrainingConfig(gradient_checkpointing=every), False, on_gpu=True)
        assert 0.6 < tokens * cost.per_token / counted_bytes < 1.4


def test_runs_of_before_the_dial_are_read():
    for said, meant in ((True, 1), (False, 0), (4, 4)):
        assert TrainingConfig.from_dict(
            {"recipe": "paper", "gradient_checkpointing": said}
        ).gradient_checkpointing == (meant)
    with pytest.raises(InvalidData, match="lies between 0"):
        TrainingConfig(gradient_checkpointing=-1)


# ---- adapters


def test_adapters_stay_float32_and_keep_no_float32_copy_of_their_inputs(deep):
    """In bfloat16 PEFT's own cast would keep one for each of seven adapters a layer."""
    config, peaks = SHORT.changed(precision="bfloat16"), {}
    for cast in (False, True):
        base = load_base(find_entry(str(deep)), config)
        score_at_sites(base.model)
        model = make_trainable(base, config).train()
        layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
        assert layers and not any(layer.cast_input_dtype_enabled for layer in layers)
        for layer in layers:
            layer.cast_input_dtype_enabled = cast
        sites = torch.zeros(100, dtype=torch.long), torch.arange(100), torch.randint(4, 300, (100,))
        with LiveBytes() as live:
            with torch.autocast("cpu", torch.bfloat16):
                scores = model(input_ids=torch.randint(4, 300, (1, 400)), answer_sites=sites)
            scores.sum().backward()
        peaks[cast] = live.peak
        trained = [value for value in model.parameters() if value.requires_grad]
        assert {value.dtype for value in trained} == {value.grad.dtype for value in trained} == {torch.float32}
        assert base.model.dtype == torch.bfloat16
    assert peaks[False] < 0.85 * peaks[True]


# ---- a base of 4 bits


def test_what_cannot_hold_a_base_in_4_bits_is_refused_before_the_start(bases, find_image, pairs, monkeypatch):
    config = SHORT.changed(base_weights="4-bit")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    entry = find_entry(str(bases["llava"]))
    for refused in (lambda: check_run(pairs, config, entry, find_image), lambda: load_base(entry, config)):
        with pytest.raises(ModelUnavailable, match="bitsandbytes is not installed") as error:
            refused()
        assert error.value.why and "pip install bitsandbytes" in error.value.fix
    assert check_run(pairs, config, entry, find_image, here=False).usable == 12  # another machine may have it
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    with pytest.raises(ModelUnavailable, match="on mps"):
        refuse_four_bit_without_its_library(torch.device("mps"))
    with pytest.raises(InvalidData, match="Full tuning is asked for on a 4-bit base"):
        SHORT.changed(base_weights="4-bit", full_tuning=True)


def test_a_base_of_4_bits_is_estimated_smaller(deep):
    model_config = fetch_config(find_entry(str(deep)))
    full, four = (count_cost(model_config, TrainingConfig(base_weights=way), True) for way in ("full", "4-bit"))
    linear = 8 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    assert full.fixed - four.fixed == pytest.approx(linear * (2 - 0.516) - 64 * 128 * 2, abs=2)
    assert full.per_token == four.per_token


@pytest.mark.parametrize("build", [build_llava, build_smolvlm], ids=["llava", "smolvlm"])
def test_a_base_of_4_bits_trains_where_bitsandbytes_is_installed(build, images, pairs, tmp_path, find_image):
    layers = pytest.importorskip("bitsandbytes").nn
    config = SHORT.changed(base_weights="4-bit", epochs=4)
    entry = find_entry(str(build(tmp_path / "base")))
    base = load_base(entry, config)
    inside = {id(module) for module in base.model.get_decoder().modules()}
    for module in base.model.modules():
        if isinstance(module, torch.nn.Linear):
            assert isinstance(module, layers.Linear4bit) == (id(module) in inside)
    model = make_trainable(base, config)
    assert {value.dtype for value in model.parameters() if value.requires_grad} == {torch.float32}
    weights = [module.weight for module in base.model.modules() if isinstance(module, layers.Linear4bit)]
    assert {weight.quant_type for weight in weights} == {"nf4"} and all(
        weight.quant_state.nested for weight in weights
    )

    cache = ReferenceCache(tmp_path / "reference.safetensors", describe_setting(base))
    cache.save({"a": torch.zeros(1)})
    cache.setting = describe_setting(load_base(entry, SHORT))
    with pytest.raises(StaleReference, match="another weights"):
        cache.load()

    assert check_run(pairs, config, entry, find_image).usable == 12
    result = train(pairs, config, images=images, output=tmp_path / "run", model=str(tmp_path / "base"))
    losses = [event["loss"] for event in events(tmp_path / "run") if event["kind"] == "step" and "loss" in event]
    assert result.state == "done"
    assert losses[0] == pytest.approx(0.6931, abs=1e-3) and losses[-1] < 0.6
    learnt = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert any(value.abs().max() > 0 for name, value in learnt.items() if "lora_B" in name)


def test_gradients_through_4_bits_are_those_through_the_numbers_they_stand_for(deep):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    config, entry = SHORT.changed(base_weights="4-bit"), find_entry(str(deep))
    four, plain = load_base(entry, config), load_base(entry, SHORT)
    with torch.no_grad():
        four.model(input_ids=torch.full((1, 8), 20))  # as the check before a run does
        for name, module in four.model.named_modules():
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                numbers = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
                plain.model.get_submodule(name).weight.copy_(numbers)
    _, loss, gradients = step_on(four, config)
    _, expected, wanted = step_on(plain, SHORT)
    assert loss == pytest.approx(expected, abs=1e-4)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        assert (gradient - wanted[name]).norm() <= 1e-3 * wanted[name].norm(), name


# ---- what encodes images


@pytest.mark.parametrize("family", BUILDERS)
def test_a_tower_is_put_away_for_the_steps_and_comes_back_for_a_new_image(
    bases, find_image, pairs, monkeypatch, family
):
    base = load_base(find_entry(str(bases[family])), SHORT)
    score_at_sites(base.model)
    model = make_trainable(base, SHORT).train()
    images = ImageInputs(base.model, base.processor, find_image)
    encoder = PairEncoder(base.processor, find_image, SHORT, base.end_tokens, images.keep)
    used = [encoder.encode(pair) for pair in pairs[:3]]
    later = dataclasses.replace(used[0], conversation=pairs[7].prompt)
    collator = PackedCollator(0, images, base.model)
    tower = sum(value.nbytes for value in _image_parameters(base.model))

    def learn():
        batch = to_device(collator(used), base.model.get_input_embeddings().weight.device)
        places = [batch["sites"][name] for name in ("rows", "positions", "targets")]
        model(**batch["model"], answer_sites=places).sum().backward()
        learnt = [value for value in model.parameters() if value.requires_grad]
        return [value.grad.cpu() for value in learnt]

    expected = learn()
    model.zero_grad()
    images.put_away(used)
    assert images._home is None  # on a CPU nothing moves
    features = images([later])["mm_encoder_outputs"]["image"].pooler_output
    with second_device(monkeypatch):
        move(model)
        whole = bytes_there(model)
        images._kept.pop(images._key(later.conversation))
        images.put_away([*used, later])
        assert bytes_there(model) == whole  # one of them is still to be encoded
        images.put_away(used)
        assert bytes_there(model) == whole - tower
        for found, wanted in zip(learn(), expected, strict=True):
            assert (found - wanted).norm() <= 1e-4 * wanted.norm()  # other kernels run there
        assert bytes_there(model) == whole - tower
        if family == "qwen2_5_vl":
            return  # its tower reads sizes in ways that this device has not
        again = images([later])["mm_encoder_outputs"]["image"].pooler_output
        assert bytes_there(model) == whole
        images.put_away([*used, later])
        assert bytes_there(model) == whole - tower
        pixels = {
            name: value.to(DEVICE)
            for name, value in encode_prompt(base.processor, later.conversation, find_image).items()
            if name.startswith(("pixel_", "image_"))
        }
        images.base.get_image_features(**pixels)  # as a model that asks its tower in every step
        images.put_away([*used, later])
        assert bytes_there(model) == whole
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(features, again, strict=True))


# ---- estimated and measured


def test_a_run_tells_what_was_estimated_and_what_it_took(bases, images, pairs, tmp_path, find_image):
    result = train(pairs, SHORT, images=images, output=tmp_path / "run", model=str(bases["llava"]))
    report = check_run(pairs, SHORT, find_entry(str(bases["llava"])), find_image)
    results, figures = RunFolder(tmp_path / "run").read_results(), result.figures
    estimate = find_estimate(events(tmp_path / "run"))
    assert figures["estimated_memory"] == estimate["memory"] == pytest.approx(report.memory, rel=0.02)
    assert figures["estimated_seconds"] == pytest.approx(estimate["seconds"], abs=0.1)
    assert estimate["seconds"] == pytest.approx(report.seconds, rel=0.5)
    assert figures["memory"] <= used_memory()
    assert figures["seconds"] > 0
    text = describe_outcome(results)
    assert f"{figures['memory'] / 1e9:.2f} GB at the peak of the process, libraries included" in text
    assert f"{figures['estimated_memory'] / 1e9:.2f} GB" in text
    card = (tmp_path / "run" / "adapter" / "README.md").read_text()
    assert f"| estimated_memory | {figures['estimated_memory'] / 1e9:.2f} GB |" in card


def test_an_estimate_that_was_far_off_is_called_so():
    figures = {"seconds": 300.0, "memory": 9e9, "estimated_seconds": 100.0, "estimated_memory": 20e9}
    text = describe_outcome({"figures": figures, "on_gpu": True})
    assert text == (
        "It took 5 min, and 9.00 GB at the peak of one GPU; estimated were 100 s and 20.00 GB. The estimate was far "
        "off: the time came out 3.0 times as much and the memory came out 2.2 times less."
    )
    near = describe_outcome({"figures": figures | {"seconds": 150.0, "memory": 11e9}})
    assert "far off" not in near
    assert describe_outcome({"figures": {"seconds": 5.0}}) == describe_outcome(None) == ""


def test_the_time_of_earlier_attempts_counts_without_the_pause_between_them():
    def event(minute, kind="log", **fields):
        return {"time": f"2026-01-01T00:{minute:02}:00.000+00:00", "kind": kind, **fields}

    first = [event(0, "state", state="starting"), event(1), event(5, "step"), event(9, "error")]
    second = [event(30, "state", state="starting"), event(31, "step")]
    assert earlier_seconds(first) == 0
    assert earlier_seconds([*first, *second]) == 300
    assert earlier_seconds([*first, *second, event(50, "state", state="starting"), event(51)]) == 360


def test_the_peak_is_the_process_own_and_not_that_of_the_one_that_started_it():
    code = "from rlhfv.ddpo.outcome import own_peak; print(own_peak())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert own_peak() > 300e6  # as a studio with the chat's model
    assert int(found.stdout) < 100e6


def test_where_packing_is_refused_fewer_pairs_go_at_once(bases, images, pairs, tmp_path, monkeypatch):
    asked, count = [], attempt.pairs_at_once

    def room_for_two_packed_pairs(share, tokens, cost, free):
        asked.append(tokens)
        return count(share, tokens, cost, cost.memory(2 * asked[0]) / 0.75 + 10)

    monkeypatch.setattr(attempt, "pairs_at_once", room_for_two_packed_pairs)
    monkeypatch.setattr(attempt, "compare_packed", lambda *_: "they differ")
    train(pairs[:8], SHORT, images=images, output=tmp_path / "run", model=str(bases["llava"]))
    assert len(asked) == 2 and asked[0] < asked[1]
    steps = [event for event in events(tmp_path / "run") if event["kind"] == "step" and "loss" in event]
    assert len(steps) == steps[-1]["total_steps"] == 6
