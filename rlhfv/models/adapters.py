"""Adapters: read, translated to the names of the loaded model, refused when they would not do what they say."""

import hashlib
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError

import torch
from peft import PeftConfig, PeftModel, PeftType
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper, load_peft_weights, set_peft_model_state_dict
from safetensors import SafetensorError
from transformers import PreTrainedModel

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.errors import ModelUnavailable
from rlhfv.models.catalog import HUB_ID
from rlhfv.models.identity import adapter_identity, folder_identity, read_adapter_card

CHANGES_NOTHING = "this adapter changes nothing"
PREFIX = "base_model.model."
KEY = re.compile(r"(?P<module>.+?)(?P<leaf>\.lora_.+|\.(?:weight|bias))")
SHOWN_KEYS = 3
BASE_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to start a LoRA that take something out of the base's own weights; PEFT repeats that when it loads one."""
OUTSIDE_LORA = "non_lora_trainables.bin"
"""Where original LLaVA keeps what it trained beside the LoRA: its projector."""

RENAMED = (
    # Original LLaVA: one Llama with the tower inside. Qwen2-VL of transformers 4 names its text model the same way.
    (r"^model\.(layers|norm|embed_tokens)\b", r"model.language_model.\1"),
    (r"^model\.mm_projector\.0$", "model.multi_modal_projector.linear_1"),
    (r"^model\.mm_projector\.2$", "model.multi_modal_projector.linear_2"),
    (r"^model\.vision_tower\.vision_tower\.(?:vision_model\.)?", "model.vision_tower."),
    # transformers 4: the causal model kept whole inside, tower and projector beside it.
    (r"^language_model\.model\.", "model.language_model."),
    (r"^language_model\.lm_head$", "lm_head"),
    (r"^vision_tower\.(?:vision_model\.)?", "model.vision_tower."),
    (r"^multi_modal_projector\.", "model.multi_modal_projector."),
    (r"^visual\.", "model.visual."),
)
"""Module names of other layouts and what transformers 5 calls them, tried in order where a name is unknown."""


@dataclass
class AdapterInfo:
    """What is known of an attached adapter.

    `mixes` says that it can answer beside the baseline in one batch; `touches_vision` that it changes how images are
    encoded, so that no encoding can be shared. `notice` is empty unless people should be told something.
    """

    identity: str
    title: str
    source: str
    name: str
    mixes: bool
    touches_vision: bool
    changes_nothing: bool = False
    notice: str = ""
    card: dict = field(default_factory=dict)


def inject_adapter(
    model: PreTrainedModel, peft: PeftModel | None, folder: Path, base: ModelIdentity, title: str | None = None
) -> tuple[PeftModel, AdapterInfo]:
    """Puts the adapter of `folder` into the model, beside those that `peft` already holds.

    Returns:
        The PEFT model (a new one when `peft` is None) and what is known of the adapter.

    Raises:
        ModelUnavailable: it belongs to another base, or its weights do not fit key for key. The model is then as it
            was before.
    """
    folder = Path(folder)
    identity = adapter_identity(folder, title)
    config = _read_config(folder)
    _check_card(folder, base)
    state, renamed = translate_keys(_read_weights(folder), model)
    if renamed:
        config.target_modules = {KEY.fullmatch(key.removeprefix(PREFIX))["module"] for key in state}
    else:
        _check_named_base(folder, config, base)
    # Not of the weights alone: the same ones may be attached under two names, and each is taken out by its own.
    name = f"a{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    was_plain = peft is None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PEFT only warns of is checked and refused below
            if was_plain:
                peft = PeftModel(model, config, adapter_name=name)
            else:
                peft.add_adapter(name, config)
            result = set_peft_model_state_dict(peft, state, adapter_name=name)
        missing = [key for key in result.missing_keys if f".{name}." in f"{key}."]
        _check_keys(folder, missing, list(result.unexpected_keys))
    except ModelUnavailable:
        remove_adapter(model, peft, name)
        raise
    except Exception as error:  # settings of the wrong kind fail anywhere in PEFT, in any way
        remove_adapter(model, peft, name)
        raise ModelUnavailable(
            f"The adapter {folder.name!r} does not fit this model.",
            f"PEFT says: {first_line(error)}",
            f"Attach it to the base it was trained on ({config.base_model_name_or_path or 'its card names it'}).",
        ) from error
    peft.eval().requires_grad_(False)
    modules = _touched_modules(peft, name)
    outside = _outside_language_model(model, modules)
    info = AdapterInfo(
        identity=identity,
        title=title or identity.rsplit("@", 1)[0],
        source=str(folder),
        name=name,
        mixes=_mixes(config, modules) and not outside,
        touches_vision=bool(outside),
        card=read_adapter_card(folder),
    )
    return peft, info


def remove_adapter(model: PreTrainedModel, peft: PeftModel | None, name: str) -> PeftModel | None:
    """Takes an adapter out again and returns what is left of PEFT's model: None when the base is plain again."""
    if peft is None:
        # The first injection failed half-way: the layers it made are all there is of it.
        for parent in list(model.modules()):
            for child_name, child in list(parent.named_children()):
                if isinstance(child, BaseTunerLayer):
                    setattr(parent, child_name, child.get_base_layer())
    else:
        others = [other for other in peft.peft_config if other != name]
        if others:
            peft.set_adapter(others[0], inference_mode=True)
            if name in peft.peft_config:
                peft.delete_adapter(name)
            return peft
        peft.unload()
    vars(model).pop("peft_config", None)
    model.requires_grad_(False)
    return None


def translate_keys(state: dict[str, torch.Tensor], model: PreTrainedModel) -> tuple[dict[str, torch.Tensor], bool]:
    """The weights under the module names of `model`, and whether any had another layout's name.

    Raises:
        ModelUnavailable: a name belongs to no module of the model; the first ones are named.
    """
    known = {name.replace(".base_layer", "") for name, _ in model.named_modules()}
    translated, unknown, renamed = {}, [], False
    for key, value in state.items():
        parts = KEY.fullmatch(key.removeprefix(PREFIX))
        module = _known_module(parts["module"], known) if parts else None
        if module is None:
            unknown.append(key)
        else:
            renamed = renamed or module != parts["module"]
            translated[f"{PREFIX}{module}{parts['leaf']}"] = value
    if unknown:
        raise ModelUnavailable(
            f"The adapter has {len(unknown)} weights for modules that this model does not have.",
            f"The first are {', '.join(unknown[:SHOWN_KEYS])}; loaded anyway, they would change nothing.",
            "Attach it to the base it was trained on.",
        )
    return translated, renamed


def _known_module(module: str, known: set[str]) -> str | None:
    if module in known:
        return module
    for pattern, replacement in RENAMED:
        candidate, count = re.subn(pattern, replacement, module)
        if count and candidate in known:
            return candidate
    return None


def first_line(error: BaseException) -> str:
    """What a library says, without its explanations below; its kind when it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _read_config(folder: Path) -> PeftConfig:
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise ModelUnavailable(
            f"The settings of the adapter {folder.name!r} cannot be read.",
            f"PEFT says: {error}",
            "Attach a LoRA adapter that PEFT's save_pretrained wrote.",
        ) from error
    if config.peft_type != PeftType.LORA:
        raise ModelUnavailable(
            f"The adapter {folder.name!r} is of the kind {getattr(config.peft_type, 'value', config.peft_type)}.",
            "Only LoRA and its variants can be checked weight by weight to do what they say.",
            "Attach a LoRA adapter.",
        )
    start = config.init_lora_weights
    if isinstance(start, str) and start.lower().startswith(BASE_CHANGING_STARTS):
        raise ModelUnavailable(
            f"The adapter {folder.name!r} was started with {start!r}.",
            "Such an adapter is meant for a base with other weights than the stored ones; loading it would change "
            "what the baseline says.",
            "Save it once more as a plain LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion).",
        )
    config.inference_mode = True
    return config


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    if (folder / OUTSIDE_LORA).is_file():
        raise ModelUnavailable(
            f"The adapter {folder.name!r} keeps a part of what was trained in {OUTSIDE_LORA}.",
            "PEFT does not read that file, so the adapter would do less than it says.",
            "Merge it into its base with the software that trained it and take the whole model (--model), or delete "
            "that file if the LoRA alone is wanted.",
        )
    try:
        return load_peft_weights(str(folder), device="cpu")
    except (SafetensorError, UnpicklingError, OSError, RuntimeError) as error:
        raise ModelUnavailable(
            f"The weights of the adapter {folder.name!r} cannot be read.",
            f"The file is cut short or no weights: {error}",
            "Download or export the adapter again.",
        ) from error


def _check_card(folder: Path, base: ModelIdentity) -> None:
    """Adapters of this studio say exactly what they were trained on."""
    trained_on = read_adapter_card(folder).get("base")
    if trained_on is None:
        return
    name, revision = trained_on["name"], trained_on["revision"]
    if len(revision) == len(base.revision):
        same = revision == base.revision
    else:  # a commit and a folder's sha256 cannot be compared: the same model may be a Hub id here, a copy there
        same = name.rsplit("/", 1)[-1] == base.name.rsplit("/", 1)[-1]
    if not same:
        _refuse_other_base(folder, f"{name}@{revision[:12]}", base)


def _check_named_base(folder: Path, config: PeftConfig, base: ModelIdentity) -> None:
    """Adapters from elsewhere name a Hub id or a folder; what can be compared has to agree."""
    named = config.base_model_name_or_path
    if not named or read_adapter_card(folder).get("base"):
        return
    if Path(named).is_dir():
        other = folder_identity(Path(named))
        if len(other.revision) == len(base.revision) and other.revision != base.revision:
            _refuse_other_base(folder, f"{other.name}@{other.revision[:12]}", base)
    elif HUB_ID.fullmatch(named) and "/" in base.name and named.lower() != base.name.lower():
        _refuse_other_base(folder, named, base)


def _refuse_other_base(folder: Path, trained_on: str, base: ModelIdentity) -> None:
    raise ModelUnavailable(
        f"The adapter {folder.name!r} was trained on {trained_on}.",
        f"The model in memory is {base.name}@{base.revision[:12]}; on another base its changes mean something else.",
        "Start the studio with that base (--model), or attach an adapter of this one.",
    )


def _check_keys(folder: Path, missing: list[str], unexpected: list[str]) -> None:
    if missing or unexpected:
        kinds = [("missing", missing), ("unexpected", unexpected)]
        found = "; ".join(f"{len(keys)} {kind}: {', '.join(keys[:SHOWN_KEYS])}" for kind, keys in kinds if keys)
        raise ModelUnavailable(
            f"The weights of the adapter {folder.name!r} do not fit this model key for key.",
            f"{found}. Loaded anyway, it would change less than it says, or nothing.",
            "Attach it to the base it was trained on, or save it again with PEFT's save_pretrained.",
        )


def _touched_modules(peft: PeftModel, name: str) -> dict[str, torch.nn.Module]:
    """Names in the base model and wrappers of every module that the adapter changes."""
    touched = {}
    for module_name, module in peft.get_base_model().named_modules():
        if isinstance(module, BaseTunerLayer):
            holders = [getattr(module, attribute) for attribute in module.adapter_layer_names]
            if any(name in holder for holder in holders if hasattr(holder, "keys")):
                touched[module_name] = module
        elif isinstance(module, AuxiliaryTrainingWrapper) and name in module._adapters:
            touched[module_name] = module
    return touched


def _outside_language_model(model: PreTrainedModel, touched: dict[str, torch.nn.Module]) -> list[str]:
    """Touched modules that are neither in the text model nor its input or output embedding: tower and projector."""
    inside = {id(module) for module in model.get_decoder().modules()}
    inside |= {id(module) for module in (model.get_output_embeddings(), model.get_input_embeddings())}
    return [name for name, module in touched.items() if id(module) not in inside]


def _mixes(config: PeftConfig, touched: dict[str, torch.nn.Module]) -> bool:
    """Whether PEFT can serve it row by row: plain LoRA only, none of its variants, no whole modules beside it."""
    return (
        not config.target_parameters
        and not any(isinstance(module, AuxiliaryTrainingWrapper) for module in touched.values())
        and not any(getattr(module, "lora_variant", None) for module in touched.values())
    )
