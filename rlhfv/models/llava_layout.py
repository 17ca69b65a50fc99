"""Checkpoints in the layout of the original LLaVA code (liuhaotian/llava-v1.5-…, openbmb/RLAIF-V-7B) as folders that
transformers loads."""

import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rlhfv.errors import ModelUnavailable
from rlhfv.models.adapters import RENAMED
from rlhfv.models.catalog import MODEL_FILES, outline_model, read_licence
from rlhfv.models.fetching import download
from rlhfv.models.identity import weight_files
from rlhfv.models.processors import copy_processor, load_processor, square_settings

ORIGINAL_TYPES = ("llava", "llava_llama", "llava_mistral")
SKIPPED = (".inv_freq", ".position_ids")
"""Buffers of older transformers, which are computed now."""
SAME_SIZES = {
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
}
"""Field of an original config → field of the text config."""


def convert_llava(source: Path, like: Path, target: Path) -> None:
    """Writes the model of `source` to the new folder `target`.

    Tokenizer, template and sizes are those of `like`, a transformers LLaVA of the same shape, whose vocabulary has the
    image token. Pictures are padded to a square where the original was trained so (`image_aspect_ratio: pad`), not
    cropped. A vision tower that the checkpoint only names is fetched.

    Raises:
        ModelUnavailable: `source` is in another layout, its sizes are not those of `like`, weights are missing or
            left over, or `target` exists.
    """
    from transformers import AutoConfig

    if target.exists():
        raise ModelUnavailable(
            f"{str(target)!r} exists already.",
            "A converted model goes into a folder of its own, so that nothing is overwritten.",
            "Name a new folder.",
        )
    original = _read_original(source)
    config = AutoConfig.from_pretrained(like)
    _check_shape(original, config, like)
    expected = {name: value.shape for name, value in outline_model(config).state_dict().items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    building.chmod(0o755)  # as any new folder; mkdtemp lets nobody else read it
    try:
        _write_weights(source, original, expected, building)
        for name in ("config.json", "generation_config.json"):
            if (like / name).is_file():
                shutil.copyfile(like / name, building / name)
        copy_processor(like, building)
        if original.get("image_aspect_ratio") == "pad":
            pad_pictures(building)
        _write_card(source, building)
        os.replace(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def converted_copy(name: str, source: Path, like: Path) -> Path:
    """The folder in which the snapshot `source` of the Hub's `name` lies converted; made when it is not there yet. It
    is called by the snapshot's commit and lies in the Hub's own cache.

    Raises:
        ModelUnavailable: as `convert_llava`, or it cannot be written there.
    """
    from huggingface_hub import constants

    target = Path(constants.HF_HUB_CACHE) / "converted" / name.replace("/", "--") / source.name
    with _converting:
        try:
            if not target.is_dir():
                convert_llava(source, like, target)
        except OSError as error:
            if not target.is_dir():  # else another process was there first
                raise ModelUnavailable(
                    f"{name!r} cannot be laid out for transformers.",
                    f"A copy of it has to lie in {str(target.parent)!r}: {error.strerror or error}.",
                    "Make room for it there, or name another cache in HF_HUB_CACHE.",
                ) from error
    return target


_converting = threading.Lock()


def pad_pictures(folder: Path) -> None:
    """Lets the processor of a LLaVA folder pad pictures to a square with the mean colour before they are resized, as
    the original does; plain CLIP preparation cuts off what lies beside the middle square."""
    settings = square_settings(load_processor(folder).image_processor)
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2, default=str) + "\n")
    processor = folder / "processor_config.json"
    if processor.is_file():
        fields = json.loads(processor.read_text(encoding="utf-8"))
        fields.pop("image_processor", None)  # newer folders keep it here, and it would win
        processor.write_text(json.dumps(fields, indent=2) + "\n")


def _read_original(source: Path) -> dict:
    path = source / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if config.get("model_type") not in ORIGINAL_TYPES or "mm_projector_type" not in config:
        raise ModelUnavailable(
            f"{source.name!r} is no checkpoint of the original LLaVA code.",
            f"Its config.json names the model type {config.get('model_type')!r} and no mm_projector_type.",
            "Name the folder of such a checkpoint; what transformers knows needs no conversion.",
        )
    if config["mm_projector_type"] != "mlp2x_gelu":
        raise ModelUnavailable(
            f"The projector of {source.name!r} is of the kind {config['mm_projector_type']!r}.",
            "transformers' LLaVA has two linear layers with a GELU between them (mlp2x_gelu) and nothing else.",
            "Convert a LLaVA-1.5 or later.",
        )
    return config


def _check_shape(original: dict, config, like: Path) -> None:
    if config.model_type != "llava":
        raise ModelUnavailable(
            f"{like.name!r} is a {config.model_type} model.",
            "Sizes and tokenizer have to come from a LLaVA of the same shape.",
            "Name one, such as llava-hf/llava-1.5-7b-hf.",
        )
    text = config.text_config
    wanted = {field: original.get(field) for field in SAME_SIZES}
    found = {field: getattr(text, name) for field, name in SAME_SIZES.items()}
    wanted["mm_vision_select_layer"] = original.get("mm_vision_select_layer", -2)
    found["mm_vision_select_layer"] = config.vision_feature_layer
    other = [name for name in wanted if wanted[name] is not None and wanted[name] != found[name]]
    if original.get("vocab_size", 0) > config.image_token_id:  # else the image token would be one of its words
        other.append("vocab_size")
    if other:
        raise ModelUnavailable(
            f"{like.name!r} has another {' and '.join(other)} than the checkpoint.",
            "Its tokenizer and sizes would not fit the weights.",
            "Name a transformers LLaVA of the same size: llava-hf/llava-1.5-7b-hf or -13b-hf.",
        )


def _write_weights(source: Path, original: dict, expected: dict[str, torch.Size], folder: Path) -> None:
    """One file at a time, so that a model larger than the memory converts too."""
    files, index, unknown = 0, {}, []
    for shard in _shards(source, original):
        kept = {}
        for key, value in shard.items():
            name = _new_name(key, expected)
            if name is None:
                unknown += [] if key.endswith(SKIPPED) else [key]
            elif (fitted := _fit(name, value, expected[name])) is not None:
                kept[name] = fitted
        if kept:
            files += 1
            save_file(kept, folder / f"part-{files}.safetensors", {"format": "pt"})
            index |= dict.fromkeys(kept, files)
    missing = sorted(set(expected) - set(index))
    if unknown or missing:
        raise ModelUnavailable(
            f"{len(missing)} weights are missing and {len(unknown)} have no place in a LLaVA.",
            f"The first are {', '.join([*missing, *unknown][:3])}; without them it would be another model.",
            "Download the checkpoint again, or name the one that it was made from with --like.",
        )
    names = {number: f"model-{number:05}-of-{files:05}.safetensors" for number in range(1, files + 1)}
    for number, name in names.items():
        (folder / f"part-{number}.safetensors").rename(folder / name)
    size = sum((folder / name).stat().st_size for name in names.values())
    weight_map = {name: names[number] for name, number in sorted(index.items())}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": weight_map}, indent=1) + "\n"
    )


def _shards(source: Path, original: dict) -> Iterator[dict[str, torch.Tensor]]:
    has_tower = False
    for path in weight_files(source):
        shard = _load(path)
        has_tower = has_tower or any("vision_tower" in key for key in shard)
        yield shard
    tower = original.get("mm_vision_tower")
    if tower and not has_tower:
        folder = Path(tower) if Path(tower).is_dir() else download(tower, None, (*MODEL_FILES, "pytorch_model*.bin"))
        for path in weight_files(folder):
            shard = _load(path)
            prefix = "model.vision_tower.vision_tower."
            yield {f"{prefix}{key}": value for key, value in shard.items() if key.startswith("vision_model.")}


def _load(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (SafetensorError, UnpicklingError, OSError, RuntimeError, EOFError) as error:
        raise ModelUnavailable(
            f"{path.name!r} cannot be read.",
            f"The file is cut short or holds no weights: {error}",
            "Download the checkpoint again.",
        ) from error


def _new_name(key: str, expected: dict) -> str | None:
    candidates = [key, *(re.sub(pattern, new, key) for pattern, new in _PARAMETERS)]
    return next((name for name in candidates if name in expected), None)


_PARAMETERS = [(pattern.replace("$", r"(?=\.(?:weight|bias)$)"), new) for pattern, new in RENAMED]


def _fit(name: str, value: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """The weight in the shape of `like`: the vocabulary gets rows for the image token and for padding, which are the
    mean of the others, so that none of them is ever the likeliest."""
    if value.shape != shape and value.dim() == 2 and value.shape[1:] == shape[1:] and len(value) < shape[0]:
        mean = value.float().mean(0, keepdim=True).to(value.dtype)
        value = torch.cat([value, mean.expand(shape[0] - len(value), -1)])
    if value.shape != shape:
        raise ModelUnavailable(
            f"{name} has the shape {tuple(value.shape)}.",
            f"In a model of this size it is {tuple(shape)}.",
            "Name a transformers LLaVA of the same size with --like.",
        )
    return value.contiguous()


def _write_card(source: Path, folder: Path) -> None:
    licence = read_licence(source)
    header = f"---\nlicense: {licence}\n---\n\n" if licence else ""
    text = f"# {source.name}\n\nThe weights of {source.name} in the layout of transformers; nothing was trained.\n"
    (folder / "README.md").write_text(header + text, encoding="utf-8")
