"""What became better and what it cost: two sets of answers beside each other, as a page to share too, and every
adapter of this studio with where it comes from and what it scored.

Whose answers and runs these are, and who may see them, is asked of the rooms that hold them.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from rlhfv.corrections.images import ImageShelf
from rlhfv.errors import InvalidData, StudioError
from rlhfv.evaluation.answer_sets import AnswerFolder, AnswerSet
from rlhfv.evaluation.benchmarks import benchmarks, find_benchmark
from rlhfv.evaluation.bootstrap import Resamples
from rlhfv.evaluation.comparison import ComparedItem, Comparison
from rlhfv.evaluation.leaderboard import Finding, Leaderboard, Lineage, arrange
from rlhfv.evaluation.page import Side, render, small_picture
from rlhfv.evaluation.score import Item
from rlhfv.evaluation.stamp import UNKNOWN, OtherQuestions, refuse_unlike
from rlhfv.models.catalog import local_adapter
from rlhfv.models.identity import adapter_identity, read_adapter_card
from rlhfv.services.actor import Actor
from rlhfv.services.benchmarking import Benchmarking
from rlhfv.services.evaluating import Evaluating
from rlhfv.services.judged_answers import JudgedAnswers, Way
from rlhfv.services.measured import base_of, name_of, scene_findings, sets_are, voice_of
from rlhfv.services.model_host import ModelHost
from rlhfv.services.training import Training

KEPT = 32
"""Comparisons that are held in memory: whoever turns the pages of one does not count it anew."""
OF_A_VISITOR = 4
"""Of them the last ones of one visitor, who may have several tabs."""
MOST_SETS = 20
"""Sets of answers of one visitor, where many share a machine."""
REMEMBERED = 500
"""Sets of answers whose figures are held in memory."""
GENERAL = ("pope-random", "pope-popular", "pope-adversarial", "amber-discriminative")
"""What stands beside a gain as one general score: the first of them that both voices have answered. No judge is asked
for it."""
_SPLITS = {"pope-random", "pope-popular", "pope-adversarial"}


class Reporting:
    def __init__(
        self,
        shelf: ImageShelf,
        host: ModelHost,
        training: Training,
        evaluation: Evaluating,
        benchmarking: Benchmarking,
        judged: JudgedAnswers,
    ):
        self.shelf, self.host = shelf, host
        self.training, self.evaluation = training, evaluation
        self.benchmarking, self.judged = benchmarking, judged
        self._lock = threading.Lock()
        self._comparisons: OrderedDict[tuple[str, tuple], tuple[tuple, Comparison]] = OrderedDict()
        self._findings: dict[tuple, Finding] = {}

    def sets(self, actor: Actor) -> list[AnswerSet]:
        """The sets of answers that the actor may see, without those of benchmarks that this version does not know."""
        actor.require("train")
        return [one for one in self.benchmarking.answer_sets(actor) if one.stamp.benchmark in benchmarks()]

    def benchmarks(self, actor: Actor) -> list[tuple[str, str]]:
        """(title, name) of the benchmarks whose files are here."""
        return [(one.benchmark.title, one.benchmark.name) for one in self.benchmarking.benchmarks(actor) if one.ready]

    def variants(self, actor: Actor, set_id: str) -> list[str]:
        """The ways in which a set can be counted without word vectors, the usual one first: without a judge, then by
        those that the actor may ask or that have judged all of it."""
        what = find_benchmark(self.benchmarking.answer_set(actor, set_id).stamp.benchmark)
        unjudged = [variant for variant in what.variants if variant not in what.judged | what.by_vectors]
        return [*unjudged, *self.judged.ways(actor, set_id)]

    def take_in(
        self, actor: Actor, benchmark: str, path: Path, title: str = "", decoding: str = "", model: str = ""
    ) -> str:
        """A file of answers that were made elsewhere; returns the id of their set. Raises like
        `Benchmarking.take_in`; whoever does not manage this studio is not told its folders."""
        actor.require("train")
        what = find_benchmark(benchmark)
        if "manage" not in actor.rights and what.name not in dict(self.benchmarks(actor)).values():
            raise InvalidData(
                f"The files of {what.title} are not here.",
                "Answers are counted with the benchmark's own keys, and this studio brings none along.",
                "Ask its owner for them, or run a studio of your own.",
            )
        if "manage" not in actor.rights and len(self.sets(actor)) >= MOST_SETS:
            raise InvalidData(
                f"You have {MOST_SETS} sets of answers here.",
                "Many people share this machine and its disk.",
                "Delete one that you do not need.",
            )
        return self.benchmarking.take_in(actor, benchmark, path, title, decoding=decoding, model=model)

    def beside(self, actor: Actor, set_id: str) -> tuple[str, str]:
        """A set that was answered here and what it is compared with first, as before and after: an adapter's with its
        baseline's, else in the order of the voices. "" for what is not there.

        Raises:
            NotFound: the set is not there or somebody else's.
        """
        new, places = self.benchmarking.answer_set(actor, set_id), [one.id for one in self.host.voices(actor)]
        alike = [one for one in self.sets(actor) if one.done and not one.stamp.imported and _alike(one, new)]
        model = new.stamp.model
        first = [one for one in alike if model.adapter and one.stamp.model == replace(model, adapter=None)]
        first = first or sorted((one for one in alike if one.voice in places), key=lambda one: places.index(one.voice))
        before = first[0].id if first else new.id
        others = [one.id for one in alike if one.id != before]
        return before, new.id if new.id in others else next(iter(others), "")

    def delete(self, actor: Actor, set_id: str) -> None:
        """A set of answers with all that was counted in it.

        Raises:
            NotFound: it is not there or somebody else's.
            InvalidData: answers are being added to it, or judged.
        """
        AnswerFolder(self.benchmarking.sets / self.benchmarking.answer_set(actor, set_id).id).delete()
        with self._lock:
            for key in [key for key in self._comparisons if set_id in key[1][:2]]:
                del self._comparisons[key]

    def comparison(self, actor: Actor, before: str, after: str, variant: str = "") -> Comparison:
        """Two sets item by item, with a general score of the same two voices beside where there is one. No judge is
        asked: by one is counted what it said before, see `JudgedAnswers`.

        Raises:
            NotFound: one of them is not there or somebody else's.
            InvalidData: they were not asked in the same way, or not to be counted in that one.
        """
        first, second = (self.benchmarking.answer_set(actor, each) for each in (before, after))
        others = self._general_sets(actor, first, second)
        state = tuple((one.id, self._state(one)) for pair in ((first, second), *others) for one in pair)
        asked, way = (before, after, variant), self.judged.find(actor, (before, after), variant)
        if (kept := self._kept(actor, asked)) and kept[0] == state:
            return kept[1]
        how = (way.variant, way.read_kept) if way else (variant,)
        comparison = self.benchmarking.compare(actor, before, after, *how)
        comparison = comparison.beside(self._general(actor, others))
        with self._lock:
            self._comparisons[actor.visitor, asked] = (state, comparison)
            self._comparisons.move_to_end((actor.visitor, asked))
            own = [key for key in self._comparisons if key[0] == actor.visitor]
            if len(own) > OF_A_VISITOR:
                self._comparisons.pop(own[0])
            while len(self._comparisons) > KEPT:
                self._comparisons.popitem(last=False)
        return comparison

    def compared(self, actor: Actor, before: str, after: str, variant: str = "") -> Comparison:
        """The comparison that the actor looks at, as it was counted even where answers or keys came later: its items
        go with the figures beside them. Raises like `comparison`."""
        for each in (before, after):
            self.benchmarking.answer_set(actor, each)
        kept = self._kept(actor, (before, after, variant))
        return kept[1] if kept else self.comparison(actor, before, after, variant)

    def sides(self, actor: Actor, before: str, after: str) -> tuple[Side, Side]:
        """How people call the two sets, and their stamps."""
        found = (self.benchmarking.answer_set(actor, each) for each in (before, after))
        return tuple(Side(one.title, one.stamp.lines) for one in found)

    def stored_picture(self, actor: Actor, item: Item) -> str:
        """The name of an item's stored picture, which is put on the shelf when it is not there; "" where there is
        none or it cannot be read."""
        path = self.benchmarking.picture(actor, item.image)
        if path is None:
            return ""
        try:
            return self.shelf.intake(path.read_bytes()).name
        except (OSError, StudioError):
            return ""

    def page(self, actor: Actor, before: str, after: str, variant: str = "", with_pictures: bool = True) -> str:
        """The comparison as one HTML page to share. Raises like `comparison`."""
        comparison = self.comparison(actor, before, after, variant)

        def picture(row: ComparedItem) -> bytes | None:
            path = self.benchmarking.picture(actor, row.item.image)
            return small_picture(path) if path else None

        made = datetime.now(UTC).strftime("%-d %B %Y")
        return render(comparison, self.sides(actor, before, after), made, "", picture, with_pictures)

    def leaderboard(self, actor: Actor, sort_by: str = "") -> Leaderboard:
        """Every adapter that the actor may see, beside the figures of every evaluation that they may see.

        Judges are not asked for it: what only they can count is there once they have judged all of a set.
        """
        actor.require("train")
        sets = {one.id: one for one in self.sets(actor) if one.done}
        uncounted: dict[str, StudioError] = {}
        findings = [*self._of_scenes(actor), *self._of_sets(actor, sets, uncounted)]
        voices = [*(finding.voice for finding in findings), *map(voice_of, sets.values())]
        lineages = {lineage.id: lineage for lineage in self._lineages(actor, voices)}
        for lineage in self._unlisted(actor, sets.values()):
            lineages.setdefault(lineage.id, lineage)

        def alike(one: Finding, other: Finding) -> bool:
            if one.source not in sets or other.source not in sets:
                return one.stamp == other.stamp
            return _alike(sets[one.source], sets[other.source])

        board = arrange(lineages.values(), findings, sort_by, alike)
        return replace(board, notes=tuple(self._notes(actor, [(sets[id], error) for id, error in uncounted.items()])))

    # ---- what the calls above are made of

    def _kept(self, actor: Actor, asked: tuple) -> tuple[tuple, Comparison] | None:
        """The actor's comparison of what is asked for, with what it was counted from; None where it is not held."""
        key = (actor.visitor, asked)
        with self._lock:
            if key in self._comparisons:
                self._comparisons.move_to_end(key)
            return self._comparisons.get(key)

    def _state(self, one: AnswerSet) -> tuple:
        """Changes when a file does that the set is counted with: its own, and the benchmark's."""
        own = AnswerFolder(self.benchmarking.sets / one.id).state()
        return own, find_benchmark(one.stamp.benchmark).state(self.benchmarking.root)

    def _general_sets(self, actor: Actor, first: AnswerSet, second: AnswerSet) -> list[tuple[AnswerSet, AnswerSet]]:
        """What the same two voices answered of benchmarks of another kind, the one to take first."""
        voices = [one.stamp.model for one in (first, second)]
        if any(voice.name == UNKNOWN for voice in voices):
            return []
        sets, pairs = [one for one in self.sets(actor) if one.done], []
        for name in GENERAL:
            if name == first.stamp.benchmark or {name, first.stamp.benchmark} <= _SPLITS:
                continue
            found = [
                [one for one in sets if one.stamp.benchmark == name and one.stamp.model == voice] for voice in voices
            ]
            pairs += product(*found)
        return pairs

    def _general(self, actor: Actor, pairs: list[tuple[AnswerSet, AnswerSet]]) -> list[Comparison]:
        """At most one comparison: of the first pair that can be compared."""
        for one, other in pairs:
            try:
                return [self.benchmarking.compare(actor, one.id, other.id)]
            except StudioError:
                continue  # not asked in the same way, or its files are gone
        return []

    def _of_scenes(self, actor: Actor) -> Iterator[Finding]:
        for run in self.evaluation.runs(actor):
            if run.state == "done":
                try:
                    yield from scene_findings(run, self.evaluation.folder(actor, run.id).read_results() or {})
                except (StudioError, KeyError, TypeError, AttributeError):
                    continue  # its files are damaged

    def _of_sets(
        self, actor: Actor, sets: dict[str, AnswerSet], uncounted: dict[str, StudioError]
    ) -> Iterator[Finding]:
        """What is found of each; the ids of those that cannot be counted get into `uncounted`, with the error."""
        for one in sets.values():
            benchmark = find_benchmark(one.stamp.benchmark)
            try:
                self.benchmarking.refuse_other_questions(actor, one.id)
            except StudioError as error:
                uncounted[one.id] = error
                continue
            ways: list[Way | None] = [None]
            if benchmark.variant() in benchmark.judged:
                ways = [way for way in self.judged.whole(actor, one.id) if way.variant == benchmark.variant()]
            for way in ways:
                key = (one.id, self._state(one), way)
                with self._lock:
                    finding = self._findings.get(key)
                if finding is None:
                    try:
                        finding = self._of_set(actor, one, way)
                    except StudioError as error:
                        uncounted[one.id] = error
                        continue
                    with self._lock:
                        self._findings[key] = finding
                        while len(self._findings) > REMEMBERED:
                            self._findings.pop(next(iter(self._findings)))
                yield finding

    def _of_set(self, actor: Actor, one: AnswerSet, way: Way | None) -> Finding:
        how = (way.variant, way.read_kept) if way else ()
        score = self.benchmarking.score(actor, one.id, *how)
        resamples = Resamples(score.counts, clusters=score.clusters)
        figures = tuple((measure, resamples.measure(measure)) for measure in score.measures)
        stamp = {name: value for name, value in one.stamp.lines.items() if name not in _OF_THE_VOICE}
        return Finding(
            voice_of(one),
            one.stamp.benchmark,
            score.variant,
            stamp,
            len(score.ids),
            figures,
            one.id,
            one.created,
        )

    def _notes(self, actor: Actor, uncounted: Sequence[tuple[AnswerSet, StudioError]]) -> Iterator[str]:
        """Which sets are not counted, and why."""
        root = self.benchmarking.root
        named = f" {root}" if "manage" in actor.rights else ""
        if uncounted and not root.is_dir():
            yield f"{sets_are(len(uncounted))} not counted: there is no benchmark folder{named}."
            return
        ready, reasons = dict(self.benchmarks(actor)), Counter()
        for one, error in uncounted:
            title = find_benchmark(one.stamp.benchmark).title
            if title not in ready:
                reasons[title, f"a file of it is not in the benchmark folder{named}."] += 1
            elif isinstance(error, OtherQuestions):
                reasons[title, "the question files here are not those that were asked."] += 1
            else:
                reasons[title, error.what] += 1
        for (title, reason), number in reasons.items():
            yield f"{sets_are(number, title)} not counted: {reason}"

    def _lineages(self, actor: Actor, voices: Sequence[str]) -> Iterator[Lineage]:
        measured = {voice.partition("@")[0]: voice for voice in voices}
        runs = {run.id: run for run in self.training.runs(actor)}
        sources = set()
        for run in runs.values():
            if run.state != "done" or not (run.has_adapter or run.has_model):
                continue
            made = self.training.folder(actor, run.id)
            folder = made.adapter if run.has_adapter else made.model
            sources.add(str(folder))
            parent = runs.get(run.parent or "")
            try:
                yield self._lineage(
                    # A whole model is loaded under the name of its run; its weights are not read through for a table.
                    adapter_identity(folder, name=None) if run.has_adapter else measured.get(run.id, run.id),
                    run.title,
                    folder,
                    base=base_of(run.config),
                    recipe=run.config[run.kind].get("recipe", ""),
                    run=run.id,
                    parent=parent.title if parent else run.parent or "",
                    made=run.created,
                )
            except StudioError:
                continue  # its files are damaged, and it can no more be chosen than measured
        for voice in self.host.local_voices(actor):
            folder = local_adapter(voice.source) if voice.adapter and voice.source not in sources else None
            if folder is not None:
                yield self._lineage(voice.id, voice.title, folder)

    def _lineage(self, identity: str, title: str, folder: Path, **known) -> Lineage:
        card = read_adapter_card(folder)
        base = "@".join(card["base"][part] for part in ("name", "revision")) if card.get("base") else ""
        pairs = card.get("pairs") if isinstance(card.get("pairs"), dict) else {}
        counts = (pairs.get("count"), pairs.get("held_out"))
        used, held_out = (number if isinstance(number, int) else None for number in counts)
        told = {"recipe": card.get("recipe", ""), "run": card.get("run", ""), "pairs": used, "held_out": held_out}
        return Lineage(identity, title, **{"base": base, **told, **known})

    def _unlisted(self, actor: Actor, sets) -> Iterator[Lineage]:
        """Who was measured and is no adapter of this studio: baselines, models on servers, imported answers."""
        for run in self.evaluation.runs(actor):
            base = base_of(run.config)
            yield Lineage(base, f"Baseline of {run.config['base']['name']}", base)
        for one in sets:
            model = one.stamp.model
            made = one.created if model.name == UNKNOWN else ""
            yield Lineage(voice_of(one), name_of(one), model.base if model.revision else "", made=made)


_OF_THE_VOICE = ("benchmark", "model", "imported from")


def _alike(one: AnswerSet, other: AnswerSet) -> bool:
    """Whether they were asked alike and can be compared."""
    try:
        refuse_unlike(one.stamp, other.stamp)
    except StudioError:
        return False
    return True
