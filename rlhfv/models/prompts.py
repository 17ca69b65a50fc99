"""From a prompt to the tensors of one row: the chat template, the images in their turns, nothing forged."""

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from transformers import ProcessorMixin

from rlhfv.corrections.conversation import Prompt
from rlhfv.errors import GenerationFailed, InvalidImage


def control_tokens(processor: ProcessorMixin) -> tuple[str, ...]:
    """Texts that the tokenizer would turn into control tokens: turn marks, image places, end of text."""
    special = {token.content for token in processor.tokenizer.added_tokens_decoder.values() if token.special}
    places = {getattr(processor, f"{kind}_token", None) for kind in ("image", "video", "audio")}
    return tuple(sorted(token for token in special | places if token and len(token.strip()) > 1))


@lru_cache(maxsize=16)
def _control_pattern(tokens: tuple[str, ...]) -> re.Pattern:
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)) or r"(?!)")


def plain_text(text: str, tokens: tuple[str, ...]) -> str:
    """`text` with a space put into every control token, so that a question cannot place an image or end its turn.
    Lone surrogates, which no tokenizer takes, are dropped.
    """
    text = text.encode("utf-8", "ignore").decode("utf-8")
    pattern = _control_pattern(tokens)
    while match := pattern.search(text):
        text = f"{text[: match.start() + 1]} {text[match.start() + 1 :]}"
    return text


def chat_messages(processor: ProcessorMixin, prompt: Prompt) -> list[dict]:
    """The conversation as chat templates take it: images of a turn before its text."""
    tokens = control_tokens(processor)

    def said(role: str, text: str, images: tuple[str, ...] = ()) -> dict:
        parts = [{"type": "image"} for _ in images] + [{"type": "text", "text": plain_text(text, tokens)}]
        return {"role": role, "content": parts}

    messages = []
    for turn in prompt.history:
        messages += [said("user", turn.question, turn.images), said("assistant", turn.answer)]
    return [*messages, said("user", prompt.question, prompt.images)]


def render_prompt(processor: ProcessorMixin, prompt: Prompt) -> str:
    """The prompt as text, up to and including the words that open the answer."""
    return processor.apply_chat_template(chat_messages(processor, prompt), add_generation_prompt=True, tokenize=False)


def open_image(path: Path) -> Image.Image:
    """The image as RGB.

    Raises:
        InvalidImage: there is no such file, or it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise InvalidImage(
            f"The image {Path(path).name} cannot be opened.",
            f"Reading it failed: {error.strerror or type(error).__name__}.",
            "Add the image to the conversation again.",
        ) from error


def encode_prompt(
    processor: ProcessorMixin, prompt: Prompt, image_path: Callable[[str], Path]
) -> dict[str, torch.Tensor]:
    """What the processor makes of one prompt: input_ids [1, P], attention_mask [1, P], and the image tensors.

    Raises:
        InvalidImage: an image cannot be read.
        GenerationFailed: the template does not place the images where the conversation has them.
    """
    return encode_with_images(processor, prompt, [open_image(image_path(name)) for name in prompt.all_images])


def encode_with_images(
    processor: ProcessorMixin, prompt: Prompt, images: list[Image.Image]
) -> dict[str, torch.Tensor]:
    """Like `encode_prompt`, for images that are open already, in the order of `prompt.all_images`."""
    text = render_prompt(processor, prompt)
    bos = processor.tokenizer.bos_token
    try:
        encoded = processor(
            text=[text],
            images=[images] if images else None,
            return_tensors="pt",
            add_special_tokens=not (bos and text.startswith(bos)),
        )
    except (ValueError, IndexError, StopIteration) as error:
        raise GenerationFailed(
            f"This model cannot take a conversation with {len(images)} image(s) in these places.",
            f"Its processor says: {error}",
            "Start a new conversation with one image in the first question, or pick another model.",
        ) from error
    return {name: value for name, value in encoded.items() if isinstance(value, torch.Tensor)}
