"""What a model of each family is given: the prompt as its makers wrote it, and the pixels of the whole picture."""

import re

import numpy as np
import pytest
from PIL import Image

from rlhfv.models.processors import load_processor
from rlhfv.models.prompts import encode_prompt, takes_several_images
from tests.models.conftest import one_turn
from tests.models.families import ARCHITECTURES

CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CHAT_ML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
QWEN = CHAT_ML.format("<|vision_start|><|image_pad|>×6<|vision_end|>what?")
TILES = (
    "<fake_token_around_image><row_1_col_1><image>×4<fake_token_around_image><row_1_col_2><image>×4\n"
    "<fake_token_around_image><row_2_col_1><image>×4<fake_token_around_image><row_2_col_2><image>×4\n\n"
    "<fake_token_around_image><global-img><image>×4<fake_token_around_image>"
)
PROMPTS = {
    "LLaVA": "<s>USER: <image>×4\nwhat? ASSISTANT: ",
    # Four patches of the whole, sixteen of its tiles, and the end of each of four rows.
    "LLaVA-NeXT": "<s>[INST] <image>×24\nwhat? [/INST] ",
    "LLaVA-OneVision": CHAT_ML.format("<image>×24\nwhat?"),
    "Idefics3": f"<|begin_of_text|>User:{TILES} what?<end_of_utterance>\nAssistant:",
    "SmolVLM": f"<|im_start|>User:{TILES} what?<end_of_utterance>\nAssistant:",
    "Qwen2-VL": QWEN,
    "Qwen2.5-VL": QWEN,
    "Qwen3-VL": QWEN,
    "Qwen3.5": QWEN,
    "InternVL": CHAT_ML.format("<img><IMG_CONTEXT>×20</img>\nwhat?"),
    "Gemma 3": "<bos><start_of_turn>user\n\n\n<start_of_image><image_soft_token>×4<end_of_image>\n\n"
    "what?<end_of_turn>\n<start_of_turn>model\n",
    "PaliGemma": "<image>×4<bos>what?\n",
    "InstructBLIP": "<image>×4Question: what? Answer:",
}
"""The question "what?" about a picture of 90 × 70 px; `×4` stands for four of the token before it."""
WHOLE = {
    "LLaVA-NeXT": (0, 28, Image.Resampling.BICUBIC, CLIP),
    "LLaVA-OneVision": (0, 28, Image.Resampling.BICUBIC, CLIP),
    "InternVL": (-1, 56, Image.Resampling.BICUBIC, CLIP),
    "Gemma 3": (0, 56, Image.Resampling.BILINEAR, HALF),
    "PaliGemma": (0, 28, Image.Resampling.BICUBIC, HALF),
    "InstructBLIP": (0, 28, Image.Resampling.BICUBIC, CLIP),
}
"""Where among the tiles the whole picture stands, its side in px, and how it is made. Others: test_processors.py."""


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_prompt_is_what_the_makers_wrote(architectures, pictures, family):
    processor = load_processor(architectures[family])
    ids = encode_prompt(processor, one_turn(pictures[0], question="what?"), lambda name: name)["input_ids"]
    text = processor.tokenizer.decode(ids[0])
    repeated = re.sub(r"(<[^<>]+>)\1+", lambda found: f"{found[1]}×{len(found[0]) // len(found[1])}", text)
    assert repeated == PROMPTS[family]


@pytest.mark.parametrize("family", WHOLE)
def test_the_whole_picture_is_among_the_pixels(architectures, pictures, family):
    place, side, resampling, (mean, deviation) = WHOLE[family]
    tensors = encode_prompt(load_processor(architectures[family]), one_turn(pictures[0]), lambda name: name)
    tile = tensors["pixel_values"].reshape(-1, 3, side, side)[place].numpy()
    picture = Image.open(pictures[0]).convert("RGB").resize((side, side), resampling)
    values = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 255
    expected = (values - np.float32(mean)[:, None, None]) / np.float32(deviation)[:, None, None]
    assert np.allclose(tile, expected, atol=1e-5)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_whether_it_takes_several_pictures_is_known(architectures, family):
    assert takes_several_images(load_processor(architectures[family])) == (family != "InstructBLIP")
