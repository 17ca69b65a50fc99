"""Stamps: like with like, and both values named where they are unlike."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.errors import InvalidData
from rlhfv.evaluation.stamp import UNKNOWN, Stamp, describe_pictures, describe_weights, doubts, refuse_unlike
from rlhfv.models.decoding import find_decoding
from rlhfv.models.processors import square_settings

STAMP = Stamp(
    benchmark="pope-random",
    questions="a" * 64,
    decoding="greedy",
    values=find_decoding("greedy").values(),
    transform="resized; CLIP 0123",
    architecture="LlavaForConditionalGeneration",
    model=ModelIdentity("org/llava", "c" * 40, "mine@1"),
    weights="full, bfloat16",
)


def test_a_stamp_survives_its_file():
    assert Stamp.from_dict(STAMP.to_dict()) == STAMP


@pytest.mark.parametrize("data", [{}, {"model": 1}, {**STAMP.to_dict(), "more": 1}])
def test_what_is_no_stamp_is_refused(data):
    with pytest.raises(InvalidData, match="stamp"):
        Stamp.from_dict(data)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"benchmark": "pope-popular"}, ["the benchmark", "pope-random", "pope-popular"]),
        ({"questions": "b" * 64}, ["questions", "a" * 64, "b" * 64]),
        ({"prompt": "{question} Answer yes or no."}, ["the prompt", '"{question}"', "Answer yes or no."]),
        ({"decoding": "rlhfv"}, ["the decoding", "greedy", "rlhfv"]),
        ({"values": {"beams": 5}}, ["values", "1024", '{"beams": 5}']),
        ({"transform": "padded; LLaVA 4567"}, ["pictures", "CLIP 0123", "LLaVA 4567"]),
        ({"weights": "4-bit, bfloat16"}, ["weights", "full, bfloat16", "4-bit, bfloat16"]),
        ({"decoding": UNKNOWN, "values": {}}, ["greedy", "unknown"]),
    ],
)
def test_unlike_stamps_are_refused_with_both_values(change, told):
    with pytest.raises(InvalidData) as error:
        refuse_unlike(STAMP, replace(STAMP, **change))
    assert all(part in error.value.what for part in told), error.value.what


def test_another_voice_may_be_compared_and_another_architecture_with_its_own_pictures():
    refuse_unlike(STAMP, replace(STAMP, model=ModelIdentity("org/llava", "c" * 40)))
    refuse_unlike(STAMP, replace(STAMP, architecture="Qwen2_5_VL", transform="resized; Qwen 89"))


def test_what_is_not_known_of_imported_answers_is_told():
    unknown = Stamp("pope-random", "a" * 64, imported="answers.jsonl")
    refuse_unlike(unknown, unknown)
    assert "the decoding" in doubts(unknown, unknown)[0]
    assert doubts(STAMP, STAMP) == ()


def test_how_weights_are_held_is_told_and_may_be_unknown_of_one():
    old = Stamp.from_dict({name: value for name, value in STAMP.to_dict().items() if name != "weights"})
    assert old.weights == UNKNOWN
    refuse_unlike(STAMP, old)
    assert doubts(STAMP, old) == (
        "Not known: how the weights were held. Whether the two sets are alike in it cannot be told.",
    )
    whole = SimpleNamespace(model=None, four_bit=False, dtype=torch.float32)
    assert describe_weights(whole) == "full, float32"
    assert describe_weights(SimpleNamespace(model=None, four_bit=True, dtype=torch.bfloat16)) == "4-bit, bfloat16"
    other = SimpleNamespace(model=SimpleNamespace(quantization_method="gptq"), four_bit=False, dtype=torch.float16)
    assert describe_weights(other) == "gptq, float16"


def test_a_stamp_reads_as_lines():
    assert STAMP.lines["decoding"] == ("greedy (beams 1, repetition penalty 1, length penalty 1, max new tokens 1024)")
    assert STAMP.lines["model"] == f"org/llava@{'c' * 40} + mine@1"
    assert replace(STAMP, imported="a.json").lines["imported from"] == "a.json"


def test_the_preparation_of_pictures_is_told_from_the_processors_settings():
    clip = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    square = LlavaImageProcessorPil(**square_settings(clip))
    plain, padded = (describe_pictures(SimpleNamespace(image_processor=one)) for one in (clip, square))
    assert plain.startswith("resized (shortest edge 336 pixels), cut to the middle (height 336, width 336 pixels)")
    assert padded.startswith("padded to a square with the mean colour, resized")
    clip.image_mean = [0.5, 0.5, 0.5]
    assert describe_pictures(SimpleNamespace(image_processor=clip)) != plain, "every setting is part of it"
