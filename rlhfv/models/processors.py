"""Processors for images and text, put together without their video half.

A video processor needs torchvision, which many machines lack; this studio shows images only. Images are prepared by
Pillow wherever the model has such a processor, so that the same picture becomes the same pixels on every machine.
"""

import json
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING, processor_class_from_name
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from rlhfv.errors import ModelUnavailable

CLASS_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
IMAGE_AND_TEXT = {"image_processor", "tokenizer", "qformer_tokenizer", "video_processor"}
PROCESSOR_FILES = (
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
    *("chat_template.*", "additional_chat_templates", "qformer_tokenizer"),
)
"""Files of a model folder that say how images and text become its inputs."""

PLAIN_TEMPLATES = {
    # Pictures, then one line a turn; the processor itself puts the start token and the line end of the question.
    "PaliGemmaProcessor": (
        "{% for m in messages %}{% for part in m['content'] if part['type'] == 'image' %}<image>{% endfor %}"
        "{% endfor %}{% set asked = messages | length - (messages[-1]['role'] == 'assistant') | int %}"
        "{% for m in messages %}{% set turn = loop.index %}"
        "{% for part in m['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
        "{{ '\\n' if turn < asked else eos_token if turn > asked else '' }}{% endfor %}"
    ),
    # The format of visual questions that BLIP-2 and InstructBLIP were trained on; the processor puts the picture.
    "InstructBlipProcessor": (
        "{% set parts = messages | map(attribute='content') | sum(start=[]) %}"
        "{% if parts | selectattr('type', 'equalto', 'image') | list | length != 1 %}"
        "{{ raise_exception('it answers about exactly one picture') }}{% endif %}"
        "{% for m in messages %}{% set last = loop.last %}{% set asks = m['role'] == 'user' %}"
        "{% for part in m['content'] if part['type'] == 'text' %}"
        "{{ 'Question: ' if asks else ' ' }}{{ part['text'] | trim }}"
        "{{ ' Answer:' if asks else eos_token if last else '\\n' }}{% endfor %}{% endfor %}"
    ),
}
"""Prompts of families that are published without a chat template, by the class of their processor."""


def load_processor(folder: Path, square: bool = False) -> ProcessorMixin:
    """The processor of a model folder, with left padding and a chat template. With `square` it pads pictures to a
    square, whatever its own settings say.

    Raises:
        ModelUnavailable: the folder has no usable processor or no chat template.
    """
    folder = Path(folder)
    try:
        processor = _assemble(folder)
    except (ImportError, OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelUnavailable(
            f"The processor of {folder.name!r} cannot be loaded.",
            f"transformers says: {error}",
            "Name a complete image-text-to-text model; a package that is named above has to be installed.",
        ) from error
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise ModelUnavailable(
            f"{folder.name!r} comes with a {type(processor).__name__}.",
            "A chat about images needs a processor that holds both an image processor and a tokenizer.",
            "Pick an image-text-to-text model, such as a LLaVA, Qwen-VL or SmolVLM.",
        )
    processor.tokenizer.padding_side = "left"
    if square:
        processor.image_processor = LlavaImageProcessorPil(**square_settings(processor.image_processor))
    if getattr(processor, "chat_template", None) is None:
        processor.chat_template = processor.tokenizer.chat_template
    if processor.chat_template is None:
        processor.chat_template = PLAIN_TEMPLATES.get(type(processor).__name__)
    if processor.chat_template is None:
        raise ModelUnavailable(
            f"The model {folder.name!r} has no chat template.",
            "Without one nobody knows how it expects questions, images and earlier answers.",
            "Pick the instruction-tuned variant, or put a chat_template.jinja into the model's folder.",
        )
    return processor


def square_settings(preparation) -> dict:
    """The settings of CLIP's preparation of pictures, changed to pad them to a square with the mean colour before they
    are resized, as LLaVA was trained; plain CLIP cuts off what lies beside the middle square."""
    settings = preparation.to_dict()
    side = settings["crop_size"]["height"]
    return settings | {
        "image_processor_type": "LlavaImageProcessor",
        "do_pad": True,
        "size": {"shortest_edge": side},
        "do_center_crop": True,
    }


def pads_to_square(processor: ProcessorMixin) -> bool:
    return isinstance(processor.image_processor, LlavaImageProcessorPil) and processor.image_processor.do_pad


def copy_processor(folder: Path, target: Path) -> None:
    """Copies the files of a model's processor as they are: saved from memory they would lack their video half."""
    for path in sorted({path for pattern in PROCESSOR_FILES for path in Path(folder).glob(pattern)}):
        if path.is_dir():
            shutil.copytree(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)


def _assemble(folder: Path) -> ProcessorMixin:
    kind = _processor_class(folder)
    if kind is None or not set(kind.get_attributes()) <= IMAGE_AND_TEXT:
        return AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    parts = {
        "image_processor": AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False),
        "tokenizer": AutoTokenizer.from_pretrained(folder, trust_remote_code=False),
        "video_processor": None,
    }
    if "qformer_tokenizer" in kind.get_attributes():
        parts["qformer_tokenizer"] = AutoTokenizer.from_pretrained(
            folder, subfolder="qformer_tokenizer", trust_remote_code=False
        )
    settings, _ = kind.get_processor_dict(folder)
    settings.pop("video_processor", None)
    return _without_video(kind).from_args_and_dict([parts[name] for name in kind.get_attributes()], settings)


def _processor_class(folder: Path) -> type[ProcessorMixin] | None:
    for name in CLASS_FILES:
        path = folder / name
        if path.is_file() and (kind := json.loads(path.read_text(encoding="utf-8")).get("processor_class")):
            return processor_class_from_name(kind)
    config = type(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    return PROCESSOR_MAPPING.get(config, None)


@cache
def _without_video(kind: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """A subclass of the same name that neither wants nor saves a video processor."""
    attributes = kind.get_attributes()
    if "video_processor" not in attributes:
        return kind
    if kind.__name__ == "SmolVLMProcessor":
        # It refuses to exist without num2words, which it calls for the prompts of videos only.
        from transformers.models.smolvlm import processing_smolvlm

        processing_smolvlm.num2words = processing_smolvlm.num2words or str
    return type(
        kind.__name__,
        (kind,),
        {
            "get_attributes": classmethod(lambda cls: [name for name in attributes if name != "video_processor"]),
            # SmolVLM's apply_chat_template reads these two even when there is no video.
            "video_processor": SimpleNamespace(num_frames=None, fps=None),
            "__module__": kind.__module__,
        },
    )
