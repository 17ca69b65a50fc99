"""Tiny random model folders of three families, saved as real checkpoints are: config, weights, tokenizer, processor.

Each builder takes well under a second and returns the folder. The weights are random on a scale at which greedy
answers wander instead of repeating one token; the tokenizers are byte-level, so any Unicode text survives them.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

WORDS = (
    "a the there is are on table cat dog knife fork spoon cup two three left right of in street car bus man woman "
    "red blue describe this image in detail what how many where yes no picture shows and with near"
).split()
LANGUAGE_LINEARS = r".*(language_model|text_model).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""Regex of LoRA targets: every linear layer of the language model in the three families, none of the vision tower."""


def build_tokenizer(folder: Path, special: list[str], **tokens: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 300 tokens with the given special tokens, saved to `folder`."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, padding_side="left", **tokens)
    tokenizer.save_pretrained(folder)
    return tokenizer


def build_llama_tokenizer(folder: Path, special: list[str], **tokens: str) -> PreTrainedTokenizerFast:
    """A vocabulary like Llama's and Vicuna's: whole words with the space before them, single letters, and bytes for
    all that is unknown; saved to `folder`."""
    words = [f"▁{word}" for word in [*WORDS, "There", "Where"]]
    letters = sorted({letter for word in words for letter in word} | set(".,?:ASITNURE"))
    # Merges build each word from its left end.
    parts = {word[:size] for word in words for size in range(2, len(word) + 1)}
    merges = sorted({(part[:-1], part[-1]) for part in parts}, key=lambda pair: (len(pair[0]), pair))
    entries = ["<unk>", *special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *sorted(parts)]
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, padding_side="left", unk_token="<unk>", **tokens)
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_json(path: Path, data: dict) -> None:
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")


def save_model(model, tokenizer, folder: Path, dtype: torch.dtype) -> None:
    """Saves the model; its control tokens score 0, so greedy answers are text and go on until their length limit."""
    if not getattr(model.config, "tie_word_embeddings", False):
        with torch.no_grad():
            model.get_output_embeddings().weight[sorted(tokenizer.added_tokens_decoder)] = 0
    model.to(dtype).save_pretrained(folder)


def text_sizes(tokenizer, hidden: int = 64) -> dict:
    return {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 2048,
        "initializer_range": 0.25,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def build_llava(
    folder: Path,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    chat_template: bool = True,
    image_size: int = 28,
    tie: bool = False,
    vision: dict | None = None,
    tokenizer: Callable[..., PreTrainedTokenizerFast] = build_tokenizer,
    **text: int,
) -> Path:
    """LLaVA: CLIP tower (patches of 14 px), Llama text model, Vicuna-like template that takes several images.

    `text` and `vision` override sizes of the two models, `tie` shares the embeddings of the text model; `tokenizer`
    builds another vocabulary; `chat_template=False` leaves the template out.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer(
        folder, ["<s>", "</s>", "<pad>", "<image>"], bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor",
            "processor_class": "LlavaProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": image_size},
            "do_center_crop": True,
            "crop_size": {"height": image_size, "width": image_size},
        },
    )
    write_json(
        folder / "processor_config.json",
        {
            "processor_class": "LlavaProcessor",
            "patch_size": 14,
            "num_additional_image_tokens": 1,
            "vision_feature_select_strategy": "default",
        },
    )
    if chat_template:
        (folder / "chat_template.jinja").write_text(
            "{{ bos_token }}{% for m in messages %}{{ m['role'].upper() + ': ' }}"
            "{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}"
            "{% endif %}{% endfor %}{{ ' ' if m['role'] == 'user' else eos_token }}{% endfor %}"
            "{% if add_generation_prompt %}ASSISTANT: {% endif %}",
            encoding="utf-8",
        )
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            **{
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": image_size,
                "patch_size": 14,
                **(vision or {}),
            }
        ),
        text_config=LlamaConfig(**(text_sizes(tokenizer) | text)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(image_size // 14) ** 2,
        tie_word_embeddings=tie,
    )
    save_model(LlavaForConditionalGeneration(config), tokenizer, folder, dtype)
    return folder


def build_smolvlm(folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """SmolVLM (the code path of Idefics3): SigLIP-like tower, an image cut into 32 px tiles, 4 tokens a tile."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = build_tokenizer(
        folder,
        [
            "<|im_start|>",
            "<|im_end|>",
            "<end_of_utterance>",
            "<fake_token_around_image>",
            "<image>",
            "<global-img>",
            *tiles,
        ],
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
    )
    image = {
        "processor_class": "SmolVLMProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"longest_edge": 64},
        "max_image_size": {"longest_edge": 32},
        "do_image_splitting": True,
        "do_pad": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    write_json(folder / "preprocessor_config.json", {"image_processor_type": "SmolVLMImageProcessor", **image})
    write_json(
        folder / "video_preprocessor_config.json",
        {"video_processor_type": "SmolVLMVideoProcessor", "num_frames": 8, "fps": 1, **image},
    )
    write_json(folder / "processor_config.json", {"processor_class": "SmolVLMProcessor", "image_seq_len": 4})
    (folder / "chat_template.jinja").write_text(
        "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}:"
        "{% for part in m['content'] %}{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}"
        "{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
        "{% if add_generation_prompt %}Assistant:{% endif %}",
        encoding="utf-8",
    )
    torch.manual_seed(seed)
    config = SmolVLMConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        text_config={"model_type": "llama", **text_sizes(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
    )
    save_model(SmolVLMForConditionalGeneration(config), tokenizer, folder, dtype)
    return folder


def build_qwen2_5_vl(folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """Qwen2.5-VL: flat patches, M-RoPE, an image becomes (height/28)·(width/28) tokens, at least 4, at most 16."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(
        folder,
        [
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<|vision_start|>",
            "<|vision_end|>",
            "<|image_pad|>",
            "<|video_pad|>",
        ],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    image = {
        "processor_class": "Qwen2_5_VLProcessor",
        "min_pixels": 56 * 56,
        "max_pixels": 112 * 112,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    write_json(folder / "preprocessor_config.json", {"image_processor_type": "Qwen2VLImageProcessor", **image})
    write_json(folder / "video_preprocessor_config.json", {"video_processor_type": "Qwen2VLVideoProcessor", **image})
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% for part in m['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        encoding="utf-8",
    )
    torch.manual_seed(seed)
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        text_config={
            **text_sizes(tokenizer),
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    save_model(Qwen2_5_VLForConditionalGeneration(config), tokenizer, folder, dtype)
    return folder


BUILDERS = {"llava": build_llava, "smolvlm": build_smolvlm, "qwen2_5_vl": build_qwen2_5_vl}


def add_random_adapter(
    model_folder: Path,
    adapter_folder: Path,
    seed: int = 0,
    *,
    scale: float = 0.1,
    target_modules: str | list[str] = LANGUAGE_LINEARS,
    **lora,
) -> Path:
    """Saves a LoRA adapter with random A and B (standard deviation `scale`) for the model of `model_folder`.

    `scale=0` saves one that changes nothing; `lora` are further fields of `LoraConfig`, such as `use_dora=True`.
    """
    from peft import LoraConfig, get_peft_model

    model = AutoModelForImageTextToText.from_pretrained(model_folder, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=target_modules, **lora))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_A" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            elif "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    model.save_pretrained(adapter_folder)
    return Path(adapter_folder)
