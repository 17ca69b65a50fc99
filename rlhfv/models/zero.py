"""Answers on ZeroGPU, where a GPU is lent for one call at a time.

The base and its adapters are put on `cuda` once, in the main thread and before the page is served: the package
`spaces` keeps them and moves them to whichever GPU it gets. Each call is a forked process, so what goes in and out is
plain data, and what is stored is stored outside. Where `on_zero_gpu()`, to be imported before anything initialises
CUDA; elsewhere nothing of it is used, and the package is not needed.
"""

import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.errors import GenerationFailed, NoGPU, StudioError
from rlhfv.models import catalog
from rlhfv.models.adapters import AdapterInfo
from rlhfv.models.engine import Engine, Reader, Reading
from rlhfv.models.generated import NOTHING, Row
from rlhfv.models.identity import adapter_identity
from rlhfv.models.local import GREEDY, LocalModel
from rlhfv.models.streaming import RowTexts
from rlhfv.settings import on_zero_gpu

GPU_BYTES = 45 * 10**9
"""What the size "large" leaves a base beside its working memory; it takes half of what "xlarge" takes of the quota."""
START_SECONDS = 10
TOKEN_SECONDS = 0.03
"""Assumed for a token's launches, beside reading the weights once; not measured on that hardware."""
BYTES_A_SECOND = 1e12
SHORTEST, LONGEST = 15, 120

Adapters = tuple[tuple[str, str | None], ...]
"""Folder and name of each adapter that came after the base was handed over."""

_engine: Engine | None = None
_base = None


def borrowing(seconds: Callable[..., int]) -> Callable:
    """A decorator: each call of the function borrows a GPU for so many seconds, which its arguments tell."""
    if not on_zero_gpu():
        return lambda work: work
    import spaces  # the package: a folder of this name without an __init__.py does not hide it

    return spaces.GPU(duration=seconds, size="large")


def estimate_seconds(calls: int, tokens: int, late: int) -> int:
    """Seconds to ask the scheduler for. More than a visitor has left is refused before anything runs."""
    weights = sum(weights.nbytes for weights in _engine.model.parameters()) if _engine else 0
    needed = START_SECONDS + 2 * late + calls * tokens * (TOKEN_SECONDS + weights / BYTES_A_SECOND)
    return int(min(max(needed, SHORTEST), LONGEST))


def _answer_seconds(rows, sampling, seeds, paths, late, stop_file) -> int:
    together = not _engine.images.why_not
    return estimate_seconds(1 if together else len(rows), sampling.max_new_tokens, len(late))


@borrowing(_answer_seconds)
def answer_on_gpu(
    rows: Sequence[Row],
    sampling: Sampling,
    seeds: Sequence[int],
    paths: dict[str, str],
    late: Adapters,
    stop_file: str,
) -> Iterator[tuple[str, object]]:
    """All rows in one call: yields ("texts", the newest text of each row), at last ("done", their `Generated`) or
    ("failed", the error). It ends at the next token once `stop_file` exists."""
    engine = _engine
    engine.device = next(engine.model.parameters()).device  # in this process the weights have been moved
    texts = RowTexts(len(rows))
    news, ended, result = queue.SimpleQueue(), threading.Event(), []

    def work() -> None:
        try:
            for folder, name in late:
                engine.attach(Path(folder), name, _base)
            answers = engine.answer(
                rows,
                sampling,
                lambda name: Path(paths[name]),
                seeds,
                stopped=lambda: ended.is_set() or os.path.exists(stop_file),
                on_token=lambda: news.put(False),
                started=texts.started,
            )
            result.append(("done", answers))
        except StudioError as error:
            result.append(("failed", error))
        finally:
            news.put(True)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        over = False
        while not over:
            over = news.get()
            while not news.empty():
                over = news.get() or over
            if not over:
                yield "texts", texts.read()
        yield result[0] if result else ("failed", _broken())
    finally:
        ended.set()
        thread.join()


def _broken() -> GenerationFailed:
    return GenerationFailed(
        "The model failed while answering.",
        "Its thread ended without an answer.",
        "Ask again; if it fails again, pick another model.",
    )


class ZeroModel(LocalModel):
    """A base whose answers are made in borrowed GPUs, all rows of a question in one call. There can be one."""

    @classmethod
    def load(cls, entry: catalog.Entry, adapters: Sequence[str] = ()) -> "ZeroModel":
        """Loads base and adapters and hands them over; to be called in the main thread, before the page is served.

        Raises:
            ModelUnavailable: as `LocalModel.load`, or an adapter does not fit.
        """
        global _engine, _base
        dtype, _ = catalog.refuse_if_too_large(entry, torch.device("cuda"), available=GPU_BYTES)
        model = super().load(entry, device="cpu", dtype=dtype)
        for source in adapters:
            LocalModel.attach(model, source)
        model.model.to("cuda")
        model.device = model._engine.device = torch.device("cuda")
        model._late: dict[str, tuple[str, str | None]] = {}
        _engine, _base = model._engine, model.identity
        return model

    def attach(self, source: str | Path, name: str | None = None) -> str:
        """An adapter that came later: each call brings it to the GPU with it, and says there if it does not fit."""
        folder = catalog.adapter_folder(str(source))
        if name is None and not Path(source).expanduser().is_dir():
            name = str(source)
        identity = adapter_identity(folder, name)
        if identity not in self._engine.adapters:
            self._late[identity] = (str(folder), name)
        return identity

    def detach(self, identity: str) -> None:
        self._late.pop(identity, None)

    def adapters(self) -> dict[str, AdapterInfo]:
        """Those that were handed over with the base."""
        return dict(self._engine.adapters)

    def answer_both(
        self,
        rows: Sequence[Row],
        sampling: Sampling = GREEDY,
        image_path: Callable[[str], Path] = Path,
        stop: threading.Event | None = None,
    ) -> Iterator[tuple[str, ...]]:
        """As `LocalModel.answer_both`, in one call of a borrowed GPU.

        Raises:
            NoGPU: none is to be had now, for this visitor or for anybody.
        """
        if not 1 <= len(rows) <= 2:
            raise ValueError(f"one or two rows, not {len(rows)}")
        if stop is not None and stop.is_set():
            return (NOTHING,) * len(rows)
        shown: tuple[str, ...] = ("",) * len(rows)
        with tempfile.TemporaryDirectory(prefix="stop-") as place:
            stop_file = Path(place) / "stop"
            arguments = (tuple(rows), sampling, [sampling.seed] * len(rows))
            paths = paths_of([row.prompt for row in rows], image_path)
            stream = answer_on_gpu(*arguments, paths, self._late_of(row.voice for row in rows), str(stop_file))
            try:
                while True:
                    with _refusals_told():
                        kind, value = next(stream)
                    if stop is not None and stop.is_set():
                        stop_file.touch()
                    if kind == "failed":
                        raise value
                    newest = tuple(answer.text for answer in value) if kind == "done" else value
                    if newest != shown:
                        shown = newest
                        yield shown
                    if kind == "done":
                        return value
            finally:
                stop_file.touch()
                stream.close()

    def answer_many(
        self,
        prompts: Sequence[Prompt],
        voice: str | None = None,
        sampling: Sampling = GREEDY,
        image_path: Callable[[str], Path] = Path,
        batch_size: int = 32,
        progress: Callable[[int, int], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[str]:
        """As `LocalModel.answer_many`; each batch is a call of its own."""
        answers: list[str] = []
        for start in range(0, len(prompts), batch_size):
            if stop is not None and stop.is_set():
                break
            rows = tuple(Row(voice, prompt) for prompt in prompts[start : start + batch_size])
            seeds = list(range(sampling.seed + start, sampling.seed + start + len(rows)))
            paths = paths_of([row.prompt for row in rows], image_path)
            with _refusals_told():
                [*_, (kind, value)] = answer_on_gpu(rows, sampling, seeds, paths, self._late_of([voice]), "")
            if kind == "failed":
                raise value
            answers += [answer.text for answer in value]
            if progress:
                progress(len(answers), len(prompts))
        return answers

    def read(
        self, prompt: Prompt, answer: str, readers: Sequence[Reader], image_path: Callable[[str], Path] = Path
    ) -> Reading:
        """Never: it would take of the GPU time of whoever only opens an answer."""
        raise GenerationFailed(
            "No suspect words are marked here.",
            "Reading an answer would take of your GPU time, which is for your questions.",
            "Run the studio on a machine with a GPU to see them.",
        )

    def unload(self) -> None:
        """Never: the weights belong to the package, and no run here needs their memory."""

    def _late_of(self, voices) -> Adapters:
        return tuple(self._late[voice] for voice in dict.fromkeys(voices) if voice in self._late)


def paths_of(prompts: Sequence[Prompt], image_path: Callable[[str], Path]) -> dict[str, str]:
    return {name: str(image_path(name)) for prompt in prompts for name in prompt.all_images}


@contextmanager
def _refusals_told() -> Iterator[None]:
    """Tells what the package raises, which are errors of Gradio with a title, in three parts."""
    try:
        yield
    except Exception as error:
        title = getattr(error, "title", "")
        of_package = isinstance(title, str) and title.startswith("ZeroGPU")
        if not of_package and "ZeroGPU API" not in str(error):
            raise
        raise explain(title if of_package else "", str(getattr(error, "message", error))) from error


def explain(title: str, said: str) -> StudioError:
    """The error that `spaces` raised with this title and message, for a person."""
    why = f"ZeroGPU says: {said.strip().rstrip('.')}."
    if title in ("ZeroGPU quota exceeded", "ZeroGPU pending credits exceeded"):
        return NoGPU(
            "The GPU time that you have for today is used up.",
            why,
            "Sign in to Hugging Face for more of it, or come back tomorrow; the demo model needs no GPU.",
        )
    if title == "ZeroGPU illegal duration":
        return GenerationFailed(
            "The answer would take longer than a GPU is lent for.",
            why,
            "Lower the number of tokens under Settings, then ask again.",
        )
    if title == "ZeroGPU worker error":
        return GenerationFailed(
            "The GPU was taken away in the middle of the answers.",
            why,
            "Ask again. If it happens again, ask for fewer tokens or use a smaller picture.",
        )
    return NoGPU("No GPU is free at the moment.", why, "Ask again in a minute; the demo model needs no GPU.")
