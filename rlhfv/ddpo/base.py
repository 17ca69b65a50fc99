"""The base of a run: loaded through the models floor, made ready to be trained, checked to be the one that was
frozen."""

import contextlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import PartialState
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel, ProcessorMixin

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.errors import ModelUnavailable, RunFailed
from rlhfv.models.catalog import (
    Entry,
    choose_device,
    estimate_memory,
    fetch_config,
    fetch_files,
    find_entry,
    possible_dtypes,
)
from rlhfv.models.identity import folder_identity
from rlhfv.models.local import LocalModel
from rlhfv.models.quantised import four_bit_layers, refuse_four_bit_without_its_library

BASE_PATH_VARIABLE = "RLHFV_BASE_PATH"


@dataclass
class Base:
    """A loaded base. `folder` holds its files, `name` and `revision` are its identity; `bfloat16` says that the run
    computes in it, `weights` how its linear layers are held (see `TrainingConfig.base_weights`)."""

    model: PreTrainedModel
    processor: ProcessorMixin
    folder: Path
    name: str
    revision: str
    bfloat16: bool
    weights: str = "full"

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Tokens that end an answer, the tokenizer's own first."""
        return end_tokens(self.processor.tokenizer, self.model.generation_config.eos_token_id)


def end_tokens(tokenizer, configured: int | list[int] | None) -> tuple[int, ...]:
    """The tokenizer's end token, then those of the generation config."""
    more = configured if isinstance(configured, (list, tuple)) else [configured]
    found = [token for token in [tokenizer.eos_token_id, *more] if token is not None]
    if not found:
        raise ModelUnavailable(
            "The model names no token that ends an answer.",
            "Then nothing can teach it where to stop.",
            "Add eos_token_id to its generation_config.json.",
        )
    return tuple(dict.fromkeys(found))


def find_base(base: dict) -> Entry:
    """The entry of a run's base: the folder that the environment names, else the source in the run's config."""
    path = os.environ.get(BASE_PATH_VARIABLE)
    if path:
        return find_entry(path)
    source = base["source"]
    return find_entry(source, base["revision"] if "/" in source else None)


def load_base(entry: Entry, config: TrainingConfig, expected: dict | None = None) -> Base:
    """Load model and processor, with every dropout off: the policy has to equal its reference before the first step.

    Raises:
        RunFailed: it is not the base named by `expected` ({"name", "revision"}), or no decoder.
        ModelUnavailable: it cannot be loaded, or not held as the settings say.
    """
    bfloat16 = computes_in_bfloat16(entry, config)
    # Full tuning keeps float32 weights under a bfloat16 computation: its steps are too small for bfloat16 to hold.
    dtype = torch.bfloat16 if bfloat16 and not config.full_tuning else torch.float32
    state, four_bit = PartialState(), None
    split = config.split_weights and state.num_processes > 1
    device = torch.device("cpu") if split else state.device
    if config.base_weights == "4-bit":
        refuse_four_bit_without_its_library(device)
        four_bit = four_bit_layers(entry, dtype)
    local = LocalModel.load(entry, device=str(device), dtype=dtype, quantisation=four_bit)
    model, identity = local.model, local.identity
    if expected and identity.revision != expected["revision"]:
        raise RunFailed(
            f"The base {identity.name} is now {identity.revision[:12]}.",
            f"The run was started with {expected['name']} {expected['revision'][:12]}.",
            "Bring that base back, or start a new run with this one.",
        )
    if model.config.get_text_config().is_encoder_decoder:
        raise RunFailed(
            f"{identity.name} reads its prompt with an encoder and answers with a decoder.",
            "Here an answer is scored as the continuation of its prompt.",
            "Train a model whose text part is a decoder alone, such as InstructBLIP with Vicuna.",
        )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Without a GPU bitsandbytes repacks 4-bit layers at their first answer; gradients get lost in them then.
            module.support_avx512bf16_for_cpu = False
    model.requires_grad_(False)
    return Base(model, local.processor, local.folder, identity.name, identity.revision, bfloat16, config.base_weights)


def computes_in_bfloat16(entry: Entry, config: TrainingConfig) -> bool:
    """Whether a run of this base with these settings computes in bfloat16 on this machine."""
    device = choose_device()
    if config.precision != "auto" or device.type != "cuda":
        return config.precision == "bfloat16"
    model_config = fetch_config(entry)
    parameters = estimate_memory(model_config, torch.float32).parameters
    return possible_dtypes(model_config, device, parameters)[0] == torch.bfloat16


def base_identity(entry: Entry) -> ModelIdentity:
    """What a run's config calls this base, known without loading it."""
    folder = fetch_files(entry)
    if entry.is_local:
        return replace(folder_identity(folder), name=entry.id)
    return ModelIdentity(entry.source, folder.name)


def make_trainable(base: Base, config: TrainingConfig) -> torch.nn.Module:
    """The model to train: the base with a LoRA adapter in its language model, or the base with every weight free. In
    bfloat16 the adapter stays float32 and has to run under autocast.

    Raises:
        RunFailed: an adapter would touch anything but the language model.
    """
    torch.manual_seed(config.seed)
    if config.full_tuning:
        model = base.model.float().requires_grad_(True)
        compute_layers_again(model, config.gradient_checkpointing)
        return model
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=language_targets(base.model, config.lora_targets),
    )
    model = get_peft_model(base.model, lora)
    if base.bfloat16:
        # Autocast rounds an adapter's input by itself; PEFT's own cast would keep a float32 copy for every layer.
        for layer in model.modules():
            if isinstance(layer, BaseTunerLayer):
                layer.cast_input_dtype_enabled = False
    # PEFT takes the folder that the model was loaded from; what leaves this machine names the base.
    model.peft_config["default"].base_model_name_or_path = base.name
    model.peft_config["default"].revision = base.revision if "/" in base.name else None
    inside = {id(parameter) for parameter in base.model.get_decoder().parameters()}
    outside = [name for name, value in model.named_parameters() if value.requires_grad and id(value) not in inside]
    if outside:
        raise RunFailed(
            f"The adapter would train {outside[0]}.",
            "It belongs to the language model only, so that images keep their meaning and their features can be kept.",
            "Report this model's name: its layers are not named as expected.",
        )
    compute_layers_again(base.model.get_decoder(), config.gradient_checkpointing)
    return model


def compute_layers_again(model: PreTrainedModel, every: int) -> None:
    """Let every n-th layer of `model` keep its inputs only and compute the rest again in the backward pass; 0: none.

    Raises:
        RunFailed: the model's layers cannot.
    """
    if not every:
        return
    if not model.supports_gradient_checkpointing:
        raise RunFailed(
            f"{type(model).__name__} cannot compute its activations again.",
            "transformers has no gradient checkpointing for it.",
            "Set gradient_checkpointing to 0.",
        )
    model.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=every)
    # It also lets gradients into the embeddings, in a tower into its pixels. Only reentrant checkpoints need that.
    model.disable_input_require_grads()


def language_targets(model: PreTrainedModel, which: str) -> str:
    """A regular expression that fits the names of the language model's linear layers and of nothing else."""
    decoder = model.get_decoder()
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    linear = [name for name, module in decoder.named_modules() if isinstance(module, torch.nn.Linear)]
    if which == "attention":
        linear = [name for name in linear if "attn" in name or "attention" in name]
    if not linear:
        raise RunFailed(
            f"{type(decoder).__name__} has no linear layer that an adapter could be put on.",
            "LoRA needs them by name.",
            "Choose other LoRA targets, or full tuning.",
        )
    shapes = sorted({re.sub(r"\\\.\d+(?=\\\.|$)", r"\\.\\d+", re.escape(name)) for name in linear})
    return rf"(.*\.)?{re.escape(prefix)}\.({'|'.join(shapes)})"


def without_adapter(model: torch.nn.Module):
    """A context in which the model is its own reference."""
    return model.disable_adapter() if isinstance(model, PeftModel) else contextlib.nullcontext()
