"""What a training run made, as a folder that other software serves: a PEFT adapter, or the whole model."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.errors import RunFailed
from rlhfv.run_folder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin


def export_run(folder: RunFolder, target: Path, merge: bool = False, base_path: Path | None = None) -> Path:
    """Write to `target`, which must not exist: the adapter as PEFT reads it, or with `merge` the base with the adapter
    worked into its weights, in the base's own precision, with the base's own processor files. After full tuning the
    trained model is given in either case.

    Args:
        base_path: where the base lives, when it is a folder of this machine.

    Raises:
        RunFailed: the run made nothing, or the target exists.
        ModelUnavailable: the base for merging cannot be loaded, or is another one.
    """
    target = Path(target)
    if target.exists():
        raise RunFailed(
            f"{target.name!r} exists already.", "Nothing is overwritten.", "Name a folder that is not there."
        )
    source = folder.model if folder.model.is_dir() else folder.adapter
    if not source.is_dir():
        raise RunFailed(
            f"The run {folder.id!r} made neither adapter nor model.",
            "It did not come to its end, or it is an evaluation.",
            "Resume it, then export it.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.with_name(f".{target.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    if merge and source == folder.adapter:
        _merge(folder, building, base_path)
    else:
        shutil.copytree(source, building)
    building.rename(target)
    return target


def save_whole_model(model: "PreTrainedModel", processor: "ProcessorMixin", base: Path, target: Path) -> None:
    """Write weights and config of `model` to `target`, and beside them what the folder `base` has for its processor
    and for generation, byte for byte: what loads the base loads this. Where `processor` pads pictures to a square and
    the files do not say so, they do then."""
    from rlhfv.models.llava_layout import pad_pictures
    from rlhfv.models.processors import copy_processor, pads_to_square

    model.save_pretrained(target)
    copy_processor(base, target)
    if pads_to_square(processor):
        pad_pictures(target)
    if (base / "generation_config.json").is_file():  # in memory it is set for answers in rows
        shutil.copyfile(base / "generation_config.json", target / "generation_config.json")


def _merge(folder: RunFolder, target: Path, base_path: Path | None) -> None:
    import torch
    from peft import PeftModel

    from rlhfv.ddpo.base import base_identity, find_base
    from rlhfv.models.catalog import fetch_config, find_entry
    from rlhfv.models.local import LocalModel

    frozen = folder.read_config()["base"]
    entry = find_entry(str(base_path)) if base_path else find_base(frozen)
    revision = base_identity(entry).revision
    if revision != frozen["revision"]:
        raise RunFailed(
            f"The base {entry.id} is now {revision[:12]}.",
            f"The adapter was trained on {frozen['revision'][:12]}.",
            "Bring that base back, or export without merging.",
        )
    local = LocalModel.load(entry, device="cpu")
    merged = PeftModel.from_pretrained(local.model, folder.adapter).merge_and_unload()
    stored = getattr(fetch_config(entry), "dtype", None) or torch.float32
    save_whole_model(merged.to(stored), local.processor, local.folder, target)
    for name in ("README.md", "rlhfv.json"):
        shutil.copy(folder.adapter / name, target / name)
