"""Answers that only a judge can count: in which ways, by what was kept of its replies, and asking it for the rest.

A judge costs money: it is asked by whoever manages the studio, after it was said how much. What it said before, here
or in a terminal, is counted for whoever may see the answers, and asks nothing.
"""

import shlex
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.errors import InvalidData, StudioError
from rlhfv.evaluation.answer_sets import AnswerFolder, AnswerSet
from rlhfv.evaluation.benchmarks import Benchmark, find_benchmark
from rlhfv.evaluation.files import sha256_of
from rlhfv.evaluation.judge_log import AskedJudge, kept_prompt, read_log
from rlhfv.evaluation.judge_words import Standing
from rlhfv.evaluation.stamp import refuse_unlike
from rlhfv.remote_voices import RemoteVoice, served_name
from rlhfv.services.actor import Actor
from rlhfv.services.benchmarking import Benchmarking, hiding
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
        words = f", prompt {self.judge.prompt[:8]}" if self.judge.prompt else ""
        return f"{self.variant} by {served_name(self.judge.model)}{words}"

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
        with hiding(actor, self.benchmarking.root):
            standings = [self._standing(one, way) for one in sets]
        standing = standings[0] + standings[1]
        if not standing.waiting:
            return None
        if way.judge != self._own(actor):
            raise self._not_ours(actor, sets, way, standing)
        some = all(one.waiting < one.requests for one in standings)
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
        standings = {one.id: self._standing(one, way) for one in sets}
        done = {id: standing.requests - standing.waiting for id, standing in standings.items()}
        total = sum(standing.requests for standing in standings.values())
        for one in sets:

            def tell(replies: int, _: int, id: str = one.id) -> None:
                done[id] = replies
                on_progress(sum(done.values()), total)

            how = {"prompt_file": way.prompt_file, "at_once": named.at_once, "on_progress": tell, "stop": stop}
            asked = self._asked(one, way)
            Judge(named.voice, self._folder(one).judge_log, **how).ask(asked.cases, asked.wording, asked.read)

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
