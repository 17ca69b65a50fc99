"""Stage two of the build: tokenizer, and a Llama that speaks from the frozen tower's features."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from torch.nn.functional import cross_entropy, normalize
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

from rlhfv.models.demo.gaze import PATCHES, Look, find_looks, gaze_loss
from rlhfv.models.demo.language import GREETINGS, OTHER_TOPICS, THANKS, UNKNOWN, Turn, make_conversation
from rlhfv.models.demo.objects import CLASSES
from rlhfv.models.demo.plan import (
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
from rlhfv.models.demo.scenes import Scene, draw_scene
from rlhfv.models.demo.tower import CELL_OF_PATCH, labels_of, picture_array, to_pixels, vision_config

PAD, USER, ASSISTANT, END, IMAGE = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>", "<image>"
SPECIAL = [PAD, USER, ASSISTANT, END, IMAGE]
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
GAZE_WEIGHT = 0.3  # of `gaze_loss` beside the language loss
WORD_WEIGHT = 0.1  # of `word_loss` beside the language loss
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


@dataclass
class Row:
    """One conversation: token ids, labels (-100 where nothing is trained), and where to look meanwhile."""

    ids: list[int]
    labels: list[int]
    looks: list[Look]


def encode_conversations(scenes: list[Scene], conversations: list[list[Turn]], tokenizer) -> list[Row]:
    """Every answer and its end token are trained on, nothing else."""
    texts = [text for turns in conversations for turn in turns for text in turn]
    coded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    pieces = iter(zip(coded["input_ids"], coded["offset_mapping"], strict=True))
    user, assistant, image = (tokenizer.convert_tokens_to_ids(one) for one in (USER, ASSISTANT, IMAGE))
    end = tokenizer.eos_token_id
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    rows = []
    for scene, turns in zip(scenes, conversations, strict=True):
        row = Row([], [], [])
        offsets = []
        for number in range(len(turns)):
            (question, asked), (answer, said) = next(pieces), next(pieces)
            picture = [image] * PATCHES + newline if number == 0 else []
            prompt = [user, *picture, *question, end, assistant]
            row.ids += [*prompt, *answer, end]
            row.labels += [-100] * len(prompt) + [*answer, end]
            offsets.append((asked, said))
        row.looks = find_looks(scene, turns, offsets, first_patch=1)
        rows.append(row)
    return rows


def draw_batch(
    group_cache: dict, step: int, seed: int, plan: Plan, tokenizer
) -> tuple[list[int], torch.Tensor, torch.Tensor, list[list[Look]]]:
    """Scenes, ids, labels and looks of a step; both tensors batch × length, padded on the right."""
    group = step // GROUP
    if group_cache.get("group") != group:
        scenes = choose(seed + 1, group, plan.language_scenes, plan.language_batch * GROUP)
        dice = random.Random((seed + 1) * 1_000_003 + group)
        drawn = [draw_scene("base", one) for one in scenes]
        rows = encode_conversations(drawn, [make_conversation(one, dice) for one in drawn], tokenizer)
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
        batches = [order[at : at + plan.language_batch] for at in range(0, len(order), plan.language_batch)]
        dice.shuffle(batches)
        group_cache.update(group=group, scenes=scenes, rows=rows, batches=batches)
    chosen = group_cache["batches"][step % GROUP]
    rows = [group_cache["rows"][index] for index in chosen]
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(chosen), length), tokenizer.pad_token_id)
    labels = torch.full((len(chosen), length), -100)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        labels[number, : len(row.labels)] = torch.tensor(row.labels)
    return [group_cache["scenes"][index] for index in chosen], ids, labels, [row.looks for row in rows]


def patch_words(scenes: list[int], tokenizer) -> torch.Tensor:
    """For each patch of the scenes the token of what it shows (" knife", " nothing"): scenes × 36."""
    names = [one.name.split()[-1] for one in CLASSES] + ["nothing"]
    tokens = torch.tensor([tokenizer(f" {name}", add_special_tokens=False)["input_ids"][0] for name in names])
    labels = numpy.stack([labels_of(draw_scene("base", number))[:9] for number in scenes])
    return tokens[torch.from_numpy(labels)][:, CELL_OF_PATCH]


def word_loss(model: LlavaForConditionalGeneration, projected: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """How badly a projected patch reads as the word of what it shows.

    With this the picture leans towards the words' own space, and finding the knife a question asks for is finding an
    equal token. Without it descriptions are learnt, but questions about presence are still guessed after 1,400 steps.
    Only the angle counts, and steeply: a third of the way is enough, so number and place keep their room.
    """
    table = normalize(model.get_input_embeddings().weight.float(), dim=-1)
    angles = normalize(projected.float().flatten(0, 1), dim=-1) @ table.T
    return cross_entropy(30.0 * angles, words.flatten())


def language_loss(
    model: LlavaForConditionalGeneration,
    projected: torch.Tensor,
    ids: torch.Tensor,
    labels: torch.Tensor,
    looks: list[list[Look]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of the answers' tokens, and the gaze loss.

    Padding stands on the right, so causality alone hides it.
    """
    seen = BaseModelOutputWithPooling(pooler_output=list(projected))
    output = model.model(input_ids=ids, mm_encoder_outputs={"image": seen}, use_cache=False, output_attentions=True)
    wanted = labels[:, 1:] != -100
    logits = model.lm_head(output.last_hidden_state[:, :-1][wanted]).float()
    return cross_entropy(logits, labels[:, 1:][wanted]), gaze_loss(output.attentions, looks)


def mark_of_language(plan: Plan, seed: int, tower: str) -> str:
    """Changes with whatever the language stage learns from."""
    said = [make_conversation(draw_scene("base", number), random.Random(number)) for number in range(200)]
    return mark_of(seed, tower, plan.part("language"), plan.vocabulary, WORD_WEIGHT, GAZE_WEIGHT, said)


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
    model.set_attn_implementation("eager")  # the only one that tells its weights, which the gaze loss needs
    for step in range(start, plan.language_steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.language_rate * rate_at(step, plan.language_steps)
        scenes, ids, labels, looks = draw_batch(cache, step, seed, plan, tokenizer)
        with torch.autocast("cpu", torch.bfloat16, enabled=use_bfloat16()):
            projected = model.model.multi_modal_projector(torch.from_numpy(features[scenes]).float())
            loss, gaze = language_loss(model, projected, ids, labels, looks)
            words = word_loss(model, projected, patch_words(scenes, tokenizer))
        (loss + WORD_WEIGHT * words + GAZE_WEIGHT * gaze).backward()
        nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent = loss.item() if recent is None else 0.97 * recent + 0.03 * loss.item()
        if (step + 1) % plan.checkpoint_every == 0 or step + 1 == plan.language_steps:
            save_checkpoint(path, step=step + 1, model=model.state_dict(), optimizer=optimizer.state_dict())
            log.write("language", step=step + 1, loss=round(recent, 4), gaze=round(gaze.item(), 3))
    model.eval()
    model.set_attn_implementation("sdpa")
