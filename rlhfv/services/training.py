"""From pairs to a new voice: what a run would do, its start, its course, and whether the corrections now hold."""

import shlex
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlhfv.corrections.conversation import Answer, Prompt, Sampling
from rlhfv.corrections.edits import CorrectedAnswer, normalise_generated
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import Judgement, PreferencePair
from rlhfv.corrections.store import Store
from rlhfv.ddpo.check import CheckReport, check_run
from rlhfv.ddpo.config import RECIPES, TrainingConfig
from rlhfv.errors import InvalidData, RunFailed
from rlhfv.evaluation.reask import EditVerdict, judge_lexically, judge_with_truth
from rlhfv.runs.local import LocalRuns, Run
from rlhfv.services.actor import Actor
from rlhfv.services.model_host import ModelHost
from rlhfv.services.own_runs import OwnRuns
from rlhfv.services.terms import make_provenance, now
from rlhfv.settings import Settings

ORACLE = "oracle"
FEW_PAIRS = 50
SCENES_AT_ONCE = 32


@dataclass(frozen=True)
class PairCounts:
    """Which pairs a run could use. `own` were made by people, `oracle` by the oracle of the drawn scenes."""

    own: int
    oracle: int
    kinds: dict[str, int]

    @property
    def advice(self) -> str:
        """What to expect of so many pairs; RLHF-V's own figures are 1,400 pairs for a third, 200 for a twentieth."""
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


class Training:
    def __init__(self, settings: Settings, store: Store, shelf: ImageShelf, host: ModelHost, runs: LocalRuns):
        self.settings, self.store, self.shelf, self.host = settings, store, shelf, host
        self._runs = OwnRuns(settings, runs, "training")

    # ---- before a run

    def recipes(self) -> dict[str, TrainingConfig]:
        return RECIPES

    def counts(self, actor: Actor) -> PairCounts:
        pairs = self._pairs(actor)
        oracle = sum(pair.provenance.annotator == ORACLE for pair in pairs)
        kinds = Counter(edit.kind for pair in pairs for edit in pair.edits)
        return PairCounts(len(pairs) - oracle, oracle, dict(kinds))

    def check(self, actor: Actor, config: TrainingConfig) -> CheckReport:
        """What a run with these settings would use, skip and cost, before any compute."""
        actor.require("train")
        return check_run(self._pairs(actor), config, self.host.entry, self.shelf.path)

    def can_add_oracle_pairs(self) -> bool:
        return self.host.entry.world is not None

    def add_oracle_pairs(self, actor: Actor, count: int) -> Iterator[tuple[int, int]]:
        """Answers fresh scenes with the baseline and lets the oracle correct them; yields (made, wanted).

        Faithful answers make no pair, so more scenes are asked than pairs come out.
        """
        actor.require("train")
        if not 1 <= count <= 5000:
            raise InvalidData(f"{count} oracle pairs were asked for.", "One call makes 1 to 5,000.", "Ask for fewer.")
        world = self.host.require_world()
        model = self.host.model()
        question, sampling, made = world.questions[0], Sampling(), 0
        yield made, count
        while made < count:
            drawn = [world.draw("pairs", world.fresh_seed("pairs")) for _ in range(SCENES_AT_ONCE)]
            prompts = []
            for data, source in drawn:
                image = self.shelf.intake(data)
                self.store.set_image_source(image.name, source)
                prompts.append(Prompt(question, (image.name,)))
            texts = model.answer_many(prompts, None, sampling, self.shelf.path, batch_size=SCENES_AT_ONCE)
            for prompt, text, (_, source) in zip(prompts, texts, drawn, strict=True):
                if made < count:
                    made += self._save_oracle_pair(actor, world, source, prompt, normalise_generated(text), sampling)
            yield made, count

    def command(self, config: TrainingConfig, data: str = "pairs.jsonl") -> str:
        """The command that does on any machine what the start button does here."""
        recipe = RECIPES[config.recipe].to_dict()
        changed = [
            part
            for name, value in config.to_dict().items()
            if name not in ("recipe", "source") and recipe[name] != value and value is not None
            for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        flags = ["--data", data, "--recipe", config.recipe, "--model", self.settings.model]
        return shlex.join(["python", "-m", "rlhfv", "train", *flags, *changed])

    # ---- a run

    def start(self, actor: Actor, config: TrainingConfig, title: str = "", unload_chat: bool = False) -> str:
        """Freezes the actor's pairs into a queued run; returns its id. Raises `RunFailed` with no usable pair."""
        actor.require("train")
        pairs = self._pairs(actor)
        return self.start_with(actor, pairs, config, self.shelf.path, title, unload_chat)

    def start_with(self, actor, pairs, config, image_path, title="", unload_chat=False) -> str:
        """Like `start`, on pairs that the caller names: an imported file, a selection."""
        actor.require("train")
        report = check_run(pairs, config, self.host.entry, image_path)
        if not report.usable:
            raise RunFailed(
                f"None of {len(pairs)} pairs can be trained on.",
                report.skipped[0][1] if report.skipped else "There are no pairs.",
                "Correct answers first, or change the settings that skip them.",
            )
        if unload_chat:
            self.host.unload()
        run = self._runs.local.start(
            {
                "kind": "training",
                "title": title or f"{config.recipe}, {report.usable} pairs",
                "base": self.host.base_config(),
                "training": config.to_dict(),
                "owner": actor.public_id,
            },
            [pair.to_row() for pair in pairs],
            image_path,
            base_path=self.host.base_path(),
        )
        return run.id

    def runs(self, actor: Actor) -> list[Run]:
        """Training runs, newest first."""
        return self._runs.list(actor)

    def run(self, actor: Actor, run_id: str) -> Run:
        return self._runs.get(actor, run_id)

    def events(self, actor: Actor, run_id: str, offset: int = 0) -> tuple[list[dict], int]:
        """Events after byte `offset`, and the offset to go on from."""
        return self._runs.folder(actor, run_id).read_events(offset)

    def log(self, actor: Actor, run_id: str, lines: int = 200) -> list[str]:
        return self._runs.folder(actor, run_id).read_log(lines)

    def stop(self, actor: Actor, run_id: str) -> Run:
        return self._runs.local.stop(self.run(actor, run_id).id)

    def resume(self, actor: Actor, run_id: str) -> Run:
        return self._runs.local.resume(self.run(actor, run_id).id)

    def duplicate(self, actor: Actor, run_id: str, config: TrainingConfig | None = None) -> Run:
        """The same frozen pairs under the same or other settings, queued as a run of its own."""
        changes = None if config is None else config.to_dict()
        return self._runs.local.duplicate(self.run(actor, run_id).id, changes)

    def delete(self, actor: Actor, run_id: str) -> None:
        self._runs.local.delete(self.run(actor, run_id).id)

    def export(self, actor: Actor, run_id: str, folder: Path, merge: bool = False) -> Path:
        return self._runs.local.export(self.run(actor, run_id).id, folder, merge)

    def voice_of(self, actor: Actor, run_id: str) -> str:
        """The id under which the adapter of a finished run can be chosen in the chat."""
        folder = self._runs.folder(actor, run_id)
        for voice in self.host.voices(actor):
            if voice.source == str(folder.adapter):
                return voice.id
        raise RunFailed(
            f"The run {run_id} has no adapter.", "It has not ended well.", "Wait for it, resume it, or read its log."
        )

    # ---- after a run

    def reask(self, actor: Actor, run_id: str) -> Iterator[list[Reasked]]:
        """Asks the new adapter every corrected question of the run that a person made; yields the growing list."""
        folder = self._runs.folder(actor, run_id)
        voice = self.voice_of(actor, run_id)
        pairs = [
            pair
            for pair in map(PreferencePair.from_row, folder.read_rows())
            if pair.outcome == "corrected" and pair.provenance.annotator != ORACLE
        ]
        model, results = self.host.model_for(actor, voice), []
        yield results
        for pair in pairs:
            [answer] = model.answer_many([pair.prompt], voice, Sampling(), folder.image_path, batch_size=1)
            results = [*results, self._judge(pair, answer)]
            yield results

    def _judge(self, pair: PreferencePair, answer: str) -> Reasked:
        world, source = self.host.entry.world, pair.provenance.source
        if world is not None and source:
            verdicts = judge_with_truth(world, source, pair.prompt.question, pair.rejected, pair.edits, answer)
            return Reasked(pair, answer, tuple(verdicts), "oracle")
        return Reasked(pair, answer, tuple(judge_lexically(pair.rejected, pair.edits, answer)), "lexical")

    def _pairs(self, actor: Actor) -> list[PreferencePair]:
        return list(self.store.all_pairs(visitor=None if self.settings.single_user else actor.visitor))

    def _save_oracle_pair(self, actor, world, source: str, prompt: Prompt, text: str, sampling: Sampling) -> int:
        edits = world.annotate(source, prompt.question, text)
        if not edits:
            return 0
        answer = Answer(
            id=uuid.uuid4().hex,
            prompt=prompt,
            text=text,
            model=self.host.identity,
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
        self.store.save(judgement, pair)
        return 1
