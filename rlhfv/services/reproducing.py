"""Does the cells of `reproduce_model`: takes corrections in, trains under accelerate, lets voices answer."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import PAIRS_FILE, PreferencePair, load_pairs
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.errors import GenerationFailed, InvalidData, RunFailed
from rlhfv.evaluation.answer_sets import AnswerFolder
from rlhfv.evaluation.benchmarks import find_benchmark
from rlhfv.evaluation.reproduce import Cell, write_json
from rlhfv.evaluation.reproduce_model import BASE, COST_FILE, Cost
from rlhfv.models.catalog import Entry
from rlhfv.models.decoding import find_decoding
from rlhfv.run_folder import RunFolder, now
from rlhfv.runs.leash import LeashedTrainer
from rlhfv.runs.machine import describe_machine, show_machine
from rlhfv.services.asking import ask, find_missing, in_batches, stamp_of
from rlhfv.services.benchmarking import BATCH
from rlhfv.services.model_host import Voice
from rlhfv.services.reproduce_source import Source, no_pair

if TYPE_CHECKING:
    from rlhfv.models.local import LocalModel

_LOOK_SECONDS = 0.5
_TELL_SECONDS = 60.0
MOST_NAMED = 3


# ---- what is there, before anything long begins


def identify_base(entry: Entry, revision: str | None = None) -> ModelIdentity:
    """What the weights are called, from the small files of the Hub or the folder; `revision` is a commit known before.
    Nothing of the Hub but config, tokenizer and processor is fetched."""
    from rlhfv.models.catalog import fetch_small_files
    from rlhfv.models.identity import folder_identity

    if entry.is_local:
        return replace(folder_identity(Path(entry.source)), name=entry.id)
    return ModelIdentity(entry.source, fetch_small_files(replace(entry, revision=entry.revision or revision)).name)


def doubt_pictures(entry: Entry) -> str:
    """A sentence where a LLaVA would see the middle of each picture only, "" elsewhere."""
    from rlhfv.models.catalog import fetch_config, fetch_small_files
    from rlhfv.models.processors import load_processor, pads_to_square

    if fetch_config(entry).model_type != "llava":
        return ""
    if pads_to_square(load_processor(fetch_small_files(entry), entry.square)):
        return ""
    return (
        "Pictures are not padded to a square: a LLaVA-1.5, which was trained so, loses their edges. Name it by its Hub"
        " id (llava-hf/llava-1.5-7b-hf), or set LlavaImageProcessor with do_pad in its preprocessor_config.json."
    )


def check_benchmarks(root: Path, names: Sequence[str]) -> tuple[dict[str, tuple[str, int]], dict[str, list[str]]]:
    """(sha256 of the questions, number of items) of each benchmark that can be answered, and of each other one what it
    lacks, as lines."""
    ready: dict[str, tuple[str, int]] = {}
    lacking: dict[str, list[str]] = {}
    for name in names:
        what = find_benchmark(name)
        gone = [file.wanted for file in what.files(root) if file.wanted.required and not file.there]
        if gone:
            lacking[name] = [f"{file.path}: {file.what}; from {file.source}" for file in gone]
            continue
        items = what.read_items(root)
        pictures = {item.image for item in items if item.image}
        lost = sorted(image for image in pictures if not (root / image).is_file())
        if lost:
            source = next((file.source for file in what.wanted if file.path.endswith("/")), "its owners")
            few = ", ".join(lost[:MOST_NAMED]) + (", …" if len(lost) > MOST_NAMED else "")
            lacking[name] = [f"{len(lost):,} of {len(pictures):,} pictures ({few}); from {source}"]
            continue
        ready[name] = (what.digest(root), len(items))
    return ready, lacking


# ---- the work


class ModelWork:
    """Does the cells of `reproduce_model.plan_cells`; keeps the base in memory between sets of answers, and gives its
    room up for trainings.

    Args:
        entry: the base at its commit, `base` its identity.
        root: the benchmark folder.
        stop: set when it is asked to stop; a training then keeps a checkpoint, answers stand as they are.
        token: of the Hub, for a private data set; False reads as nobody.
        accelerate_config: a file of `accelerate config`; None is the machine's own way (see `build_command`).
        saving: settings of a training that save memory and change nothing that is learnt.
    """

    def __init__(
        self,
        entry: Entry,
        base: ModelIdentity,
        source: Source,
        work: Path,
        root: Path,
        cells: Sequence[Cell],
        stop: threading.Event,
        tell: Callable[[str], None] = lambda text: None,
        token: str | bool = False,
        accelerate_config: Path | None = None,
        saving: Mapping[str, int | bool] | None = None,
    ):
        self.entry, self.base, self.source = entry, base, source
        self.work, self.root = Path(work), Path(root)
        self.cells = {cell.name: cell for cell in cells}
        self.stop, self.tell, self.token, self.accelerate_config = stop, tell, token, accelerate_config
        self.saving = dict(saving or {})
        self.machine = show_machine(describe_machine())
        self._model: LocalModel | None = None
        self._attached: tuple[str, str] | None = None

    def __call__(self, cell: Cell, folder: Path) -> bool:
        """Whether the cell came to its end."""
        do = {"pairs": self._take_in, "training": self._train, "answers": self._answer}
        return do[cell.settings["kind"]](cell, folder)

    def close(self) -> None:
        """Gives the base's memory back."""
        if self._model:
            self._model.unload()
        self._model = self._attached = None

    # ---- corrections

    def _take_in(self, cell: Cell, folder: Path) -> bool:
        from rlhfv.publishing import formats

        place = self.source.path or self._fetch()
        name, _ = formats.recognise(place, self.token)
        shelf = ImageShelf(folder / "images")
        pairs, problems = 0, []
        folder.mkdir(parents=True, exist_ok=True)
        building = folder / f".{PAIRS_FILE}"
        with open(building, "w", encoding="utf-8") as file:
            for row in formats.read(place, name, shelf, self.token):
                if self.stop.is_set():
                    return False
                if isinstance(row, PreferencePair):
                    file.write(json.dumps(row.to_row()) + "\n")
                    pairs += 1
                else:
                    problems.append(str(row))
        if not pairs:
            raise no_pair(self.source, problems)
        building.replace(folder / PAIRS_FILE)
        told = {"format": name, "pairs": pairs, "problems": len(problems), "first_problems": problems[:20]}
        write_json(folder / "told.json", told)
        left = f"; {len(problems):,} rows left out, the first reasons in {folder / 'told.json'}" if problems else ""
        self.tell(f"{pairs:,} pairs{left}")
        return True

    def _fetch(self) -> Path:
        """The data set at its commit, from the Hub or from this machine's cache; broken off, it goes on."""
        from huggingface_hub import snapshot_download

        try:
            return Path(
                snapshot_download(
                    self.source.id, repo_type="dataset", revision=self.source.commit, token=self.token or False
                )
            )
        except Exception as error:  # network, rights, missing, no such commit: the client has many types for them
            reason = (str(error).strip() or type(error).__name__).split("\n")[0][:300]
            raise InvalidData(
                f"The data set {self.source.name} could not be fetched.",
                f"{reason}.",
                "Check name, commit and connection; for a private one sign in with a token that may read it.",
            ) from error

    # ---- training

    def _train(self, cell: Cell, folder: Path) -> bool:
        run = RunFolder(folder)
        if folder.is_dir() and self._is_to_begin_anew(cell, run):
            shutil.rmtree(folder)
        if not folder.is_dir():
            self._freeze(cell, run)
        if not run.adapter.is_dir() and not self._run(cell, run):
            return False
        write_json(folder / COST_FILE, self._cost(cell, run).to_dict())
        return True

    def _is_to_begin_anew(self, cell: Cell, run: RunFolder) -> bool:
        """Whether nothing was learnt yet and memory is to be saved in another way now: the settings of a run are
        frozen."""
        begun = run.adapter.is_dir() or run.last_checkpoint() or run.is_claimed()
        return not begun and run.read_config()["training"] != self._settings(cell)

    def _settings(self, cell: Cell) -> dict:
        return TrainingConfig.from_dict({**cell.settings["training"], **self.saving}).to_dict()

    def _freeze(self, cell: Cell, run: RunFolder) -> None:
        from rlhfv.ddpo.train import versions

        [needed] = cell.needs
        data = self.cells[needed].folder(self.work)
        source = self.base.base if self.entry.is_local else self.entry.source
        config = {
            "kind": "training",
            "title": cell.name,
            "created": now(),
            "base": {"name": self.base.name, "revision": self.base.revision, "source": source},
            "training": self._settings(cell),
            "versions": versions(),
            "parent": None,
        }
        run.create(config, [pair.to_row() for pair in load_pairs(data)], (data / "images").joinpath)

    def _run(self, cell: Cell, run: RunFolder) -> bool:
        """Whether the adapter is there. The trainer is a process of its own and ends with this one."""
        self.close()
        while run.is_claimed():  # one whose owner was killed keeps its checkpoint and ends within a minute
            if self.stop.wait(_LOOK_SECONDS):
                return False
        local = Path(self.entry.source) if self.entry.is_local else None
        trainer = LeashedTrainer(run, local, accelerate_config=self.accelerate_config)
        told = time.monotonic()
        try:
            while trainer.is_alive:
                if self.stop.is_set():
                    trainer.ask_stop()
                if time.monotonic() - told > _TELL_SECONDS:
                    told = time.monotonic()
                    tail = trainer.read()
                    self.tell(f"{cell.name}: step {tail.step or 0} of {tail.total_steps or '?'}")
                time.sleep(_LOOK_SECONDS)
        finally:
            trainer.close()
            run.stop_file.unlink(missing_ok=True)
        state, error = trainer.outcome()
        if state == "failed":
            raise RunFailed(f"{cell.name} failed.", error, f"Its log is {run.log_file}; start again to go on with it.")
        return run.adapter.is_dir()

    def _cost(self, cell: Cell, run: RunFolder) -> Cost:
        results, config = run.read_results() or {}, TrainingConfig.from_dict(cell.settings["training"])
        figures, (events, _) = results.get("figures", {}), run.read_events()
        pairs = next((event["pairs"] for event in reversed(events) if "held_out" in event), 0)
        visits = config.steps * config.batch_size if config.steps else pairs * config.epochs
        seconds = figures.get("seconds") or 0.0
        return Cost(
            seconds,
            self.machine,
            memory=figures.get("memory"),
            on_gpu=bool(results.get("on_gpu")),
            pairs_per_second=round(visits / seconds, 4) if seconds else None,
            estimated_seconds=figures.get("estimated_seconds"),
            estimated_memory=figures.get("estimated_memory"),
            visits=visits,
            warnings=tuple(results.get("warnings", ())),
        )

    # ---- answers

    def _answer(self, cell: Cell, folder: Path) -> bool:
        what, how = find_benchmark(cell.settings["benchmark"]), find_decoding(cell.settings["decoding"]["name"])
        items = what.read_items(self.root)
        if gone := find_missing(what, items, self.root):
            raise next(iter(gone.values()))
        model = self.load()
        voice = self._voice(cell, model)
        answers = AnswerFolder(folder)
        with answers.working():
            stamp = stamp_of(what, cell.settings["questions"], how, voice, model)
            answers.begin(f"{voice.title}, {what.title}, {how.name}", stamp, len(items), voice.id)
            known = answers.rows()
            waiting, failures, told = [item for item in items if item.id not in known], [], time.monotonic()
            for batch in in_batches(waiting, max(1, BATCH // how.search.beams), self.root):
                began = time.monotonic()
                rows, failed = ask(model, batch, voice, how, self.root, self.stop)
                each = round((time.monotonic() - began) / len(batch), 4)
                answers.add([{**row, "seconds": each} for row in rows])
                failures += failed
                if self.stop.is_set():
                    return False
                if time.monotonic() - told > _TELL_SECONDS:
                    told = time.monotonic()
                    self.tell(f"{cell.name}: {len(answers.rows()):,} of {len(items):,}")
        if failures:
            first = failures[0]
            raise GenerationFailed(
                f"{len(failures):,} of {len(items):,} questions of {what.title} have no answer; item {first.item}: "
                f"{first.error.what}",
                first.error.why,
                f"{first.error.fix} Then start again: only these are asked.",
            )
        seconds = sum(row.get("seconds", 0.0) for row in answers.rows().values())
        write_json(folder / COST_FILE, Cost(round(seconds, 3), self.machine).to_dict())
        return True

    def load(self) -> "LocalModel":
        from rlhfv.models.local import LocalModel

        if self._model is None:
            self._model = LocalModel.load(self.entry)
            if self._model.identity.revision != self.base.revision:
                raise RunFailed(
                    f"{self.base.name} is {self._model.identity.revision[:12]} now.",
                    f"This work was begun with {self.base.revision[:12]}.",
                    "Bring those weights back, or name another work folder.",
                )
        return self._model

    def _voice(self, cell: Cell, model: "LocalModel") -> Voice:
        if cell.arm == BASE:
            return Voice("", self.entry.title)
        [trained] = cell.needs
        if self._attached is None or self._attached[0] != trained:
            if self._attached:
                model.detach(self._attached[1])
            adapter = RunFolder(self.cells[trained].folder(self.work)).adapter
            self._attached = trained, model.attach(adapter, trained)
        return Voice(self._attached[1], trained, source=trained)


def describe_base_pictures(work: Path, cells: Sequence[Cell]) -> str:
    """How pictures were prepared for the answers that are here, "" while there are none.

    Raises:
        InvalidData: not all of them in the same way.
    """
    ways: dict[str, str] = {}
    for cell in cells:
        if cell.settings["kind"] == "answers" and cell.is_done(work):
            ways[AnswerFolder(cell.folder(work)).read().stamp.transform] = cell.name
    if len(ways) > 1:
        raise InvalidData(
            f"Pictures were prepared in {len(ways)} ways: {'; '.join(ways)}.",
            "Figures of answers about pictures that were prepared differently cannot be compared.",
            f"Delete the answers that were made otherwise, such as those of {list(ways.values())[-1]}.",
        )
    return next(iter(ways), "")
