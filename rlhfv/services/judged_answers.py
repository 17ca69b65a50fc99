"""Answers that only a judge can count: in which ways, by what was kept of its replies, and asking it for the rest.

A judge costs money: it is asked by whoever manages the studio, after it was said how much. What it said before, here
or in a terminal, is counted for whoever may see the answers, and asks nothing.
"""

import itertools
import shlex
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.errors import InvalidData, StudioError
from rlhfv.evaluation.answer_sets import AnswerFolder, AnswerSet
from rlhfv.evaluation.benchmarks import Benchmark, find_benchmark
from rlhfv.evaluation.files import sha256_of
from rlhfv.evaluation.judge_log import AskedJudge, judged_together, kept_prompt, read_log
from rlhfv.evaluation.judge_words import Standing, is_asked_for, standing_of
from rlhfv.evaluation.stamp import refuse_unlike
from rlhfv.remote_voices import RemoteVoice, served_name
from rlhfv.services.actor import Actor, hiding
from rlhfv.services.benchmarking import Benchmarking
from rlhfv.settings import Settings, default_data_dir

if TYPE_CHECKING:
    from rlhfv.evaluation.judge import Judge


@dataclass(frozen=True)
class Way:
    """A variant as a judge counts it, in the words of `prompt_file`, None for the studio's own."""

    variant: str
    judge: AskedJudge
    prompt_file: Path | None = None

    @property
    def name(self) -> str:
        """What tells it from the others where one is chosen."""
        model = served_name(self.judge.model)
        # Of a path only the last part is told, and two may end alike.
        path = "" if model == self.judge.model else f", model {sha256(self.judge.model.encode()).hexdigest()[:8]}"
        words = f", prompt {self.judge.prompt[:8]}" if self.judge.prompt else ""
        return f"{self.variant} by {model}{path}{words}"

    def read_kept(self, log: Path) -> "Judge":
        """A judge that is asked nothing: what it said before is read."""
        from rlhfv.evaluation.judge import Judge

        silent = threading.Event()
        silent.set()
        voice = RemoteVoice(served_name(self.judge.model), "", self.judge.model)
        return Judge(voice, log, prompt_file=self.prompt_file, stop=silent)


@dataclass(frozen=True)
class ToAsk:
    """What the judge `model` at `server` has to be asked before two sets can be compared. `some` says that a part of
    both is judged already."""

    server: str
    model: str
    standing: Standing
    some: bool


class JudgedAnswers:
    def __init__(self, settings: Settings, benchmarking: Benchmarking):
        self.settings, self.benchmarking = settings, benchmarking

    def ways(self, actor: Actor, id: str) -> list[str]:
        """The ways in which a judge counts a set: this studio's own judge for whoever may ask it, and every other one
        that has judged all of it."""
        one = self.benchmarking.answer_set(actor, id)
        own, ways = self._own(actor), self._ways(actor, [one])
        return [way.name for way in ways if way.judge == own or self._is_whole(one, way)]

    def whole(self, actor: Actor, id: str) -> list[Way]:
        """The ways in which a set is judged, all of it."""
        one = self.benchmarking.answer_set(actor, id)
        return [way for way in self._ways(actor, [one]) if self._is_whole(one, way)]

    def find(self, actor: Actor, ids: Sequence[str], name: str) -> Way | None:
        """The way of that name in which a judge counts these sets; None where there is none."""
        actor.require("train")
        sets = [self.benchmarking.answer_set(actor, id) for id in ids]
        return next((way for way in self._ways(actor, sets) if way.name == name), None)

    def to_ask(self, actor: Actor, before: str, after: str, name: str) -> ToAsk | None:
        """What has to be asked before two sets can be compared in that way; None where nothing has to be.

        Raises:
            NotFound: one of them is not there or somebody else's.
            InvalidData: they cannot be compared, or it takes a judge that this studio does not have, or that the actor
                may not ask.
        """
        sets = [self.benchmarking.answer_set(actor, id) for id in (before, after)]
        way, what = self.find(actor, (before, after), name), find_benchmark(sets[0].stamp.benchmark)
        if way is None:
            if (name or what.variant()) in what.judged:
                raise self._no_judge(actor, what, sets)
            return None
        refuse_unlike(*(one.stamp for one in sets))
        for one in sets:
            self.benchmarking.refuse_other_questions(actor, one.id)
        with hiding(actor, self.benchmarking.root):
            found = self._waiting(sets, way)
            self._refuse_two_versions(actor, sets, way, found)
        standing = standing_of(found)
        if not standing.waiting:
            return None
        if way.judge != self._own(actor):
            raise self._not_ours(actor, sets, way, standing)
        some = all(len(waiting) < len(set(requests)) for requests, waiting in found)
        return ToAsk(self.settings.judge.voice.server, served_name(way.judge.model), standing, some)

    def ask(
        self,
        actor: Actor,
        before: str,
        after: str,
        name: str,
        stop: threading.Event,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Asks this studio's judge for what has no reply yet. Each reply is kept as it comes; set, `stop` ends it
        after the requests under way. `on_progress` gets how many requests of both sets have a reply and of how many.

        Raises:
            Forbidden: the actor does not manage the studio.
            GenerationFailed: the judge cannot be asked; what it said until then is kept.
            NotFound, InvalidData: as `to_ask` does, or its key is not there, or it is being asked already.
        """
        actor.require("manage")
        if self.to_ask(actor, before, after, name) is None:
            return
        from rlhfv.evaluation.judge import Judge

        way, named = self.find(actor, (before, after), name), self.settings.judge
        sets = [self.benchmarking.answer_set(actor, id) for id in (before, after)]
        standing = standing_of(self._waiting(sets, way))
        done = itertools.count(standing.requests - standing.waiting + 1)
        how = {"prompt_file": way.prompt_file, "at_once": named.at_once, "stop": stop}
        how["on_progress"] = lambda *_: on_progress(next(done), standing.requests)
        logs = [self._folder(one).judge_log for one in sets]
        for one, log in zip(sets, logs, strict=True):
            asked = self._asked(one, way)
            judge = judged_together(lambda log: Judge(named.voice, log, **how), logs)(log)
            judge.ask(asked.cases, asked.wording, asked.read)

    def command(self, actor: Actor, ids: Sequence[str], way: Way | None = None) -> str:
        """What judges these sets in a terminal of this machine; "" for whoever does not manage the studio."""
        actor.require("train")
        if "manage" not in actor.rights:
            return ""
        words = ["python", "-m", "rlhfv", "benchmark", "score" if len(ids) == 1 else "compare", *ids]
        words += ["--variant", way.variant] if way else []
        words += ["--judge", f"URL#{way.judge.model if way else 'MODEL'}", "--judge-key-env", "VARIABLE"]
        words += ["--judge-prompt", str(way.prompt_file)] if way and way.prompt_file else []
        if self.settings.data_dir != default_data_dir().expanduser().resolve():
            words += ["--data-dir", str(self.settings.data_dir)]
        words += ["--benchmarks", str(self.settings.benchmarks)] if self.settings.benchmarks else []
        return shlex.join(words)

    # ---- inside

    def _own(self, actor: Actor) -> AskedJudge | None:
        """This studio's judge, for whoever may ask it."""
        named = self.settings.judge
        if named is None or "manage" not in actor.rights:
            return None
        if named.prompt is None:
            return AskedJudge(named.voice.model)
        return AskedJudge(named.voice.model, sha256_of(named.prompt) if named.prompt.is_file() else "is gone")

    def _folder(self, one: AnswerSet) -> AnswerFolder:
        return AnswerFolder(self.benchmarking.sets / one.id)

    def _ways(self, actor: Actor, sets: Sequence[AnswerSet]) -> list[Way]:
        """This studio's judge first, then those that were asked about one of the sets."""
        what = find_benchmark(sets[0].stamp.benchmark)
        if not what.judged:
            return []
        judges: dict[AskedJudge, Path | None] = {}
        if own := self._own(actor):
            judges[own] = self.settings.judge.prompt
        for log in (self._folder(one).judge_log for one in sets):
            for judge in read_log(log).judges:
                judges.setdefault(judge, kept_prompt(log, judge.prompt) if judge.prompt else None)
        variants = [variant for variant in what.variants if variant in what.judged]
        return [Way(variant, judge, prompt) for judge, prompt in judges.items() for variant in variants]

    def _asked(self, one: AnswerSet, way: Way):
        what = find_benchmark(one.stamp.benchmark)
        return what.to_judge(what.folder(self.benchmarking.root), self._folder(one).answers(), way.prompt_file)

    def _standing(self, one: AnswerSet, way: Way) -> Standing:
        return way.read_kept(self._folder(one).judge_log).standing(self._asked(one, way))

    def _waiting(self, sets: Sequence[AnswerSet], way: Way) -> list[tuple[list[str], set[str]]]:
        """The requests of each of the sets that are compared, and those without a reply in any of them."""
        logs = [self._folder(one).judge_log for one in sets]
        judges = map(judged_together(way.read_kept, logs), logs)
        return [judge.waiting(self._asked(one, way)) for one, judge in zip(sets, judges, strict=True)]

    def _refuse_two_versions(self, actor: Actor, sets: Sequence[AnswerSet], way: Way, found) -> None:
        """Before anything is paid for: what two versions of a judge said is not compared, and no more replies of one
        make it one. Counting copies what was said of the same answer beside."""
        logs, said = [self._folder(one).judge_log for one in sets], []
        for one, log in zip(sets, logs, strict=True):
            asked = self._asked(one, way)
            judge = judged_together(way.read_kept, logs)(log)
            said.append(judge.ask(asked.cases, asked.wording, asked.read))
        lacks = [set(other.by) - set(one.by) for one, other in (said, said[::-1])]
        waits = [bool(waiting) for _, waiting in found]
        if any(waits):
            for_good = any(names and not wait for names, wait in zip(lacks, waits, strict=True)) or all(lacks)
        else:
            for_good = said[0].how != said[1].how
        if not for_good:
            return
        before, after = (" and ".join(one.by) or "none" for one in said)
        what = f"The judge {served_name(way.judge.model)} answered as {before} for one set, as {after} for the other."
        if before == after:
            what = f"The judge {after} was asked in two ways: {said[0].how}, and {said[1].how}."
        why = (
            "Two versions of a judge, or one asked in two ways, may judge differently: such figures are not compared."
        )
        raise InvalidData(what, why, self._one_version(actor, sets, way, [*said[1].by, *said[0].by]))

    def _one_version(self, actor: Actor, sets: Sequence[AnswerSet], way: Way, by: Sequence[str]) -> str:
        """What to do where a judge answered as several."""
        if "manage" not in actor.rights:
            return "Choose two sets that are judged alike, or ask whoever runs this studio."
        names = list(dict.fromkeys(name.rpartition("@")[0] for name in by))
        names = [name for name in names if name != way.judge.model and is_asked_for(way.judge.model, name)]
        if len(names) > 1:
            version = replace(way, judge=replace(way.judge, model=names[0]))
            return (
                f"Name one version that the server still has, which is asked, and paid, for all answers anew: start "
                f"the studio with --judge URL#{' or URL#'.join(names)}, or in a terminal: "
                f"{self.command(actor, [one.id for one in sets], version)}"
            )
        return (
            f"Move {self._folder(sets[0]).judge_log} or {self._folder(sets[1]).judge_log} to another folder: the "
            "judge is then asked, and paid, for that set anew."
        )

    def _is_whole(self, one: AnswerSet, way: Way) -> bool:
        try:
            standing = self._standing(one, way)
        except StudioError:
            return False  # the benchmark's files are gone
        return bool(standing.requests) and not standing.waiting

    def _no_judge(self, actor: Actor, what: Benchmark, sets: Sequence[AnswerSet]) -> InvalidData:
        why = "The answers are free text: a language model reads them beside the benchmark's keys."
        if self.ways(actor, sets[0].id):
            fix = "Choose one under 'Counted as'; where it offers none, load the page again."
            return InvalidData(f"{what.title} is counted by a judge, and none is chosen.", why, fix)
        command = self.command(actor, [one.id for one in sets])
        return InvalidData(
            f"{what.title} is counted by a judge, and this studio has none.",
            why,
            f"Start the studio with --judge URL#MODEL --judge-key-env VARIABLE, or judge them in a terminal: {command}"
            if command
            else "Ask whoever runs this studio to have them judged: what a judge said is counted here too.",
        )

    def _not_ours(self, actor: Actor, sets: Sequence[AnswerSet], way: Way, standing: Standing) -> InvalidData:
        model, own = served_name(way.judge.model), self._own(actor)
        lacking = f"{standing.unjudged:,} of {standing.answers:,} answers in the two sets are not judged by {model}."
        if command := self.command(actor, [one.id for one in sets], way):
            has = f"has another, {served_name(own.model)}" if own else "was started without one"
            fix = f"Judge them in a terminal: {command}"
            return InvalidData(lacking, f"It takes that judge in the same words, and this studio {has}.", fix)
        why = "A judge costs money: only who manages this studio asks one."
        return InvalidData(lacking, why, "Choose two sets that are judged, or ask whoever runs this studio.")
