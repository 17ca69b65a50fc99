"""What can be chosen as the base: the demo, any Hub id, any local folder, with licence, notice and price in memory.

Nothing here imports torch or transformers until a model is measured, so that listings and `--help` stay quick.
"""

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rlhfv.corrections.edits import Edit
from rlhfv.errors import ModelUnavailable
from rlhfv.models.fetching import download
from rlhfv.models.identity import own_name
from rlhfv.models.known import Known, find_known
from rlhfv.settings import DEMO_MODEL, NO_MODEL, on_zero_gpu
from rlhfv.units import human_bytes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

CONTAINER = Path("/sys/fs/cgroup")
DEMO_FOLDER = Path(__file__).parent / "demo"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "README.md")
SMALL_FILES = tuple(name for name in MODEL_FILES if "safetensors" not in name)
"""All but the weights."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.*", "non_lora_trainables.bin", "rlhfv.json", "README.md")

SMALL_MODEL = 100_000_000
"""Parameters up to which a model is loaded in float32 everywhere: half precision would save nothing that matters."""
CONTEXT_TOKENS = 2048
"""Tokens per row that a memory estimate leaves room for."""


class World(Protocol):
    """A made world whose truth is known: it draws scenes, and judges what is said about them.

    A scene is named by its source, such as "demo:test/17"; its picture is the same PNG bytes each time. The base that
    comes with the world is known to describe `first_scene` wrongly. `habits` are what it was taught to invent: a thing
    that is seen → a thing that is named with it, whether it is there or not.
    """

    questions: tuple[str, ...]
    description_question: str
    first_scene: str
    habits: Mapping[str, str]

    def draw(self, split: str, seed: int) -> tuple[bytes, str]:
        """A scene's picture and its source."""

    def picture(self, source: str) -> bytes:
        """The picture of a source."""

    def truth(self, source: str) -> object:
        """What is in the picture."""

    def annotate(self, source: str, question: str, answer: str) -> tuple[Edit, ...]:
        """The smallest corrections that make the answer true."""

    def fresh_seed(self, split: str) -> int:
        """A seed of the split, drawn by chance."""

    def example_sources(self, count: int = 6) -> tuple[str, ...]:
        """Sources of pictures to begin with."""

    def review(self, source: str, question: str, answer: str) -> Sequence:
        """Every claim of the answer: `start`, `end`, `kind`, `is_true`."""

    def named(self, answer: str) -> set[str]:
        """The kinds of things that an answer names and does not deny."""

    def measure(self, answers: Iterable[tuple[str, str]]) -> Sequence:
        """Counts for each (source, description), from which rates and intervals are made."""


@dataclass(frozen=True)
class AdapterRef:
    """An adapter that is offered with a base: a folder or a Hub id, and the name people see."""

    source: str
    title: str


@dataclass(frozen=True)
class Entry:
    """A base that can be loaded. `source` is a Hub id or a folder; `revision` a commit of the Hub, None: the newest.

    `world` is set where a known truth exists; its own example pictures then come first. `examples` are (path of a
    picture, label). `one_picture` says that the model was never taught to tell two pictures of a conversation apart.
    `known` is what is known of the model, whoever names it; `adapters` and `beside`, the other whole model that it is
    compared with, are offered to who named it by its short name.
    """

    id: str
    title: str
    source: str
    revision: str | None = None
    licence: str = ""
    notice: str = ""
    world: World | None = None
    examples: tuple[tuple[Path, str], ...] = ()
    adapters: tuple[AdapterRef, ...] = ()
    one_picture: bool = False
    is_local: bool = True
    known: Known | None = None
    beside: str = ""

    @property
    def square(self) -> bool:
        """Whether pictures are padded to a square."""
        return self.known is not None and self.known.square


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a model needs in one precision; `working` is what two answers at once take beside the weights."""

    parameters: int
    weights: int
    working: int

    @property
    def total(self) -> int:
        return self.weights + self.working


def demo_entry() -> Entry:
    """The model that ships with the studio."""
    world = importlib.import_module("rlhfv.models.demo.world").DemoWorld()
    return Entry(
        id=DEMO_MODEL,
        title="Demo model",
        source=str(DEMO_FOLDER / "weights"),
        licence="apache-2.0",
        notice=f"Knows {len(world.classes())} objects in drawn scenes; pick a real model for photos.",
        world=world,
        one_picture=True,
        adapters=(AdapterRef(str(DEMO_FOLDER / "adapter"), "Aligned with oracle corrections"),),
    )


def no_entry() -> Entry:
    """In place of a base where all voices are on servers. It has no source, so it cannot be loaded."""
    return Entry(
        id=NO_MODEL,
        title="Voices on servers",
        source="",
        notice="No model on this machine: training, hints and evaluation need weights here. Start with --model too.",
        is_local=False,
    )


SHIPPED = {DEMO_MODEL: demo_entry, NO_MODEL: no_entry}


def find_entry(name: str, revision: str | None = None) -> Entry:
    """The entry for 'demo', 'none', a local folder, a short name of `known.py` or a Hub id. Touches no network.

    Raises:
        ModelUnavailable: the name is none of them, or has no revisions.
    """
    folder = Path(name).expanduser()
    if revision and (name in SHIPPED or (name and folder.is_dir())):
        raise ModelUnavailable(
            f"A revision was named for {name!r}: {revision!r:.80}.",
            "Only models of the Hub have revisions; a folder is what lies in it.",
            "Leave the revision out.",
        )
    if name in SHIPPED:
        return SHIPPED[name]()
    if name and folder.is_dir():
        own = own_name(folder)
        return Entry(id=own, title=own, source=str(folder), licence=read_licence(folder))
    if not HUB_ID.fullmatch(name):
        raise ModelUnavailable(
            f"There is no model {name!r}.",
            "It is neither 'demo', nor a folder on this machine, nor shaped like a Hub id (owner/name).",
            "Check the path, or name a Hub id such as HuggingFaceTB/SmolVLM-256M-Instruct.",
        )
    if known := find_known(name):
        return _known_entry(known, revision, by_short_name=name == known.name)
    return Entry(id=name, title=name.rsplit("/", 1)[-1], source=name, revision=revision, is_local=False)


def _known_entry(known: Known, revision: str | None, by_short_name: bool) -> Entry:
    offered = [AdapterRef(source, title) for source, title, _ in ([known.aligned] if known.aligned else [])]
    return Entry(
        id=known.source,
        title=known.title,
        source=known.source,
        revision=revision,
        licence=known.licence,
        is_local=False,
        known=known,
        adapters=tuple(offered) if by_short_name else (),
        beside=known.beside if by_short_name else "",
    )


def read_licence(folder: Path) -> str:
    """The licence that the model card in the folder names, or an empty text."""
    card = folder / "README.md"
    if not card.is_file():
        return ""
    from huggingface_hub import ModelCard

    return str(ModelCard.load(card, ignore_metadata_errors=True).data.get("license") or "")


def require_base(entry: Entry) -> None:
    """Raises `ModelUnavailable` where all voices are on servers."""
    if not entry.source:
        raise ModelUnavailable(
            "There is no model on this machine.",
            "This studio's voices answer on servers, which give answers and no weights.",
            "Start it with --model and a model of your own as well; it is loaded when something needs it.",
        )


def fetch_config(entry: Entry) -> "PreTrainedConfig":
    """The model's config; of a Hub repository only the small files are fetched.

    Raises:
        ModelUnavailable: not an image-text-to-text model that transformers knows, or there is none here.
    """
    require_base(entry)
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if entry.known and entry.known.like:
        folder = download(entry.known.like, None, ("*.json", "README.md"))  # it will be laid out so
    elif entry.is_local:
        folder = Path(entry.source)
    else:
        folder = download(entry.source, entry.revision, ("*.json", "README.md"))
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # of any kind, where the file is JSON and no config
        raise ModelUnavailable(
            f"The config of {entry.id!r} cannot be read.",
            f"transformers says: {error}",
            "Name a model whose architecture transformers has; original LLaVA checkpoints exist in a converted form "
            "(llava-hf/…). Code from a model repository is never run.",
        ) from error
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelUnavailable(
            f"{entry.id!r} is a {config.model_type} model.",
            "transformers does not load this kind as image-text-to-text.",
            "Pick a model that takes images and answers in text, such as a LLaVA, Qwen-VL or SmolVLM.",
        )
    return config


def fetch_files(entry: Entry) -> Path:
    """The folder with config, weights, processor and template, downloaded when it is not here yet, and laid out for
    transformers where the checkpoint is one of the original LLaVA code."""
    folder = fetch_checkpoint(entry)
    if entry.known and entry.known.like:
        from rlhfv.models.llava_layout import converted_copy

        return converted_copy(entry.source, folder, fetch_small_files(entry))
    return folder


def fetch_checkpoint(entry: Entry) -> Path:
    """The folder with the model's files as they were published, downloaded when it is not here yet."""
    require_base(entry)
    if entry.is_local:
        return Path(entry.source)
    folder = download(entry.source, entry.revision, MODEL_FILES)
    if not list(folder.glob("*.safetensors")):
        folder = download(entry.source, entry.revision, (*MODEL_FILES, "pytorch_model*.bin"))
    return folder


def fetch_small_files(entry: Entry) -> Path:
    """A folder with config, processor, tokenizer and template; weights are not fetched for it."""
    require_base(entry)
    if entry.is_local:
        return Path(entry.source)
    laid_out_like = entry.known.like if entry.known else ""
    return download(laid_out_like or entry.source, None if laid_out_like else entry.revision, SMALL_FILES)


def local_adapter(source: str) -> Path | None:
    """The folder of an adapter that is on this machine: a folder, or what was fetched of a Hub id before; None for a
    Hub id of which nothing is here. Touches no network.

    Raises:
        ModelUnavailable: the source is neither.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(source):
        raise ModelUnavailable(
            f"There is no adapter {source!r}.",
            "It is neither a folder on this machine nor shaped like a Hub id (owner/name).",
            "Check the path.",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        copy = Path(snapshot_download(source, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    whole = (copy / "adapter_config.json").is_file() and any(copy.glob("adapter_model.*"))
    return copy if whole else None


def adapter_folder(source: str) -> Path:
    """The folder of an adapter that was named by a path or a Hub id, fetched when it is not here yet.

    Raises:
        ModelUnavailable: there is none, or it cannot be fetched.
    """
    return local_adapter(source) or download(source, None, ADAPTER_FILES)


def outline_model(config: "PreTrainedConfig") -> "PreTrainedModel":
    """The model without storage for its weights, to count on.

    Raises:
        ModelUnavailable: it needs a package that is not here, or the config does not hold together.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    try:
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(config)
    except Exception as error:  # a config from anywhere can be wrong in any way
        raise ModelUnavailable(
            f"A model cannot be built from this {config.model_type} config.",
            f"transformers says: {' '.join(str(error).split())[:300] or type(error).__name__}",
            "Install what is named there, or pick another model.",
        ) from error


def estimate_memory(config: "PreTrainedConfig", dtype: "torch.dtype") -> MemoryEstimate:
    """What the model takes in that precision, counted on a copy without storage, so it costs no memory itself.

    `working` is the key-value cache of two rows of 2,048 tokens and a tenth of the weights for activations. Models
    without projections of keys and values by these names are counted as if each took as much as the hidden state.
    """
    model = outline_model(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    projections = [
        module.weight.shape[0]
        for name, module in model.get_decoder().named_modules()
        if name.endswith(("k_proj", "v_proj")) and hasattr(module, "weight")
    ]
    text = config.get_text_config()
    cached = 2 * CONTEXT_TOKENS * (sum(projections) or 2 * text.num_hidden_layers * text.hidden_size)
    weights = parameters * dtype.itemsize
    return MemoryEstimate(parameters, weights, cached * dtype.itemsize + weights // 10)


def available_memory(device: "torch.device") -> int:
    """Bytes that can still be taken on the device; on the CPU the limit of a container counts as well. Files that were
    read and lie idle in a container's memory are given up for whoever needs it, so they count as free."""
    import torch

    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's own, and free
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    import psutil

    free = psutil.virtual_memory().available
    limit = CONTAINER / "memory.max"
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        stat = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        used = int((CONTAINER / "memory.current").read_text()) - int(stat.get("inactive_file", 0))
        free = min(free, int(text) - used)
    return free


def choose_device(name: str | None = None) -> "torch.device":
    """The named device, else CUDA, else Apple's MPS, else the CPU; that too where a GPU is lent by the call, as torch
    then claims one all the time."""
    import torch

    if name or on_zero_gpu():
        return torch.device(name or "cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def possible_dtypes(config: "PreTrainedConfig", device: "torch.device", parameters: int) -> tuple["torch.dtype", ...]:
    """Precisions to try in order. Half precision on accelerators, float32 on the CPU; there a model that was stored in
    half precision is loaded so when float32 does not fit. Small models are float32 everywhere.
    """
    import torch

    stored = getattr(config, "dtype", None)
    half = stored if stored in (torch.float16, torch.bfloat16) else torch.bfloat16
    if parameters <= SMALL_MODEL:
        return (torch.float32,)
    if device.type == "cpu":
        return (torch.float32, half)
    if device.type == "cuda":
        return (torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16,)
    return (half if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float16,)


def refuse_if_too_large(
    entry: Entry, device: "torch.device", dtype: "torch.dtype | None" = None, available: int | None = None
) -> "tuple[torch.dtype, MemoryEstimate]":
    """The precision to load in and what that takes, known from the config alone.

    Raises:
        ModelUnavailable: it does not fit in any precision; with the figures.
    """
    import torch

    config = fetch_config(entry)
    full = estimate_memory(config, torch.float32)
    available = available_memory(device) if available is None else available
    for candidate in (dtype,) if dtype else possible_dtypes(config, device, full.parameters):
        share = candidate.itemsize / torch.float32.itemsize
        estimate = MemoryEstimate(full.parameters, int(full.weights * share), int(full.working * share))
        if estimate.total <= available:
            return candidate, estimate
    raise ModelUnavailable(
        f"{entry.id!r} does not fit: {estimate.parameters / 1e9:.2f} billion parameters need "
        f"{human_bytes(estimate.total)} in {str(candidate).removeprefix('torch.')}.",
        f"The weights take {human_bytes(estimate.weights)}, two answers at once about "
        f"{human_bytes(estimate.working)}; {human_bytes(available)} are free on {device.type}.",
        "Pick a smaller model, close what else uses that memory, or use a machine with more of it.",
    )
