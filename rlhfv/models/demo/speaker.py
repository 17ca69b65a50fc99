"""Stage two of the build: tokenizer, and a Llama that speaks from the frozen tower's features."""

from __future__ import annotations

import random
from pathlib import Path

import numpy
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from rlhfv.models.demo.language import GREETINGS, OTHER_TOPICS, THANKS, UNKNOWN, Turn, make_conversation
from rlhfv.models.demo.objects import CLASSES
from rlhfv.models.demo.plan import (
    GRID,
    PATCH,
    PICTURE_SIDE,
    Log,
    Plan,
    choose,
    mark_of,
    rate_at,
    save_checkpoint,
    use_bfloat16,
)
from rlhfv.models.demo.scenes import draw_scene
from rlhfv.models.demo.tower import picture_array, to_pixels, vision_config

PAD, USER, ASSISTANT, END, IMAGE = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<image>"
SPECIAL = [PAD, USER, ASSISTANT, END, IMAGE]
PATCHES = GRID * GRID
# Every turn ends in a token of its own, so an answer's tokens are the same with and without what stands around it.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>{% generation %}{{ say(message) }}<|end|>{% endgeneration %}"
    "{% else %}<|user|>{{ say(message) }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
).replace(
    "{{ say(message) }}",
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}",
)
GROUP = 4  # batches drawn together and sorted by length: a third less padding


def build_tokenizer(plan: Plan, seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of the training language: its words are single tokens, any other text is spelt in bytes."""
    texts: list[str] = []
    for number in range(4_000):
        for question, answer in make_conversation(draw_scene("base", number), random.Random(seed * 7 + number)):
            texts += [question, answer]
    for one in CLASSES:  # rare plurals and synonyms, in the middle and at the beginning of a sentence
        texts += [f"Two {one.plural} and one {one.name}, {' '.join(one.synonyms)}. Another {one.name}."] * 60
        texts += [f"{one.name.capitalize()} {one.plural.capitalize()}"] * 4
    texts += [f"a {word}, the {word}, {word}s" for word in UNKNOWN] * 4
    texts += list(OTHER_TOPICS + GREETINGS + THANKS) * 4
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=plan.vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, IMAGE],
        model_max_length=2_048,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """The LLaVA processor with the image half that needs only Pillow."""
    side = {"height": PICTURE_SIDE, "width": PICTURE_SIDE}
    image_processor = CLIPImageProcessorPil(
        size=side, crop_size=side, resample=3, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(plan: Plan, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """An untrained LLaVA of the plan's sizes, in float32."""
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=plan.language_hidden,
        intermediate_size=plan.language_hidden * 8 // 3,
        num_hidden_layers=plan.language_layers,
        num_attention_heads=plan.language_heads,
        max_position_embeddings=2_048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    config = LlavaConfig(
        vision_config=vision_config(plan),
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=PATCHES,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, max_new_tokens=256, do_sample=False
    )
    return model


def cache_features(
    work_dir: Path,
    plan: Plan,
    mark: str,
    tower_state: dict[str, torch.Tensor],
    model: LlavaForConditionalGeneration,
    log: Log,
) -> numpy.ndarray:
    """Loads the tower into the model; float16 patch features of the base scenes: scenes × 36 × hidden."""
    model.model.vision_tower.load_state_dict(tower_state)
    model.model.vision_tower.requires_grad_(False).eval()
    path = work_dir / f"features_{mark}_{plan.language_scenes}.npy"
    if not path.exists():
        partial = path.with_suffix(".partial")
        shape = (plan.language_scenes, PATCHES, plan.tower_hidden)
        features = numpy.lib.format.open_memmap(partial, mode="w+", dtype=numpy.float16, shape=shape)
        with torch.inference_mode():
            for start in range(0, plan.language_scenes, 64):
                seeds = range(start, min(start + 64, plan.language_scenes))
                pictures = numpy.stack([picture_array(draw_scene("base", number)) for number in seeds])
                seen = model.model.vision_tower(to_pixels(pictures), output_hidden_states=True).hidden_states[-1]
                features[seeds.start : seeds.stop] = seen[:, 1:].numpy()
                if start % 16_000 == 0:
                    log.write("features", done=seeds.stop, of=plan.language_scenes)
        features.flush()
        partial.rename(path)
    return numpy.load(path, mmap_mode="r")


def encode_conversations(conversations: list[list[Turn]], tokenizer) -> list[tuple[list[int], list[int]]]:
    """Token ids and labels of each conversation: every answer and its end token are trained on, nothing else."""
    texts = [text for turns in conversations for turn in turns for text in turn]
    coded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    user, assistant, end, image, newline = (
        tokenizer.convert_tokens_to_ids(USER),
        tokenizer.convert_tokens_to_ids(ASSISTANT),
        tokenizer.eos_token_id,
        tokenizer.convert_tokens_to_ids(IMAGE),
        tokenizer("\n", add_special_tokens=False)["input_ids"],
    )
    rows = []
    for turns in conversations:
        ids: list[int] = []
        labels: list[int] = []
        for number in range(len(turns)):
            question, answer = next(coded), next(coded)
            picture = [image] * PATCHES + newline if number == 0 else []
            prompt = [user, *picture, *question, end, assistant]
            ids += [*prompt, *answer, end]
            labels += [-100] * len(prompt) + [*answer, end]
        rows.append((ids, labels))
    return rows


def draw_batch(
    group_cache: dict, step: int, seed: int, plan: Plan, tokenizer
) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """Scenes, ids and labels of a step; both tensors batch × length, padded on the right."""
    group = step // GROUP
    if group_cache.get("group") != group:
        scenes = choose(seed + 1, group, plan.language_scenes, plan.language_batch * GROUP)
        dice = random.Random((seed + 1) * 1_000_003 + group)
        rows = encode_conversations([make_conversation(draw_scene("base", one), dice) for one in scenes], tokenizer)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
        batches = [order[at : at + plan.language_batch] for at in range(0, len(order), plan.language_batch)]
        dice.shuffle(batches)
        group_cache.update(group=group, scenes=scenes, rows=rows, batches=batches)
    chosen = group_cache["batches"][step % GROUP]
    length = max(len(group_cache["rows"][index][0]) for index in chosen)
    ids = torch.full((len(chosen), length), tokenizer.pad_token_id)
    labels = torch.full((len(chosen), length), -100)
    for row, index in enumerate(chosen):
        row_ids, row_labels = group_cache["rows"][index]
        ids[row, : len(row_ids)] = torch.tensor(row_ids)
        labels[row, : len(row_labels)] = torch.tensor(row_labels)
    return [group_cache["scenes"][index] for index in chosen], ids, labels


def language_loss(
    model: LlavaForConditionalGeneration, features: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens. Padding stands on the right, so causality alone hides it."""
    seen = BaseModelOutputWithPooling(pooler_output=list(model.model.multi_modal_projector(features)))
    hidden = model.model(input_ids=ids, mm_encoder_outputs={"image": seen}, use_cache=False).last_hidden_state
    wanted = labels[:, 1:] != -100
    return cross_entropy(model.lm_head(hidden[:, :-1][wanted]).float(), labels[:, 1:][wanted])


def mark_of_language(plan: Plan, seed: int, tower: str) -> str:
    """Changes with whatever the language stage learns from."""
    said = [make_conversation(draw_scene("base", number), random.Random(number)) for number in range(200)]
    return mark_of(seed, tower, plan.part("language"), plan.vocabulary, said)


def train_speaker(
    work_dir: Path,
    plan: Plan,
    seed: int,
    mark: str,
    model: LlavaForConditionalGeneration,
    tokenizer,
    features,
    log: Log,
) -> None:
    """Train projector and language model in place. Goes on from the last checkpoint in the work folder."""
    path = work_dir / f"speaker_{mark}.pt"
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    matrices = [value for value in trained.values() if value.ndim > 1]
    vectors = [value for value in trained.values() if value.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
        lr=plan.language_rate,
        betas=(0.9, 0.98),
        fused=True,  # one pass over all weights: on a busy machine the step otherwise costs as much as the model
    )
    start, recent, cache = 0, None, {}
    if path.exists():
        saved = torch.load(path, weights_only=True)
        start = saved["step"]
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        log.write("language resumed", step=start)
    model.train()
    for step in range(start, plan.language_steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.language_rate * rate_at(step, plan.language_steps)
        scenes, ids, labels = draw_batch(cache, step, seed, plan, tokenizer)
        with torch.autocast("cpu", torch.bfloat16, enabled=use_bfloat16()):
            loss = language_loss(model, torch.from_numpy(features[scenes]).float(), ids, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent = loss.item() if recent is None else 0.97 * recent + 0.03 * loss.item()
        if (step + 1) % plan.checkpoint_every == 0 or step + 1 == plan.language_steps:
            save_checkpoint(path, step=step + 1, model=model.state_dict(), optimizer=optimizer.state_dict())
            log.write("language", step=step + 1, loss=round(recent, 4))
    model.eval()
