"""Checkpoints of the original LLaVA code, converted: the same logits, and pictures prepared as the original does."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from rlhfv.cli import main
from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.errors import ModelUnavailable
from rlhfv.models.llava_layout import convert_llava, converted_copy
from rlhfv.models.local import Row, answer_both, load_model
from rlhfv.models.processors import load_processor
from rlhfv.models.prompts import encode_prompt
from tests.models.tiny import build_llava, build_tokenizer

QUESTION = "what is on the table?"


def vicuna_like(folder, special, **tokens):
    """Image token and padding stand behind the words, as in llava-1.5-7b-hf."""
    build_tokenizer(folder, special[:2], bos_token="<s>", eos_token="</s>")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="module")
def like(tmp_path_factory):
    return build_llava(tmp_path_factory.mktemp("models") / "like", tokenizer=vicuna_like, image_size=56)


ORIGINAL = (
    ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ("model.language_model.", "model."),
)


def write_original(like, folder, tower: bool = True, pickled: bool = False, **fields):
    """The same weights as the original code saves them: its names, no row for image token and padding, two files."""
    model = AutoModelForImageTextToText.from_pretrained(like)
    text, words = model.config.text_config, model.config.image_token_id - 1
    weights = {}
    for name, value in model.state_dict().items():
        for new, old in ORIGINAL:
            if name.startswith(new):
                name = old + name.removeprefix(new)
                break
        if "embed_tokens" in name or "lm_head" in name:
            value = value[:words]
        if tower or "vision_tower" not in name:
            weights[name] = value.clone()
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    folder.mkdir()
    names = sorted(weights)
    for number, part in enumerate((names[:20], names[20:]), 1):
        kept = {name: weights[name] for name in part}
        if pickled:
            torch.save(kept, folder / f"pytorch_model-{number:05}-of-00002.bin")
        else:
            save_file(kept, folder / f"model-{number:05}-of-00002.safetensors")
    config = {
        "model_type": "llava_llama",
        "hidden_size": text.hidden_size,
        "num_hidden_layers": text.num_hidden_layers,
        "num_attention_heads": text.num_attention_heads,
        "intermediate_size": text.intermediate_size,
        "vocab_size": words,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "image_aspect_ratio": "pad",
        **fields,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nlicense: llama2\n---\n")
    return folder


def logits(folder, prompt_from, picture):
    """Of a prompt with a picture, prepared by the processor of `prompt_from`."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    inputs = encode_prompt(load_processor(prompt_from), Prompt(QUESTION, (picture.name,)), lambda name: picture)
    with torch.no_grad():
        return model(**inputs).logits


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "wide.png"
    Image.linear_gradient("L").resize((90, 40)).convert("RGB").save(path)
    return path


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "bin"])
def test_a_converted_model_says_what_one_built_directly_says(like, tmp_path, picture, pickled):
    source = write_original(like, tmp_path / "original", pickled=pickled)
    convert_llava(source, like, tmp_path / "converted")
    words = json.loads((source / "config.json").read_text())["vocab_size"]
    ours, direct = (logits(folder, like, picture) for folder in (tmp_path / "converted", like))
    torch.testing.assert_close(ours[..., :words], direct[..., :words], atol=1e-5, rtol=0)
    assert (ours.argmax(-1) < words).all()
    assert "llama2" in (tmp_path / "converted" / "README.md").read_text()


def test_a_tower_that_is_only_named_comes_from_its_own_checkpoint(like, tmp_path, picture):
    tower = tmp_path / "clip"
    tower.mkdir()
    weights = AutoModelForImageTextToText.from_pretrained(like).model.vision_tower.state_dict()
    kept = {f"vision_model.{name}": value.clone() for name, value in weights.items()}
    save_file(kept | {"text_model.embeddings.token_embedding.weight": torch.ones(2, 2)}, tower / "model.safetensors")
    source = write_original(like, tmp_path / "original", tower=False, mm_vision_tower=str(tower))
    convert_llava(source, like, tmp_path / "converted")
    words = json.loads((source / "config.json").read_text())["vocab_size"]
    ours, direct = (logits(folder, like, picture)[..., :words] for folder in (tmp_path / "converted", like))
    torch.testing.assert_close(ours, direct, atol=1e-5, rtol=0)


def pad_by_hand(picture, processor):
    """expand2square of the original, then CLIP's own steps."""
    image, side = Image.open(picture).convert("RGB"), processor.crop_size["height"]
    square = Image.new("RGB", (max(image.size),) * 2, tuple(int(value * 255) for value in processor.image_mean))
    square.paste(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))
    pixels = np.asarray(square.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    return torch.from_numpy((pixels - processor.image_mean) / processor.image_std).permute(2, 0, 1).float()


def test_pictures_are_padded_where_the_original_was_trained_so(like, tmp_path, picture):
    for ratio in ("pad", "square"):
        source = write_original(like, tmp_path / ratio, image_aspect_ratio=ratio)
        convert_llava(source, like, tmp_path / f"{ratio} converted")
        processor = load_processor(tmp_path / f"{ratio} converted").image_processor
        pixels = processor(images=Image.open(picture).convert("RGB"), return_tensors="pt")["pixel_values"][0]
        padded = pad_by_hand(picture, processor)
        assert pixels.shape == padded.shape
        assert (float((pixels - padded).abs().max()) < 0.02) == (ratio == "pad")


def test_what_is_no_such_checkpoint_is_refused_and_nothing_is_left(like, tmp_path):
    cases = {
        "of the original LLaVA code": (like, like),
        "kind 'linear'": (write_original(like, tmp_path / "linear", mm_projector_type="linear"), like),
        "another num_hidden_layers": (write_original(like, tmp_path / "deep", num_hidden_layers=40), like),
        "another vocab_size": (write_original(like, tmp_path / "wide", vocab_size=99999), like),
    }
    missing = write_original(like, tmp_path / "missing")
    (missing / "model-00002-of-00002.safetensors").unlink()
    cases["weights are missing"] = (missing, like)
    foreign = write_original(like, tmp_path / "foreign")
    path = foreign / "model-00001-of-00002.safetensors"
    save_file(load_file(path) | {"model.region_encoder.weight": torch.ones(2)}, path)
    cases["1 have no place"] = (foreign, like)
    cut = write_original(like, tmp_path / "cut")
    path = cut / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    cases["safetensors' cannot be read"] = (cut, like)
    hostile = write_original(like, tmp_path / "hostile", pickled=True)
    (hostile / "pytorch_model-00001-of-00002.bin").write_bytes(pickle.dumps(print))
    cases["bin' cannot be read"] = (hostile, like)
    for words, (source, shape) in cases.items():
        with pytest.raises(ModelUnavailable, match=words):
            convert_llava(source, shape, tmp_path / "target")
        assert not [path for path in tmp_path.iterdir() if "target" in path.name]
    shutil.copytree(like, tmp_path / "target")
    with pytest.raises(ModelUnavailable, match="exists already"):
        convert_llava(foreign, like, tmp_path / "target")


def test_the_command_makes_a_model_that_answers(like, tmp_path, picture, capsys):
    source = write_original(like, tmp_path / "original")
    assert main(["convert", str(source), str(tmp_path / "made"), "--like", str(like)]) == 0
    assert f"--model {tmp_path / 'made'}" in capsys.readouterr().out
    model = load_model(str(tmp_path / "made"))
    try:
        rows = [Row(None, Prompt(QUESTION, (str(picture),)))]
        *_, (text,) = answer_both(model, rows, Sampling(max_new_tokens=8))
        assert text.strip()
    finally:
        model.unload()


def test_the_copy_lies_in_the_cache_and_another_process_may_be_first(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def too_late(source, like, target):
        target.mkdir(parents=True)
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr("rlhfv.models.llava_layout.convert_llava", too_late)
    copy = converted_copy("a/b", Path("snapshots/c1"), Path("like"))
    assert copy == tmp_path / "hub" / "converted" / "a--b" / "c1" and copy.is_dir()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlhfv.models.llava_layout.convert_llava", full)
    with pytest.raises(ModelUnavailable, match="cannot be laid out") as refusal:
        converted_copy("a/b", Path("snapshots/c2"), Path("like"))
    assert "No space left" in refusal.value.why and refusal.value.fix
