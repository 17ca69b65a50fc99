"""Tiny random model folders of ten more families; like those of `tiny.py` they are laid out as published checkpoints.

Configs keep what makes a family itself (tiles, M-RoPE, deepstack, sliding windows, a bidirectional prefix, a Q-Former,
linear attention) and shrink the rest.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

from tests.models.tiny import BUILDERS, build_tokenizer, save_model, text_sizes, write_json

VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
QWEN_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
GEMMA_IMAGE = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}


def chat_ml(image: str) -> str:
    """The template of Qwen's kind, in which `image` is the place of a picture."""
    return (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% for part in m['content'] %}{% if part['type'] == 'image' %}" + image + "{% else %}{{ part['text'] }}"
        "{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def build(
    folder: Path,
    model_type: str,
    tokenizer: Callable[[Path], PreTrainedTokenizerFast],
    config: Callable[[PreTrainedTokenizerFast], dict],
    image: dict,
    processor: dict,
    template: str | None,
    video: str | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Writes one folder. `image` and `processor` are the two files' fields, `video` a video processor's class."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = tokenizer(folder)
    image = {"processor_class": processor["processor_class"], **image}
    write_json(folder / "preprocessor_config.json", image)
    write_json(folder / "processor_config.json", processor)
    if video:
        write_json(folder / "video_preprocessor_config.json", {**image, "video_processor_type": video})
    if template:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    torch.manual_seed(seed)
    settings = AutoConfig.for_model(model_type, **config(made))
    model = AutoModelForImageTextToText.from_config(settings)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1 and not weights.any():  # some projections start at zero and would hide the picture
                weights.normal_(0, 0.25)
    save_model(model, made, folder, dtype)
    return folder


def build_llava_next(folder: Path, **more) -> Path:
    """LLaVA-NeXT: the picture once whole and once in tiles of 28 px, rows ended by a learnt token."""
    grid = [[28, 56], [56, 28], [56, 56]]
    return build(
        folder,
        "llava_next",
        lambda to: build_tokenizer(
            to, ["<s>", "</s>", "<pad>", "<image>"], bos_token="<s>", eos_token="</s>", pad_token="<pad>"
        ),
        lambda tokenizer: {
            "vision_config": {"model_type": "clip_vision_model", **VISION},
            "text_config": {"model_type": "mistral", **text_sizes(tokenizer)},
            "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
            "image_grid_pinpoints": grid,
            "image_seq_length": 4,
        },
        {
            "image_processor_type": "LlavaNextImageProcessor",
            "size": {"shortest_edge": 28},
            "crop_size": {"height": 28, "width": 28},
            "image_grid_pinpoints": grid,
        },
        {
            "processor_class": "LlavaNextProcessor",
            "patch_size": 14,
            "num_additional_image_tokens": 1,
            "vision_feature_select_strategy": "default",
        },
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {% endif %}"
        "{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}"
        "{% endif %}{% endfor %}{{ ' [/INST] ' if m['role'] == 'user' else eos_token }}{% endfor %}",
        **more,
    )


def build_llava_onevision(folder: Path, **more) -> Path:
    """LLaVA-OneVision: SigLIP tower, one to four tiles, Qwen2 text model; several pictures are not tiled."""
    grid = [[28, 28], [28, 56], [56, 28], [56, 56]]
    return build(
        folder,
        "llava_onevision",
        lambda to: build_tokenizer(
            to,
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"],
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
        ),
        lambda tokenizer: {
            "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False, **VISION},
            "text_config": {"model_type": "qwen2", **text_sizes(tokenizer)},
            "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
            "video_token_index": tokenizer.convert_tokens_to_ids("<video>"),
            "image_grid_pinpoints": grid,
        },
        {
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "size": {"height": 28, "width": 28},
            "image_grid_pinpoints": grid,
        },
        {
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": 4,
            "vision_feature_select_strategy": "full",
            "vision_aspect_ratio": "anyres_max_9",
        },
        chat_ml("<image>\n"),
        video="LlavaOnevisionVideoProcessor",
        **more,
    )


def build_idefics3(folder: Path, **more) -> Path:
    """Idefics3: tiles of 32 px with row and column marks, 4 tokens a tile."""
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>"]
    return build(
        folder,
        "idefics3",
        lambda to: build_tokenizer(
            to,
            [*special, "<global-img>", *tiles],
            bos_token="<|begin_of_text|>",
            eos_token="<end_of_utterance>",
            pad_token="<|end_of_text|>",
        ),
        lambda tokenizer: {
            "vision_config": VISION | {"image_size": 32, "patch_size": 8},
            "text_config": {"model_type": "llama", **text_sizes(tokenizer)},
            "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
            "pad_token_id": tokenizer.pad_token_id,
            "scale_factor": 2,
        },
        {
            "image_processor_type": "Idefics3ImageProcessor",
            "size": {"longest_edge": 64},
            "max_image_size": {"longest_edge": 32},
        },
        {"processor_class": "Idefics3Processor", "image_seq_len": 4},
        "<|begin_of_text|>{% for m in messages %}{{ m['role'] | capitalize }}:"
        "{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}"
        "{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}",
        **more,
    )


def _build_qwen(folder: Path, kind: str, processor: str, vision: dict, text: dict, patch: int, video: str, **more):
    image = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "min_pixels": (4 * patch) ** 2,
        "max_pixels": (8 * patch) ** 2,
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }

    def config(tokenizer) -> dict:
        names = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
        names |= {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
        shared = {"depth": 2, "num_heads": 2, "patch_size": patch, "spatial_merge_size": 2, "temporal_patch_size": 2}
        return {
            "vision_config": shared | vision,
            "text_config": text_sizes(tokenizer) | text,
            **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()},
        }

    return build(
        folder,
        kind,
        lambda to: build_tokenizer(to, list(QWEN_TOKENS), eos_token="<|im_end|>", pad_token="<|endoftext|>"),
        config,
        image,
        {"processor_class": processor},
        chat_ml("<|vision_start|><|image_pad|><|vision_end|>"),
        video=video,
        **more,
    )


def build_qwen2_vl(folder: Path, **more) -> Path:
    """Qwen2-VL: flat patches, M-RoPE."""
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    vision = {"embed_dim": 32, "hidden_size": 64}
    text = {"rope_parameters": rope}
    return _build_qwen(folder, "qwen2_vl", "Qwen2VLProcessor", vision, text, 14, "Qwen2VLVideoProcessor", **more)


def build_qwen3_vl(folder: Path, **more) -> Path:
    """Qwen3-VL: interleaved M-RoPE, features of an inner layer of the tower added in the text model (deepstack)."""
    rope = {"rope_type": "default", "mrope_section": [3, 3, 2], "mrope_interleaved": True, "rope_theta": 10000.0}
    vision = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, "num_position_embeddings": 16}
    text = {"rope_parameters": rope, "head_dim": 16}
    vision["deepstack_visual_indexes"] = [0]
    return _build_qwen(folder, "qwen3_vl", "Qwen3VLProcessor", vision, text, 16, "Qwen3VLVideoProcessor", **more)


def build_qwen3_5(folder: Path, **more) -> Path:
    """Qwen3.5, a recurrent hybrid: every other layer is a gated delta rule, whose state runs through the sequence."""
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True, "rope_theta": 10000.0}
    vision = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, "num_position_embeddings": 16}
    text = {
        "rope_parameters": rope | {"partial_rotary_factor": 0.25},
        "head_dim": 32,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    }
    return _build_qwen(folder, "qwen3_5", "Qwen3VLProcessor", vision, text, 16, "Qwen3VLVideoProcessor", **more)


def build_internvl(folder: Path, **more) -> Path:
    """InternVL: tiles of 56 px and the whole picture last, 4 tokens each, Qwen2 text model."""
    return build(
        folder,
        "internvl",
        lambda to: build_tokenizer(
            to,
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"],
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            extra_special_tokens={
                "start_image_token": "<img>",
                "end_image_token": "</img>",
                "context_image_token": "<IMG_CONTEXT>",
                "video_token": "<video>",
            },
        ),
        lambda tokenizer: {
            "vision_config": VISION | {"image_size": 56},
            "text_config": {"model_type": "qwen2", **text_sizes(tokenizer)},
            "image_token_id": tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
            "image_seq_length": 4,
            "tie_word_embeddings": False,
        },
        {
            "image_processor_type": "GotOcr2ImageProcessor",
            "size": {"height": 56, "width": 56},
            "crop_to_patches": True,
            "min_patches": 1,
            "max_patches": 4,
        },
        {"processor_class": "InternVLProcessor", "image_seq_length": 4},
        chat_ml("<IMG_CONTEXT>\n"),
        video="InternVLVideoProcessor",
        **more,
    )


def build_gemma3(folder: Path, **more) -> Path:
    """Gemma 3: a layer with a sliding window of 16, a full one; picture tokens see each other in both directions."""
    return build(
        folder,
        "gemma3",
        lambda to: build_tokenizer(
            to,
            ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", *GEMMA_IMAGE.values()],
            bos_token="<bos>",
            eos_token="<end_of_turn>",
            pad_token="<pad>",
            extra_special_tokens=GEMMA_IMAGE,
        ),
        lambda tokenizer: {
            "vision_config": {"vision_use_head": False, **VISION, "image_size": 56},
            "text_config": {
                **text_sizes(tokenizer),
                "head_dim": 16,
                "query_pre_attn_scalar": 16,
                "sliding_window": 16,
                "layer_types": ["sliding_attention", "full_attention"],
            },
            "initializer_range": 0.25,
            "mm_tokens_per_image": 4,
            "boi_token_index": tokenizer.convert_tokens_to_ids("<start_of_image>"),
            "eoi_token_index": tokenizer.convert_tokens_to_ids("<end_of_image>"),
            "image_token_index": tokenizer.convert_tokens_to_ids("<image_soft_token>"),
            "tie_word_embeddings": False,
        },
        {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 56, "width": 56}},
        {"processor_class": "Gemma3Processor", "image_seq_length": 4},
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'user' if m['role'] == 'user' else 'model' }}\n"
        "{% for part in m['content'] %}{% if part['type'] == 'image' %}<start_of_image>{% else %}"
        "{{ part['text'] | trim }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        **more,
    )


def build_paligemma(folder: Path, **more) -> Path:
    """PaliGemma: picture and question are a prefix without causal order; no chat template."""
    return build(
        folder,
        "paligemma",
        lambda to: build_tokenizer(
            to,
            ["<pad>", "<eos>", "<bos>", "<image>"],
            bos_token="<bos>",
            eos_token="<eos>",
            pad_token="<pad>",
            extra_special_tokens={"image_token": "<image>"},
        ),
        lambda tokenizer: {
            "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False, **VISION},
            # The processor adds 1,152 tokens for places and segments.
            "text_config": {
                "model_type": "gemma",
                **text_sizes(tokenizer),
                "head_dim": 16,
                "vocab_size": len(tokenizer) + 1152,
            },
            "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
            "projection_dim": 64,
            "hidden_size": 64,
            "tie_word_embeddings": False,
        },
        {
            "image_processor_type": "SiglipImageProcessor",
            "size": {"height": 28, "width": 28},
            "image_seq_length": 4,
        },
        {"processor_class": "PaliGemmaProcessor"},
        None,
        **more,
    )


def build_instructblip(folder: Path, text: dict | None = None, **more) -> Path:
    """InstructBLIP: a Q-Former with its own tokenizer reads the question beside the picture; no chat template. `text`
    puts another text model in the place of Vicuna."""

    def tokenizers(to: Path) -> PreTrainedTokenizerFast:
        (to / "qformer_tokenizer").mkdir()
        build_tokenizer(to / "qformer_tokenizer", ["[PAD]", "[CLS]", "[SEP]"], pad_token="[PAD]")
        return build_tokenizer(
            to, ["<s>", "</s>", "<pad>", "<image>"], bos_token="<s>", eos_token="</s>", pad_token="<pad>"
        )

    return build(
        folder,
        "instructblip",
        tokenizers,
        lambda tokenizer: {
            "vision_config": VISION | {"initializer_range": 0.02},
            "qformer_config": {
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "vocab_size": 400,
            },
            "text_config": text or {"model_type": "llama", **text_sizes(tokenizer)},
            "num_query_tokens": 4,
            "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
        },
        {"image_processor_type": "BlipImageProcessor", "size": {"height": 28, "width": 28}},
        {"processor_class": "InstructBlipProcessor", "num_query_tokens": 4},
        None,
        **more,
    )


ARCHITECTURES: dict[str, Callable[..., Path]] = {
    "LLaVA": BUILDERS["llava"],
    "LLaVA-NeXT": build_llava_next,
    "LLaVA-OneVision": build_llava_onevision,
    "Idefics3": build_idefics3,
    "SmolVLM": BUILDERS["smolvlm"],
    "Qwen2-VL": build_qwen2_vl,
    "Qwen2.5-VL": BUILDERS["qwen2_5_vl"],
    "Qwen3-VL": build_qwen3_vl,
    "Qwen3.5": build_qwen3_5,
    "InternVL": build_internvl,
    "Gemma 3": build_gemma3,
    "PaliGemma": build_paligemma,
    "InstructBLIP": build_instructblip,
}
"""Every family that is tested, by the name people know it by."""
