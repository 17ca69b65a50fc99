"""Models with a short name: what an entry says, how pictures are prepared, what a converted checkpoint becomes."""

import json
import shutil
from dataclasses import replace

import huggingface_hub.constants
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, CLIPVisionConfig, LlamaConfig, LlavaConfig

from rlhfv.cli import main
from rlhfv.errors import ModelUnavailable
from rlhfv.models import catalog
from rlhfv.models.known import KNOWN, find_known
from rlhfv.models.llava_layout import pad_pictures
from rlhfv.models.local import LocalModel, Row
from rlhfv.models.processors import load_processor, pads_to_square
from rlhfv.models.quantised import estimate_four_bit, four_bit_chat, refuse_four_bit_if_too_large
from tests.models.conftest import generate, one_turn
from tests.models.test_llava_layout import vicuna_like, write_original
from tests.models.tiny import build_llava

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_every_entry_says_all_that_a_visitor_has_to_know():
    names = [one.name for one in KNOWN]
    assert len(set(names)) == len(names) == 10
    for one in KNOWN:
        assert one.title and one.licence and one.makers.endswith(".") and 0.1 < one.billions < 20
        assert catalog.HUB_ID.fullmatch(one.source) and "/" in one.source and "/" not in one.name
        assert 16 <= one.decoding.max_new_tokens <= 1024 and one.decoding.temperature == 0
        assert one.aligned is None or (catalog.HUB_ID.fullmatch(one.aligned[0]) and one.aligned[2])
        assert not one.beside or one.beside in names
    assert find_known("smolvlm").aligned is None and not find_known("smolvlm").beside
    assert find_known("llava-1.5-7b").square and find_known("rlaif-v-7b").square, "the comparison has to be fair"


def test_a_short_name_gives_base_and_aligned_adapter_and_a_hub_id_the_base_alone():
    entry = catalog.find_entry("qwen2-vl-2b")
    assert (entry.id, entry.source, entry.licence) == (*["Qwen/Qwen2-VL-2B-Instruct"] * 2, "apache-2.0")
    assert [adapter.source for adapter in entry.adapters] == ["psp-dada/Qwen2-VL-2B-Instruct-SENTINEL"]
    plain = catalog.find_entry("Qwen/Qwen2-VL-2B-Instruct", COMMIT)
    assert (plain.id, plain.adapters, plain.revision) == (entry.id, (), COMMIT)
    assert plain.known is entry.known, "what is known of it does not depend on how it was named"
    assert catalog.find_entry("llava-1.5-7b").beside == "rlaif-v-7b"
    assert catalog.find_entry("llava-hf/llava-1.5-7b-hf").beside == ""
    assert catalog.find_entry("llava-hf/llava-1.5-7b-hf").square


def test_a_folder_of_that_name_is_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build_llava(tmp_path / "smolvlm")
    assert catalog.find_entry("smolvlm").is_local


def test_pictures_of_a_square_entry_are_padded_as_in_a_folder_that_says_so(tmp_path):
    plain = build_llava(tmp_path / "plain", image_size=56)
    saved = shutil.copytree(plain, tmp_path / "saved")
    pad_pictures(saved)
    picture = Image.linear_gradient("L").resize((90, 40)).convert("RGB")
    pixels = [
        processor.image_processor(images=picture, return_tensors="pt")["pixel_values"]
        for processor in (load_processor(plain), load_processor(plain, square=True), load_processor(saved))
    ]
    assert torch.equal(pixels[1], pixels[2]) and not torch.equal(pixels[0], pixels[1])
    assert not pads_to_square(load_processor(plain)) and pads_to_square(load_processor(saved))


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """Puts a folder into the Hub's cache as the only commit of a repository; nothing is asked of the network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def keep(name: str, folder) -> None:
        repository = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, repository / "snapshots" / COMMIT)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)

    return keep


def test_an_original_checkpoint_is_converted_once_and_stands_beside_its_base_with_the_same_pictures(
    hub_cache, tmp_path, pictures
):
    like = build_llava(tmp_path / "like", tokenizer=vicuna_like, image_size=56)
    hub_cache("llava-hf/llava-1.5-7b-hf", like)
    hub_cache("openbmb/RLAIF-V-7B", write_original(like, tmp_path / "original"))
    base, aligned = (LocalModel.load(catalog.find_entry(name)) for name in ("llava-1.5-7b", "rlaif-v-7b"))
    assert aligned.identity.base == f"openbmb/RLAIF-V-7B@{COMMIT}"
    assert aligned.folder == tmp_path / "hub" / "converted" / "openbmb--RLAIF-V-7B" / COMMIT
    assert pads_to_square(base.processor) and pads_to_square(aligned.processor)
    rows = [Row(None, one_turn(pictures[0]))]
    assert generate(base, rows)[0].text == generate(aligned, rows)[0].text, "the tiny ones have the same weights"
    written = (aligned.folder / "config.json").stat().st_mtime_ns
    aligned.unload()
    assert catalog.fetch_files(catalog.find_entry("rlaif-v-7b")).joinpath("config.json").stat().st_mtime_ns == written
    base.unload()


def test_four_bits_are_counted_and_refused_where_they_cannot_work(tmp_path, monkeypatch):
    folder = tmp_path / "llava-7b"
    LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336
        ),
        text_config=LlamaConfig(vocab_size=32064),
        dtype="bfloat16",
    ).save_pretrained(folder)
    entry, config = catalog.find_entry(str(folder)), AutoConfig.from_pretrained(folder)
    half, four = catalog.estimate_memory(config, torch.bfloat16), estimate_four_bit(config, torch.bfloat16)
    linear = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert half.weights - four.weights == pytest.approx(linear * (2 - 0.516), abs=10)
    assert four.weights < 0.35 * half.weights
    with pytest.raises(ModelUnavailable, match="in 4 bits either") as refusal:
        refuse_four_bit_if_too_large(entry, torch.device("cpu"), available=3 * 10**9)
    assert "3.0 GB are free" in refusal.value.why and refusal.value.fix
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    with pytest.raises(ModelUnavailable, match="run on cpu") as refusal:
        four_bit_chat(entry, torch.device("cpu"))
    assert "NVIDIA" in refusal.value.why and "--base-weights" in refusal.value.fix
    # what is free just now refuses no layers: another base may leave for this one
    monkeypatch.setattr("rlhfv.models.quantised.available_memory", lambda device: 0)
    monkeypatch.setattr("rlhfv.models.quantised.possible_dtypes", lambda *_: (torch.bfloat16,))
    assert four_bit_chat(entry, torch.device("cuda"))["dtype"] == torch.bfloat16
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match="bitsandbytes is not installed"):
        four_bit_chat(entry, torch.device("cuda"))


def test_the_table_is_listed_for_people_and_machines(capsys):
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert all(one.name in told and one.licence in told for one in KNOWN)
    assert "aligned, beside llava-1.5-7b" in told
    assert main(["models", "gemma-3-4b", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["models"]
    assert row["weights_16_bit"] == 8_600_000_000 and "fits" not in row, "answers need more than the weights"
    assert row["source"] == "google/gemma-3-4b-it" and row["decoding"]["temperature"] == 0 and row["aligned"] is None
    assert main(["models", "gpt-9"]) == 2
    assert "smolvlm" in capsys.readouterr().err


def test_an_entry_at_a_commit_stays_there():
    entry = replace(catalog.find_entry("smolvlm"), revision=COMMIT)
    assert entry.revision == COMMIT and not entry.square
