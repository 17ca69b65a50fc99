"""What is claimed of corrections and of DDPO on LLaVA-1.5-7B, and who wins by the figures of `reproduce_model`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rlhfv.evaluation.benchmarks import find_benchmark
from rlhfv.evaluation.claims import BETTER, HELD, MISSING, NO_WORSE, TOO_SMALL, Claim, Finding
from rlhfv.evaluation.reproduce_model import BASE, PLAIN

POINT = 1.0
"""The smallest gain that matters, in percentage points."""
SLACK = 2.0
"""How much worse still counts as no worse, in percentage points."""

CONTEST = (
    ("object-halbench", "response_rate", "RLHF-V, Table 3 (MHumanEval, all)", "57.5 → 55.5 % (Muffin-13B)"),
    ("object-halbench", "mention_rate", "–", "–"),
    ("chair", "response_rate", "–", "–"),
    ("amber-generative", "chair", "–", "–"),
    ("amber-generative", "hal", "–", "–"),
    ("amber-discriminative", "f1", "TPO (arXiv 2412.14487), Table 2", "82.1 → 78.5: there DDPO was worse"),
    ("pope", "f1", "–", "–"),
)
"""Where DDPO and plain DPO meet: benchmark, measure, where it is published and what."""
_PRICES = (
    ("object-halbench", "recall", "objects named that are there"),
    ("amber-generative", "cover", "AMBER's Cover"),
    ("pope", "f1", "POPE's F1"),
)
_FALLS = (
    ("object-halbench", "response_rate", "54.5 → 28.5 %"),
    ("object-halbench", "mention_rate", "27.8 → 12.3 %"),
    ("amber-discriminative", "accuracy", "73.5 → 76.4 %"),
)
BETTER_, WORSE, MIXED, OPEN, NOT_YET = "better than DPO", "worse than DPO", "mixed", "undecided", "not measured yet"


def list_claims(recipes: Sequence[str], benchmarks: Collection[str]) -> list[Claim]:
    """The claims that these recipes can decide on these benchmarks: the contest first."""
    claims = []
    for recipe in recipes:
        for benchmark, measure, where, theirs in CONTEST:
            if recipe != PLAIN and PLAIN in recipes:
                said = f"DDPO (`{recipe}`) is better than plain DPO on the same pairs."
                claims.append(
                    Claim(said, where, theirs, benchmark, measure, PLAIN, recipe, BETTER, POINT, _title(benchmark))
                )
    for recipe in recipes:
        for benchmark, measure, theirs in _FALLS:
            said = f"Training on these corrections (`{recipe}`) lowers hallucination."
            where = "RLAIF-V (arXiv 2405.17220): plain DPO on RLHF-V's data"
            claims.append(
                Claim(said, where, theirs, benchmark, measure, BASE, recipe, BETTER, POINT, _title(benchmark))
            )
        for benchmark, measure, what in _PRICES:
            said = f"It (`{recipe}`) costs nothing."
            claims.append(Claim(said, "–", "–", benchmark, measure, BASE, recipe, NO_WORSE, SLACK, what))
    return [claim for claim in claims if claim.benchmark in benchmarks]


def _title(benchmark: str) -> str:
    return "POPE" if benchmark == "pope" else find_benchmark(benchmark).title


@dataclass(frozen=True)
class Contest:
    """DDPO against plain DPO for one recipe: the verdict, and which measures speak for whom. `seeds` is how many of
    the `planned` ones both have."""

    recipe: str
    verdict: str
    for_ddpo: tuple[str, ...] = ()
    for_dpo: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    seeds: int = 0
    planned: int = 0

    def __str__(self) -> str:
        if self.verdict == NOT_YET:
            return f"DDPO `{self.recipe}`: {NOT_YET}"
        parts = (("for DDPO", self.for_ddpo), ("for DPO", self.for_dpo), ("open", self.open))
        told = "; ".join(f"{title}: {', '.join(names)}" for title, names in parts if names)
        so_far = f", {self.seeds} of {self.planned} seeds" if self.seeds < self.planned else ""
        return f"DDPO `{self.recipe}` is **{self.verdict}**{so_far} ({told})"


RULE = (
    "DDPO against DPO: a measure speaks for one of them when the interval of the difference, pooled over the seeds,"
    " leaves out 0 and every seed agrees, however small it is. DDPO is"
    f" *{BETTER_}* when at least one measure speaks for it and none for DPO, *{WORSE}* the other way round, *{MIXED}*"
    f" when both have one, and *{OPEN}* when none speaks. Up to {len(CONTEST)} measures are looked at, and none is"
    " corrected for the others: read a single one that speaks with that in mind."
)


def hold_contests(findings: Sequence[Finding], planned: int = 0) -> list[Contest]:
    """One for each DDPO recipe that was claimed to be better than plain DPO, of so many planned seeds."""
    met: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.claim.before == PLAIN and finding.claim.rule == BETTER:
            met.setdefault(finding.claim.after, []).append(finding)
    return [_hold(recipe, found, planned) for recipe, found in met.items()]


def _hold(recipe: str, findings: Sequence[Finding], planned: int) -> Contest:
    sides: dict[str, list[str]] = {"ddpo": [], "dpo": [], "open": []}
    for finding in findings:
        if finding.verdict != MISSING:
            name = f"{_title(finding.claim.benchmark)} {finding.claim.measure.replace('_', ' ')}"
            sides[_speaks_for(finding)].append(name)
    if not any(sides.values()):
        return Contest(recipe, NOT_YET)
    verdict = {(True, False): BETTER_, (False, True): WORSE, (True, True): MIXED, (False, False): OPEN}
    parts = {side: tuple(names) for side, names in sides.items()}
    seeds = min(len(finding.seeds) for finding in findings if finding.verdict != MISSING)
    return Contest(recipe, verdict[bool(parts["ddpo"]), bool(parts["dpo"])], *parts.values(), seeds, planned)


def _speaks_for(finding: Finding) -> str:
    if finding.verdict in (HELD, TOO_SMALL):
        return "ddpo"
    lost = finding.change.value is not None and finding.change.high < 0 and all(gain < 0 for gain in finding.seeds)
    return "dpo" if lost else "open"
