"""From pairs to a new voice: what a run would do, its start, its course, and whether the corrections now hold."""

import shlex
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlhfv.corrections.conversation import Answer, Prompt, Sampling
from rlhfv.corrections.edits import KINDS, CorrectedAnswer, normalise_generated
from rlhfv.corrections.pairs import Judgement, PreferencePair
from rlhfv.ddpo.check import CheckReport, check_run
from rlhfv.ddpo.config import RECIPES, TrainingConfig
from rlhfv.errors import InvalidData, RunFailed
from rlhfv.evaluation.reask import EditVerdict, judge_lexically, judge_with_truth
from rlhfv.models.catalog import Entry, find_entry
from rlhfv.runs.local import Run
from rlhfv.services.actor import Actor
from rlhfv.services.bases import Base, identify
from rlhfv.services.memory import ANYWAY, ELSEWHERE
from rlhfv.services.own_runs import OwnRuns
from rlhfv.services.terms import make_provenance, now
from rlhfv.settings import default_data_dir

ORACLE = "oracle"
FEW_PAIRS = 50
SCENES_AT_ONCE = 32
SHARED_ORACLE_PAIRS = 256
"""Pairs of the oracle in one call, where many share a machine."""
REMEMBERED = 1000
"""Visitors whose choice of a base is remembered; the oldest is forgotten first."""


@dataclass(frozen=True)
class PairCounts:
    """Which pairs a run could use. `own` were made by people, `oracle` by the oracle of the drawn scenes; `kinds`
    counts the pairs with a correction of each kind. `seconds` is what a run has here, where that is limited."""

    own: int
    oracle: int
    kinds: dict[str, int]
    seconds: float | None = None

    @property
    def advice(self) -> str:
        """What to expect of so many pairs, and of a machine that many share."""
        if not self.seconds:
            return self._expectation
        shared = f"This machine is shared: runs wait for their turn, and one ends after {self.seconds / 60:g} minutes"
        return f"{self._expectation} {shared} with what it has learnt by then. Its adapter is yours only."

    @property
    def _expectation(self) -> str:
        """RLHF-V's own figures are 1,400 pairs for a third, 200 for a twentieth."""
        total = self.own + self.oracle
        if total == 0:
            return "There are no pairs yet. Correct an answer first."
        if total < FEW_PAIRS:
            return (
                f"{total} pair{'s' if total > 1 else ''}: enough to see the loop close, too few to change a model's "
                "habits. In the paper 200 corrected answers moved the rate by a few points, 1,400 by a third."
            )
        return f"{total} pairs ({self.own} by people, {self.oracle} by the oracle)."


@dataclass(frozen=True)
class Reasked:
    """One corrected answer after training. `judged_by` is "oracle" where the truth is known, else "lexical"."""

    pair: PreferencePair
    new_answer: str
    verdicts: tuple[EditVerdict, ...]
    judged_by: str


class Training(OwnRuns):
    kind = "training"

    def __init__(self, *services):
        super().__init__(*services)
        self._chosen: dict[str, str] = {}

    # ---- before a run

    def recipes(self) -> dict[str, TrainingConfig]:
        return RECIPES

    def counts(self, actor: Actor) -> PairCounts:
        actor.require("train")

        def count(**filters) -> int:
            return self.store.find_pairs(visitor=self._scope(actor), state="accepted", limit=0, **filters).total

        oracle = count(annotator=ORACLE)
        kinds = {kind: count(kind=kind) for kind in KINDS}
        kinds = {kind: number for kind, number in kinds.items() if number}
        return PairCounts(count() - oracle, oracle, kinds, self.settings.run_seconds)

    def check(self, actor: Actor, config: TrainingConfig, copy_of: str = "", here: bool = True) -> CheckReport:
        """What a run with these settings would use, skip and cost, before any compute; on the pairs and the base of
        the run `copy_of` where one is named, else on the base to train. What only the machine that trains has to have
        is asked for `here` only.
        """
        actor.require("train")
        if not copy_of:
            base = self.base_to_train(actor, here)
            return check_run(self._pairs(actor), config, base.entry, self.shelf.path, here)
        folder = self.folder(actor, copy_of)
        pairs = [PreferencePair.from_row(row) for row in folder.read_rows()]
        return check_run(pairs, config, self.base_of(actor, copy_of), folder.image_path, here)

    def base_of(self, actor: Actor, run_id: str) -> Entry:
        """The base that a run was frozen with, which need not be the one that is chosen now."""
        frozen, entries = self.run(actor, run_id).config, [base.entry for base in self.host.bases.all]
        path, base = self.local.base_path(frozen), frozen["base"]
        if path:
            return next((one for one in entries if one.source == str(path)), None) or find_entry(str(path))
        for chosen in entries:
            if chosen.id == base["source"] and chosen.revision in (None, base["revision"]):
                return chosen
        return find_entry(base["source"], base["revision"] if "/" in base["source"] else None)

    def can_add_oracle_pairs(self) -> bool:
        return self.host.world is not None

    def add_oracle_pairs(
        self, actor: Actor, count: int, stop: threading.Event | None = None
    ) -> Iterator[tuple[int, int]]:
        """Answers fresh scenes with the baseline and lets the oracle correct them; yields (made, wanted) until `stop`.

        Faithful answers make no pair, so more scenes are asked than pairs come out.
        """
        actor.require("train")
        if not 1 <= count <= 5000:
            raise InvalidData(f"{count} oracle pairs were asked for.", "One call makes 1 to 5,000.", "Ask for fewer.")
        world = self.host.require_world()
        if self.limits and "manage" not in actor.rights:
            if count > SHARED_ORACLE_PAIRS:
                raise InvalidData(
                    f"{count} oracle pairs were asked for.",
                    f"Many people share this machine, and one call makes up to {SHARED_ORACLE_PAIRS} here.",
                    "Ask for fewer; some hundred are enough for the demo model.",
                )
            self.limits.take(actor, "run")
        question, sampling, made = world.questions[0], Sampling(), 0
        yield made, count
        while made < count and not (stop and stop.is_set()):
            drawn = [world.draw("pairs", world.fresh_seed("pairs")) for _ in range(SCENES_AT_ONCE)]
            prompts = []
            for data, source in drawn:
                image = self.shelf.intake(data)
                self.store.set_image_source(image.name, source)
                prompts.append(Prompt(question, (image.name,)))
            with self.host.bases.using(self.host.world_base) as model:
                texts = model.answer_many(prompts, None, sampling, self.shelf.path, batch_size=SCENES_AT_ONCE)
            for prompt, text, (_, source) in zip(prompts, texts, drawn, strict=True):
                if made < count:
                    made += self._save_oracle_pair(actor, world, source, prompt, normalise_generated(text), sampling)
            yield made, count

    def command(self, actor: Actor, config: TrainingConfig, title: str = "", copy_of: str = "") -> str:
        """The command that does what the start button does, on the pairs of this studio or those of the run `copy_of`.
        Where several people share a studio it names an export instead of the studio's own folder."""
        actor.require("train")
        recipe, settings = RECIPES[config.recipe].to_dict(), self.settings
        base = self.base_to_train(actor)
        if base is self.host.first:
            words = ["--model", settings.model, *(["--revision", settings.revision] if settings.revision else [])]
        else:
            words = ["--model", str(base.path or base.entry.id)]
        if not settings.single_user:
            words += ["--data", "pairs.jsonl"]
        elif settings.data_dir != default_data_dir():
            words += ["--data-dir", str(settings.data_dir)]
        if copy_of and settings.single_user:
            words += ["--data", str(self.folder(actor, copy_of).path)]
        words += ["--recipe", config.recipe]
        for name, value in config.to_dict().items():
            if name not in ("recipe", "source") and recipe[name] != value and value is not None:
                words += [f"--{name.replace('_', '-')}", str(value)]
        words += ["--title", title] if title else []
        return shlex.join(["python", "-m", "rlhfv", "train", *words])

    # ---- a run

    def bases(self, actor: Actor) -> list[tuple[str, str]]:
        """(title, key) of the bases that a run can train, the chat's first one first."""
        actor.require("train")
        return [(base.entry.title, base.key) for base in self.host.bases.all if base.entry.source]

    def base_to_train(self, actor: Actor, here: bool = True) -> Base:
        """The base that the actor chose, else the first that this machine, or one elsewhere, can train."""
        actor.require("train")
        chosen = self._chosen.get(actor.visitor)
        for base in self.host.bases.all:
            if base.key == chosen:
                return base
        return self.host.second if here and self.host.borrows_gpu else self.host.first

    def choose_base(self, actor: Actor, key: str) -> None:
        """The base that the actor's next runs train. Raises `NotFound` where it is no longer here."""
        actor.require("train")
        self._chosen[actor.visitor] = self.host.base(key).key
        while len(self._chosen) > REMEMBERED:
            self._chosen.pop(next(iter(self._chosen)))

    def start(self, actor: Actor, config: TrainingConfig, title: str = "", room: str = ANYWAY) -> str:
        """Freezes the actor's pairs into a queued run; returns its id.

        Raises `RunFailed` with no usable pair, `MemoryShort` when `room` is to be asked and there is none.
        """
        actor.require("train")
        return self.start_with(actor, self._pairs(actor), config, self.shelf.path, title, room)

    def start_with(self, actor, pairs, config, image_path, title="", room=ANYWAY, base: Base | None = None) -> str:
        """Like `start`, on pairs that the caller names: an imported file, a selection; on `base` where it names that
        too, whatever the actor chose."""
        actor.require("train")
        base = base or self.base_to_train(actor, here=room != ELSEWHERE)
        report = check_run(pairs, config, base.entry, image_path, here=room != ELSEWHERE)
        if not report.usable:
            raise none_usable(report)
        return self._start(
            actor,
            title or f"{config.recipe}, {report.usable} pair{'s' if report.usable != 1 else ''}",
            config.to_dict(),
            [pair.to_row() for pair in pairs],
            image_path,
            self._place(room, lambda: (report.memory, report.available)),
            base=base,
        )

    def duplicate(
        self,
        actor: Actor,
        run_id: str,
        config: TrainingConfig | None = None,
        title: str = "",
        room: str = ANYWAY,
    ) -> Run:
        """The same frozen pairs under the same or other settings, queued as a run of its own; raises like `start`."""
        run = self.run(actor, run_id)
        changes = None if config is None else config.to_dict()
        place = self._place(room, lambda: self._need_of(actor, run, config))
        return self._placed(self.local.duplicate(run.id, changes, title or None, **place))

    def export(self, actor: Actor, run_id: str, folder: Path, merge: bool = False) -> Path:
        return self.local.export(self.run(actor, run_id).id, folder, merge)

    def voice_of(self, actor: Actor, run_id: str) -> str:
        """The id under which the adapter of a finished run can be chosen in the chat."""
        folder = self.folder(actor, run_id)
        for voice in self.host.voices(actor):
            if voice.source == str(folder.adapter):
                return voice.id
        run = self.run(actor, run_id)
        if run.has_model:
            raise RunFailed(
                f"The run {run_id} made a whole model.",
                "It is a base of its own, and no adapter of this one.",
                "Export it and start the studio with that folder as --model, or --beside this one.",
            )
        if run.has_adapter and run.state == "done":
            raise RunFailed(
                f"The adapter of the run {run_id} cannot answer here.",
                f"It was trained on {run.config['base']['name']!r}, which is not among the models of this studio now.",
                "Put that model beside the chat's, or start the studio with it.",
            )
        raise RunFailed(
            f"The run {run_id} has no adapter.", f"The run is {run.state}.", "Wait for it, resume it, or read its log."
        )

    # ---- after a run

    def reask(
        self, actor: Actor, run_id: str, stop: threading.Event | None = None, voice: str = ""
    ) -> Iterator[tuple[list[Reasked], int]]:
        """Asks the new adapter every corrected question of the run that a person made, until `stop`; yields the
        growing list and how many there are to ask. `voice` names another one to ask, such as a server that has the
        adapter by now."""
        folder = self.folder(actor, run_id)
        voice = self.host.voice(actor, voice).id if voice else self.voice_of(actor, run_id)
        pairs = [
            pair
            for pair in map(PreferencePair.from_row, folder.read_rows())
            if pair.outcome == "corrected" and pair.provenance.annotator != ORACLE
        ]
        adapter, results = self.host.voice(actor, voice).adapter, []
        yield results, len(pairs)
        for pair in pairs:
            if stop and stop.is_set():
                return
            with self.host.using(actor, voice) as model:
                [answer] = model.answer_many([pair.prompt], adapter, Sampling(), folder.image_path, batch_size=1)
            results = [*results, self._judge(pair, answer)]
            yield results, len(pairs)

    def _need_of(self, actor: Actor, run: Run, config: TrainingConfig | None = None) -> tuple[int, int]:
        base = run.config["base"]
        own = [one.identity for one in self.host.bases.all if one.entry.source]
        if (base["name"], base["revision"]) not in [(one.name, one.revision) for one in own if one]:
            return 0, 0  # only the base that is chosen now can be measured
        report = self.check(actor, config or TrainingConfig.from_dict(run.config["training"]), run.id)
        return report.memory, report.available

    def _judge(self, pair: PreferencePair, answer: str) -> Reasked:
        world, source = self.host.world, pair.provenance.source
        if world is not None and source:
            verdicts = judge_with_truth(world, source, pair.prompt.question, pair.rejected, pair.edits, answer)
            return Reasked(pair, answer, tuple(verdicts), "oracle")
        return Reasked(pair, answer, tuple(judge_lexically(pair.rejected, pair.edits, answer)), "lexical")

    def _pairs(self, actor: Actor) -> list[PreferencePair]:
        return list(self.store.all_pairs(visitor=self._scope(actor), state="accepted"))

    def _scope(self, actor: Actor) -> str | None:
        """Whose pairs: everybody's on a machine of one person and in a team, else the visitor's own."""
        return None if self.settings.single_user or self.settings.team else actor.visitor

    def _save_oracle_pair(self, actor, world, source: str, prompt: Prompt, text: str, sampling: Sampling) -> int:
        edits = world.annotate(source, prompt.question, text)
        if not edits:
            return 0
        answer = Answer(
            id=uuid.uuid4().hex,
            prompt=prompt,
            text=text,
            model=identify(self.host.bases, self.host.world_base),
            sampling=sampling,
            visitor=actor.visitor,
            created=now(),
            row_layout=("baseline",),
        )
        corrected = CorrectedAnswer(text, tuple(edits))
        self.store.add_answer(answer)
        pair = PreferencePair(
            id="",
            prompt=prompt,
            chosen=corrected.corrected,
            rejected=text,
            edits=corrected.edits,
            outcome="corrected",
            provenance=make_provenance(self.store, actor, answer, annotator=ORACLE),
        )
        judgement = Judgement(
            id=uuid.uuid4().hex,
            answers=(answer.id,),
            outcome="corrected",
            flags=(),
            reason="",
            annotator=ORACLE,
            created=now(),
            active_seconds=0.0,
        )
        self.store.save(judgement, pair, state="accepted")  # the oracle knows the truth: nothing is left to review
        return 1


def none_usable(report: CheckReport) -> RunFailed:
    return RunFailed(
        f"None of {len(report.skipped)} pairs can be trained on.",
        report.skipped[0][1] if report.skipped else "There are no pairs.",
        "Correct answers first, or change the settings that skip them.",
    )
