"""The field's benchmarks: any voice answers them, what it says is kept, counted and compared."""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.corrections.edits import normalise_generated
from rlhfv.errors import GenerationFailed, InvalidData
from rlhfv.evaluation.answer_files import read_answers_file, write_answers_file
from rlhfv.evaluation.answer_sets import JUDGE, AnswerFolder, AnswerSet, list_sets, name_set, no_set, open_set
from rlhfv.evaluation.benchmarks import Benchmark, benchmarks, find_benchmark
from rlhfv.evaluation.comparison import Comparison, compare
from rlhfv.evaluation.files import ListedFile, require_files, sha256_of
from rlhfv.evaluation.judge_log import judged_together
from rlhfv.evaluation.score import Item, Score
from rlhfv.evaluation.stamp import NOBODY, PLAIN, UNKNOWN, Stamp, doubts, refuse_unasked, refuse_unlike
from rlhfv.models.decoding import find_decoding
from rlhfv.services.actor import Actor, hiding
from rlhfv.services.asking import Failure, ask, find_missing, in_batches, refuse_search, stamp_of
from rlhfv.services.limits import Limits
from rlhfv.services.model_host import BASELINE, ModelHost
from rlhfv.settings import Settings

if TYPE_CHECKING:
    from rlhfv.evaluation.judge import Judge

BATCH = 16
"""Rows of a batch; each beam takes the place of a row."""
KEPT = 16
"""Scores, and lists of items, that are kept in memory."""
MAX_NAME_CHARS = 120
"""Of a set's title, and of the name of the model that answered."""
MOST_OF_ALL = 500
"""Sets that belong to somebody, where many share a machine."""


@dataclass(frozen=True)
class Progress:
    """How far a set is: `done` of `total` items have an answer. `seconds_left` is None until it can be told."""

    id: str
    done: int
    total: int
    failures: tuple[Failure, ...] = ()
    seconds_left: float | None = None


@dataclass(frozen=True)
class Offered:
    """A benchmark with the files it wants; `ready` says that those it cannot do without are there."""

    benchmark: Benchmark
    files: tuple[ListedFile, ...]

    @property
    def ready(self) -> bool:
        return all(file.there or not file.wanted.required for file in self.files)


class Benchmarking:
    def __init__(self, settings: Settings, host: ModelHost, limits: Limits | None = None):
        self.settings, self.host, self.limits = settings, host, limits or Limits()
        self.root = (settings.benchmarks or settings.data_dir / "benchmarks").absolute()
        self.sets = settings.data_dir / "evaluations"
        self._memory: OrderedDict[str, object] = OrderedDict()
        self._guard = threading.Lock()

    # ---- what there is

    def benchmarks(self, actor: Actor) -> list[Offered]:
        """Every benchmark, and which of its files are in the benchmark folder."""
        actor.require("train")
        return [Offered(one, tuple(one.files(self.root))) for one in benchmarks().values()]

    def answer_sets(self, actor: Actor) -> list[AnswerSet]:
        """The sets that the actor may see, newest first; one whose stamp is damaged is left out."""
        actor.require("train")
        found = []
        for folder in list_sets(self.sets):
            if not self._visible(actor, folder):
                continue
            try:
                found.append(folder.read())
            except InvalidData:
                continue
        return sorted(found, key=lambda one: (one.created, one.id), reverse=True)

    def answer_set(self, actor: Actor, id: str) -> AnswerSet:
        """Raises `NotFound` for a set that does not exist or belongs to somebody else."""
        return self._open(actor, id)[1]

    def items(self, actor: Actor, id: str) -> list[Item]:
        """The questions of a set; their images are paths below the benchmark folder, see `picture`."""
        what = find_benchmark(self._open(actor, id)[1].stamp.benchmark)
        with self._hiding(actor):
            return self._items(what)

    def answers(self, actor: Actor, id: str) -> dict[str, str]:
        """Item id → answer."""
        return self._open(actor, id)[0].answers()

    def picture(self, actor: Actor, image: str) -> Path | None:
        """Where the picture of an item is; None where the folder lacks it."""
        actor.require("train")
        place = (self.root / image).resolve()
        return place if image and place.is_relative_to(self.root.resolve()) and place.is_file() else None

    # ---- answering

    def may_answer(self, actor: Actor) -> bool:
        """Whether the actor may let voices answer: that takes hours of a machine that others may wait for."""
        actor.require("train")
        return not self.limits or "manage" in actor.rights

    def answer(
        self,
        actor: Actor,
        benchmark: str,
        voice: str = BASELINE,
        decoding: str = "greedy",
        stop: threading.Event | None = None,
        batch_size: int = BATCH,
    ) -> Iterator[Progress]:
        """Lets a voice answer a benchmark; yields once its model is there and after every batch, which is kept.

        Stopped or killed, it goes on where it was when it is called again: the same voice asked in the same way has
        one set. An item that fails is told and left unanswered; the others are answered.

        Raises:
            Forbidden: the actor may not, or many share this machine and it is not theirs.
            NotFound, ModelUnavailable: there is no such benchmark or voice, or the model does not load.
            InvalidData: files are missing, or the voice cannot decode so.
        """
        if not self.may_answer(actor):
            actor.require("manage")
        what, how = find_benchmark(benchmark), find_decoding(decoding)
        with self._hiding(actor):
            items = self._items(what)
        chosen = self.host.voice(actor, voice or self.host.voices(actor)[0].id)
        if chosen.server:
            if not self.settings.single_user:  # what that server charges, whoever runs the studio pays
                actor.require("manage")
            refuse_search(chosen, how)
        else:
            self.host.require_own_machine(f"Answering {what.title}", self.host.base(chosen.base))
        with self._hiding(actor):
            missing = find_missing(what, items, self.root)
        stop = stop or threading.Event()
        try:
            with self.host.using(actor, chosen.id, given_up=stop.is_set) as model:
                stamp = stamp_of(what, self._digest(what), how, chosen, model)
        except GenerationFailed:
            if stop.is_set():
                return
            raise
        folder = AnswerFolder(self.sets / name_set(stamp, self._owner(actor)))
        with folder.working():
            folder.begin(f"{chosen.title}, {what.title}, {how.name}", stamp, len(items), chosen.id, self._owner(actor))
            known = folder.rows()
            waiting = [item for item in items if item.id not in known and item.id not in missing]
            unanswered = tuple(Failure(id, error) for id, error in missing.items() if id not in known)
            state = Progress(folder.id, len(known.keys() & {item.id for item in items}), len(items), unanswered)
            yield state
            began, dealt = time.monotonic(), 0
            size = max(1, batch_size // how.search.beams)
            for batch in in_batches(waiting, size, self.root):
                if stop.is_set():
                    return
                try:
                    # By batches: whoever chats with a base that takes turns with this one gets in between.
                    with self.host.using(actor, chosen.id, given_up=stop.is_set) as model:
                        rows, failures = ask(model, batch, chosen, how, self.root, stop)
                except GenerationFailed:
                    if stop.is_set():
                        return
                    raise
                folder.add(rows)
                if stop.is_set():
                    return
                dealt += len(batch)
                left = (time.monotonic() - began) / dealt * (len(waiting) - dealt)
                state = replace(
                    state, done=state.done + len(rows), failures=(*state.failures, *failures), seconds_left=left
                )
                yield state

    # ---- answers from elsewhere, and to elsewhere

    def take_in(
        self,
        actor: Actor,
        benchmark: str,
        path: Path,
        title: str = "",
        form: str = "",
        decoding: str = "",
        model: str = "",
    ) -> str:
        """Takes in a file of answers and returns the id of its set; the same file has the same one.

        What the file does not tell is "unknown" in its stamp. `decoding` says that the answers were made as the studio
        asks: the bare question, decoded so. `model` is who answered. Rows that were not taken are in the set's notes.

        Raises:
            InvalidData: the file is in no known format, answers other questions, or none of these.
        """
        actor.require("train")
        what, path = find_benchmark(benchmark), Path(path)
        how = find_decoding(decoding) if decoding else None
        file = normalise_generated(path.name)
        title = _name("title", title) or normalise_generated(path.stem)[:MAX_NAME_CHARS]
        model = _name("name of the model", model)
        with self._hiding(actor):
            items, questions = self._items(what), self._digest(what)
        answers = read_answers_file(path, items, form, what.forms)
        if not answers:
            raise InvalidData(
                f"{file} has no answer to {what.title}.",
                str(answers.problems[0]) if answers.problems else "It is empty.",
                "Choose another file, or the benchmark that it answers.",
            )
        stamp = Stamp(
            benchmark=what.name,
            questions=questions,
            prompt=PLAIN if how else UNKNOWN,
            decoding=how.name if how else UNKNOWN,
            values=how.values() if how else {},
            model=ModelIdentity(model, "") if model else NOBODY,
            imported=file,
        )
        notes = [normalise_generated(note) for note in (*answers.notes, *_told(answers.problems))]
        texts = {id: normalise_generated(text) for id, text in answers.items()}
        owner = self._owner(actor)
        folder = AnswerFolder(self.sets / name_set(stamp, owner, sorted(texts.items())))
        self._refuse_too_many(actor, folder)
        with folder.working():
            folder.begin(title, stamp, len(items), owner=owner, notes=notes, keep="manage" in actor.rights)
            known = folder.rows()  # an import that broke off left some
            folder.add([{"id": id, "answer": text} for id, text in texts.items() if id not in known])
        return folder.id

    def export(self, actor: Actor, id: str, form: str, path: Path) -> int:
        """Writes the answers of a set in the format `form`; "" is the benchmark's own. Returns how many.

        Raises:
            InvalidData: the format cannot carry them, or the file cannot be written.
        """
        folder, one = self._open(actor, id)
        what = find_benchmark(one.stamp.benchmark)
        template = what.folder(self.root) / what.questions[0]
        name = one.stamp.lines["model"]
        with self._hiding(actor):
            return write_answers_file(path, form or what.forms[0], self._items(what), folder.answers(), name, template)

    # ---- figures

    def refuse_uncounted(self, actor: Actor, benchmark: str, judged: bool) -> None:
        """Raises `InvalidData` where answers to a benchmark could not be counted in its usual way: before hours of
        answering, not after them. `judged` says that there is a judge."""
        actor.require("train")
        what = find_benchmark(benchmark)
        with self._hiding(actor):
            require_files(self.root, [file.wanted for file in what.files(self.root)])
            if what.variant() in what.judged and not judged:
                from rlhfv.evaluation.judge import need_judge

                raise need_judge(what.title)
            what.require_keys(self.root, self._items(what))

    def variants(self, actor: Actor, id: str) -> tuple[str, ...]:
        """The ways in which a set can be counted, the usual one first."""
        return find_benchmark(self._open(actor, id)[1].stamp.benchmark).variants

    def score(
        self,
        actor: Actor,
        id: str,
        variant: str = "",
        judge: "Callable[[Path], Judge] | None" = None,
        vectors: Path | None = None,
    ) -> Score:
        """The figures of a set, from the disk or from memory where they were counted from the same before.

        Args:
            judge: makes the judge, given the file that keeps its replies; for variants that need one.
            vectors: a file of word vectors, for AMBER's variant "similar".

        Raises:
            InvalidData: a file is missing, or the variant is none or lacks what it needs.
            OtherQuestions: the question files are not those that were asked.
            GenerationFailed: the judge cannot be asked.
        """
        folder, one = self._open(actor, id)
        self.refuse_other_questions(actor, id)
        with self._hiding(actor):
            score = self._count(folder, one, variant, judge, vectors)
        return replace(score, notes=(*score.notes, *one.notes)) if one.notes else score

    def refuse_other_questions(self, actor: Actor, id: str) -> None:
        """Raises `OtherQuestions` where a set answers other question files than those that are here, `InvalidData`
        where a file is missing. Keys may change: the answers are counted anew by them."""
        one = self._open(actor, id)[1]
        what = find_benchmark(one.stamp.benchmark)
        with self._hiding(actor):
            require_files(self.root, [file.wanted for file in what.files(self.root)])
            here = self._digest(what)
        refuse_unasked(one.title, one.stamp, what.title, here)

    def compare(
        self,
        actor: Actor,
        before_id: str,
        after_id: str,
        variant: str = "",
        judge: "Callable[[Path], Judge] | None" = None,
        vectors: Path | None = None,
    ) -> Comparison:
        """One set beside another, item by item.

        Raises:
            InvalidData: the sets were made in ways that cannot be compared, or as `score` does.
        """
        stamps = [self._open(actor, id)[1].stamp for id in (before_id, after_id)]
        refuse_unlike(*stamps)
        judge = judge and judged_together(judge, [self.sets / id / JUDGE for id in (before_id, after_id)])
        scores = [self.score(actor, id, variant, judge, vectors) for id in (before_id, after_id)]
        answers = [self.answers(actor, id) for id in (before_id, after_id)]
        found = compare(*scores, *answers, self.items(actor, before_id))
        return replace(found, notes=(*found.notes, *doubts(*stamps)))

    # ---- inside

    def _owner(self, actor: Actor) -> str:
        return "" if self.settings.single_user else actor.public_id

    def _visible(self, actor: Actor, folder: AnswerFolder) -> bool:
        """What was answered in a terminal is nobody's: whoever manages the studio sees it."""
        if self.settings.single_user:
            return True
        owner = folder.owner()
        return owner == actor.public_id if owner else "manage" in actor.rights

    def _refuse_too_many(self, actor: Actor, folder: AnswerFolder) -> None:
        if "manage" in actor.rights or folder.path.is_dir():
            return
        if sum(bool(one.owner()) for one in list_sets(self.sets)) >= MOST_OF_ALL:
            raise InvalidData(
                f"There are {MOST_OF_ALL} sets of answers here.",
                "Many people share this machine and its disk.",
                "Delete one of yours, come back later, or run a studio of your own.",
            )

    def _hiding(self, actor: Actor):
        return hiding(actor, self.root)

    def _open(self, actor: Actor, id: str) -> tuple[AnswerFolder, AnswerSet]:
        actor.require("train")
        folder = open_set(self.sets, id)
        if not self._visible(actor, folder):
            raise no_set(id)
        return folder, folder.read()

    def _count(self, folder: AnswerFolder, one: AnswerSet, variant: str, judge, vectors: Path | None) -> Score:
        what = find_benchmark(one.stamp.benchmark)
        variant, answers = what.variant(variant), folder.answers()
        if variant in what.judged:
            asked = judge and judge(folder.judge_log)
            return what.score(self.root, answers, variant, asked)
        key = _key(what.name, variant, sorted(answers.items()), what.state(self.root), _facts(vectors), _code())
        score = self._remembered(key)
        if score is None:
            score = folder.kept_score(key, what.measures) if what.measures else None
            if score is None:
                score = what.score(self.root, answers, variant, vectors=vectors)
                if what.measures:
                    folder.keep_score(key, score)
            self._remember(key, score)
        return score

    def _items(self, what: Benchmark) -> list[Item]:
        key = _key("items", what.name, what.state(self.root))
        items = self._remembered(key)
        if items is None:
            items = what.read_items(self.root)
            self._remember(key, items)
        return items

    def _digest(self, what: Benchmark) -> str:
        key = _key("digest", what.name, what.state(self.root))
        digest = self._remembered(key)
        if digest is None:
            digest = what.digest(self.root)
            self._remember(key, digest)
        return digest

    def _remembered(self, key: str):
        with self._guard:
            if key in self._memory:
                self._memory.move_to_end(key)
            return self._memory.get(key)

    def _remember(self, key: str, value) -> None:
        with self._guard:
            self._memory[key] = value
            while len(self._memory) > KEPT:
                self._memory.popitem(last=False)


def _told(problems: Sequence) -> list[str]:
    if not problems:
        return []
    rows = "1 row" if len(problems) == 1 else f"{len(problems):,} rows"
    return [f"{rows} of the imported file {'was' if len(problems) == 1 else 'were'} not taken; {problems[0]}"]


def _name(what: str, text: str) -> str:
    text = normalise_generated(text)
    if len(text) > MAX_NAME_CHARS:
        raise InvalidData(
            f"The {what} has {len(text):,} characters.", f"At most {MAX_NAME_CHARS} are taken.", "Shorten it."
        )
    return text


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _facts(path: Path | None) -> list | None:
    facts = Path(path).stat() if path and Path(path).is_file() else None
    return [str(path), facts.st_size, facts.st_mtime_ns] if facts else None


@cache
def _code() -> str:
    """Changes with the code that counts."""
    import rlhfv.evaluation

    files = sorted(Path(rlhfv.evaluation.__file__).parent.glob("*.py"))
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()
