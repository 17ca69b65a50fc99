"""One base in memory, adapters per row, two answers from one generate call."""

import gc
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedModel, ProcessorMixin

from rlhfv.corrections.conversation import ModelIdentity, Prompt, Sampling
from rlhfv.errors import ModelUnavailable
from rlhfv.models import catalog
from rlhfv.models.adapters import AdapterInfo, first_line
from rlhfv.models.decoding import Search
from rlhfv.models.engine import Engine, Reader, Reading
from rlhfv.models.generated import BASELINE, NOTHING, Generated, Row
from rlhfv.models.identity import folder_identity
from rlhfv.models.processors import load_processor
from rlhfv.models.prompts import takes_several_images
from rlhfv.models.streaming import RowTexts, any_set

__all__ = ["BASELINE", "Generated", "LocalModel", "Row", "answer_both", "load_model"]

POLL_SECONDS = 0.1
GREEDY = Sampling()


class LocalModel:
    """A base model with its adapters. All work on it is done by one thread in the order it was asked for, so that many
    visitors share it and none starves. `takes_several_images` is False where a conversation holds one picture at most;
    `folder` is where its files lie.
    """

    def __init__(
        self,
        entry: catalog.Entry,
        folder: Path,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        identity: ModelIdentity,
    ):
        self.entry, self.folder, self.model = entry, folder, model
        self.processor, self.identity = processor, identity
        self.tokenizer = processor.tokenizer
        self.device, self.dtype = model.device, model.dtype
        self.takes_several_images = not entry.one_picture and takes_several_images(processor)
        self.four_bit = bool(getattr(model, "is_loaded_in_4bit", False))
        self._engine = Engine(model, processor)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._closing = threading.Event()

    @classmethod
    def load(
        cls,
        entry: catalog.Entry | str,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        quantisation: BitsAndBytesConfig | None = None,
    ) -> "LocalModel":
        """Loads a base on the best device there is, after its size was checked against the memory that is free; with
        `quantisation`, which makes it smaller than its config says, unchecked and with `dtype` for the rest.

        Raises:
            ModelUnavailable: it does not exist, does not fit, is of another kind, or lacks weights or a template.
        """
        if isinstance(entry, str):
            entry = catalog.find_entry(entry)
        target = catalog.choose_device(device)
        if quantisation is None:
            dtype, _ = catalog.refuse_if_too_large(entry, target, dtype)
        folder = catalog.fetch_files(entry)
        processor = load_processor(folder, entry.square)
        # Given as None it would undo what the model's own config says.
        held = {"quantization_config": quantisation} if quantisation else {}
        if target.type == "cuda" and not quantisation:  # straight there: the machine may have less memory than the GPU
            held["device_map"] = {"": target}
        try:
            model, loading = AutoModelForImageTextToText.from_pretrained(
                folder,
                dtype=dtype,
                trust_remote_code=False,
                output_loading_info=True,
                **held,
            )
        except (SafetensorError, UnpicklingError, ImportError, OSError, ValueError, RuntimeError) as error:
            raise ModelUnavailable(
                f"The weights of {entry.id!r} cannot be loaded.",
                f"transformers says: {first_line(error)}",
                "Download the model again, or pick another one, such as one whose weights are not quantised.",
            ) from error
        if missing := sorted(loading["missing_keys"]):
            raise ModelUnavailable(
                f"{entry.id!r} lacks {len(missing)} of its weights.",
                f"The first are {', '.join(missing[:3])}; they would be random numbers.",
                "Download the model again, or save it again with save_pretrained.",
            )
        if entry.is_local:
            identity = replace(folder_identity(folder), name=entry.id)
        else:
            identity = ModelIdentity(entry.source, folder.name)
            entry = replace(entry, revision=folder.name, licence=catalog.read_licence(folder) or entry.licence)
        return cls(entry, folder, model.to(target).eval(), processor, identity)

    # ---- adapters

    def attach(self, source: str | Path, name: str | None = None) -> str:
        """Adds an adapter, from a folder or a Hub id, and returns its identity; attaching it again changes nothing.

        Raises:
            ModelUnavailable: no adapter, another base, or weights that do not fit key for key.
        """
        folder = catalog.adapter_folder(str(source))
        if name is None and not Path(source).expanduser().is_dir():
            name = str(source)
        return self._result(self._submit(lambda engine: engine.attach(folder, name, self.identity)))

    def detach(self, identity: str) -> None:
        """Takes an adapter out of memory; unknown ones are none to take out."""
        self._result(self._submit(lambda engine: engine.detach(identity)))

    def adapters(self) -> dict[str, AdapterInfo]:
        """Identity → what is known of each adapter in memory, in the order of attaching; none once unloaded."""
        return dict(self._engine.adapters) if self._engine else {}

    # ---- answers

    def answer_both(
        self,
        rows: Sequence[Row],
        sampling: Sampling = GREEDY,
        image_path: Callable[[str], Path] = Path,
        stop: threading.Event | None = None,
    ) -> Iterator[tuple[str, ...]]:
        """Streams the answers of one or two rows: yields the newest full text of each whenever there is more.

        The generator returns the `Generated` of each row. Closing it, or setting `stop`, ends the generation at the
        next token. In float32 each row is token for token what it would be alone, greedy or sampled.

        Raises:
            ModelUnavailable: a voice is not attached, or the model was unloaded.
            InvalidImage, GenerationFailed: the prompt cannot be answered; the model stays usable.
        """
        if not 1 <= len(rows) <= 2:
            raise ValueError(f"one or two rows, not {len(rows)}")
        given_up, news, texts = threading.Event(), queue.SimpleQueue(), RowTexts(len(rows))
        seeds, stopped = [sampling.seed] * len(rows), any_set(stop, given_up, self._closing)
        work = self._submit(
            lambda engine: engine.answer(
                rows, sampling, image_path, seeds, stopped, on_token=lambda: news.put(True), started=texts.started
            )
        )
        work.add_done_callback(lambda _: news.put(True))
        shown: tuple[str, ...] = ("",) * len(rows)
        try:
            while not work.done():
                try:
                    news.get(timeout=POLL_SECONDS)
                    while not news.empty():
                        news.get_nowait()
                except queue.Empty:
                    if stop is not None and stop.is_set() and work.cancel():  # its turn had not come yet
                        return (NOTHING,) * len(rows)
                    continue
                if (newest := texts.read()) != shown:
                    shown = newest
                    yield shown
            generated = self._result(work)
            if (newest := tuple(answer.text for answer in generated)) != shown:
                yield newest
            return generated
        finally:
            given_up.set()
            work.cancel()

    def answer_many(
        self,
        prompts: Sequence[Prompt],
        voice: str | None = None,
        sampling: Sampling = GREEDY,
        image_path: Callable[[str], Path] = Path,
        batch_size: int = 32,
        progress: Callable[[int, int], None] | None = None,
        stop: threading.Event | None = None,
        search: Search | None = None,
    ) -> list[str]:
        """Answers of one voice to many prompts, in order, in left-padded batches between which visitors are served.

        Prompt i is sampled with seed `sampling.seed + i`. `progress(done, total)` is called after every batch. When
        `stop` is set, the answers of the batches that were complete are returned. A `search` may take beams, and
        replaces what the model's makers set; each answer is what it would be alone, in float32.

        Raises:
            ModelUnavailable: a voice is not attached, or the model was unloaded, be it in the middle.
            InvalidImage, GenerationFailed: a prompt cannot be answered; the model stays usable.
        """
        answers: list[str] = []
        stopped = any_set(stop, self._closing)
        for start in range(0, len(prompts), batch_size):
            rows = [Row(voice, prompt) for prompt in prompts[start : start + batch_size]]
            seeds = range(sampling.seed + start, sampling.seed + start + len(rows))
            work = partial(
                Engine.answer,
                rows=rows,
                sampling=sampling,
                image_path=image_path,
                seeds=seeds,
                stopped=stopped,
                search=search,
            )
            generated = self._result(self._submit(work))
            if stop is not None and stop.is_set():
                break
            if self._closing.is_set():
                raise self._unloaded()
            answers += [answer.text for answer in generated]
            if progress:
                progress(len(answers), len(prompts))
        return answers

    def read(
        self, prompt: Prompt, answer: str, readers: Sequence[Reader], image_path: Callable[[str], Path] = Path
    ) -> Reading:
        """How likely each reader finds an answer, token by token; visitors who came before are served before.

        In float32 each row is what it would be alone.

        Raises:
            ModelUnavailable: a voice is not attached, or the model was unloaded.
            InvalidImage, GenerationFailed: the answer cannot be read; the model stays usable.
        """
        return self._result(self._submit(lambda engine: engine.read(prompt, answer, readers, image_path)))

    def unload(self) -> None:
        """Stops what is being generated and gives the memory back; the object cannot be used afterwards."""
        self._closing.set()
        self._worker.shutdown(wait=True, cancel_futures=True)
        self.model = self._engine = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _submit(self, work: Callable[[Engine], Any]) -> Future:
        try:
            return self._worker.submit(lambda: work(self._engine))
        except RuntimeError as error:
            raise self._unloaded() from error

    def _result(self, work: Future) -> Any:
        try:
            return work.result()
        except CancelledError as error:
            raise self._unloaded() from error

    def _unloaded(self) -> ModelUnavailable:
        return ModelUnavailable(
            f"The model {self.identity.name!r} is not in memory.",
            "It was unloaded to make room.",
            "Load it again; a run that needs its memory may have to end first.",
        )


def load_model(name: str = "demo", adapters: Sequence[str | Path] = (), revision: str | None = None) -> LocalModel:
    """Loads 'demo', a Hub id or a folder, with adapters from folders or Hub ids."""
    model = LocalModel.load(catalog.find_entry(name, revision))
    for adapter in adapters:
        model.attach(adapter)
    return model


def answer_both(
    model: LocalModel,
    rows: Sequence[Row],
    sampling: Sampling = GREEDY,
    image_path: Callable[[str], Path] = Path,
    stop: threading.Event | None = None,
) -> Iterator[tuple[str, ...]]:
    """`LocalModel.answer_both`; images are named by their paths unless `image_path` says where they lie."""
    return model.answer_both(rows, sampling, image_path, stop)
