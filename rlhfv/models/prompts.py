"""From a prompt to the tensors of one row, and from an answer to its tokens: the chat template, the images in their
turns, nothing forged.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import ProcessorMixin

from rlhfv.corrections.conversation import Prompt
from rlhfv.errors import GenerationFailed, InvalidImage


def control_tokens(processor: ProcessorMixin) -> tuple[str, ...]:
    """Texts that the tokenizer would turn into control tokens: turn marks, image places, end of text."""
    special = {token.content for token in processor.tokenizer.added_tokens_decoder.values() if token.special}
    places = {getattr(processor, f"{kind}_token", None) for kind in ("image", "video", "audio")}
    # Some processors keep their place as an AddedToken.
    return tuple(sorted({str(token) for token in special | places if token and len(str(token).strip()) > 1}))


def answer_type(processor: ProcessorMixin) -> int:
    """What the token-type inputs of an answer are: 0, as for any text, but 1 where the processor marks by them what is
    answered (PaliGemma's, which makes labels of it): all that it marks 0 is read without causal order.
    """
    return int("labels" in processor.model_input_names)


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
    """The prompt as text, up to and including the words that open the answer.

    Raises:
        GenerationFailed: the template refuses it.
    """
    messages = chat_messages(processor, prompt)
    try:
        return processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # a template is a program from elsewhere
        raise GenerationFailed(
            f"This model's chat template refuses a conversation with {len(prompt.all_images)} image(s).",
            f"It says: {error}",
            "Start a new conversation with one image in the first question, or pick another model.",
        ) from error


def open_image(path: Path) -> Image.Image:
    """The image as RGB.

    Raises:
        InvalidImage: there is no such file, or it cannot be decoded.
    """
    with _opened(path) as image:
        return image.convert("RGB")


def measure_image(path: Path) -> tuple[int, int]:
    """Width and height, read from the start of the file. Raises InvalidImage like `open_image`."""
    with _opened(path) as image:
        return image.size


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidImage(
            f"The image {Path(path).name} cannot be opened.",
            f"Reading it failed: {getattr(error, 'strerror', None) or type(error).__name__}.",
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
    text, bos = render_prompt(processor, prompt), processor.tokenizer.bos_token
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
    # Labels would ask the model for a loss of its own.
    return {name: value for name, value in encoded.items() if isinstance(value, torch.Tensor) and name != "labels"}


def takes_several_images(processor: ProcessorMixin) -> bool:
    """Whether the chat template gives each of two images in one question a place of its own."""
    one, two = (Prompt("What is in this image?", images=("picture",) * count) for count in (1, 2))
    picture = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    try:
        encode_with_images(processor, two, [picture, picture])
        return render_prompt(processor, two) != render_prompt(processor, one)
    except Exception:  # whatever a processor says to this, one picture may still be fine
        return False


def tokenize(processor: ProcessorMixin, text: str):
    """The tokens of a rendered text, with offsets where the tokenizer knows them. A template that writes the start
    token itself does not get a second one.
    """
    tokenizer, start = processor.tokenizer, processor.tokenizer.bos_token
    return tokenizer(
        text,
        add_special_tokens=not (start and text.startswith(start)),
        return_offsets_mapping=tokenizer.is_fast,
    )


def encode_answer(
    processor: ProcessorMixin, prompt: Prompt, answer: str, ends: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of an answer after its prompt, up to and with the end token, and each one's code-point range in the answer.

    `ends` are the tokens that end an answer; the first is put where the template writes none. It stands for the empty
    range at the end of the answer.
    """
    tokenizer = processor.tokenizer
    messages = chat_messages(processor, prompt)
    before = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    try:
        whole = processor.apply_chat_template(messages, tokenize=False)
    except TemplateError:
        whole = ""  # some want a question to have the last word
    tail = whole[len(before) :] if whole.startswith(before) else answer
    bare = answer.strip()  # what a template that strips leaves of it
    if answer not in tail and bare not in tail:
        tail = answer
    at = tail.find(answer) if answer in tail else tail.find(bare) - answer.find(bare)
    known = tokenize(processor, before)["input_ids"]
    tokens, start = tokenize(processor, before + tail), len(before) + at
    if tokens["input_ids"][: len(known)] == known:
        ids, ranges = tokens["input_ids"][len(known) :], tokens.get("offset_mapping", [])[len(known) :]
    else:
        # Template and answer would melt into one token, which the model that answered never saw.
        tokens = tokenizer(tail, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
        ids, ranges, start = tokens["input_ids"], tokens.get("offset_mapping", []), at
    if not ranges:
        ranges = [(start, start)] * len(ids)
    return _close(ids, [(left - start, right - start) for left, right in ranges], len(answer), ends)


def _close(ids: list[int], ranges: list[tuple[int, int]], length: int, ends: Sequence[int]):
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    if end is None:
        end = next((place for place, (left, right) in enumerate(ranges) if left >= length < right), len(ids))
        ids = [*ids[:end], ends[0]]
    offsets = [(min(left, length), min(right, length)) for left, right in ranges[:end]]
    return ids[: end + 1], [*offsets, (length, length)]
