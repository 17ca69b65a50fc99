"""What a paper says, as statements that figures of one's own can decide, and the rules that decide them.

A claim compares two arms by one measure. `gain` is the difference between them, turned so that positive is the way the
claim says; it has a 95 % interval (see `seeds`). The rules, one of which every claim names:

    better     held: the interval lies above 0 and so does the gain of every single seed; if it lies below `margin`
               too, the smallest gain that would matter: held, too small to matter;
               not held: otherwise, if it lies below `margin`: a gain that large is excluded
    no worse   held: the interval lies above −margin; not held: it lies below −margin
    at least   of the relative reduction; held: the interval lies at or above `margin`; not held: it lies below it

and undecided in every other case. A claim that something is lowered presupposes that it was there: with a `premise`
it is undecided unless the interval of the first arm lies above that value. No verdict is written by hand.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from rlhfv.evaluation.bootstrap import Figure
from rlhfv.evaluation.score import Score
from rlhfv.evaluation.seeds import SeedBootstrap, changes_of_seeds, count_drawn, join_items

HELD, NOT_HELD, UNDECIDED, MISSING = "held", "not held", "undecided", "not measured yet"
TOO_SMALL = "held, too small to matter"
VERDICTS = (HELD, TOO_SMALL, NOT_HELD, UNDECIDED, MISSING)
BETTER, NO_WORSE, AT_LEAST = "better", "no worse", "at least"

Seeds = Mapping[int, Score]
"""An arm: its score for each seed that is done, in their order."""


@dataclass(frozen=True)
class Claim:
    """One claim.

    `said` is the claim in a sentence, `where` its table or section, `theirs` the published figures. `measure` of
    `benchmark` is compared, from the arm `before` to the arm `after`; `margin` is in the measure's unit (for "at
    least" a share). `note` says what differs here, `premise` what the measure of `before` has to lie above.
    """

    said: str
    where: str
    theirs: str
    benchmark: str
    measure: str
    before: str
    after: str
    rule: str
    margin: float
    note: str = ""
    premise: float | None = None


@dataclass(frozen=True)
class Finding:
    """A claim with our figures: `before` and `after` as they are, `change` what the rule looked at (a gain, or the
    relative reduction), `seeds` the same of each seed. All None and `verdict` MISSING where an arm is not there; `why`
    says where a premise was not met."""

    claim: Claim
    verdict: str
    before: Figure | None = None
    after: Figure | None = None
    change: Figure | None = None
    seeds: tuple[float, ...] = ()
    why: str = ""


def check_claims(
    claims: Sequence[Claim], arms: Mapping[str, Mapping[str, Seeds]], baselines: Collection[str], seed: int = 0
) -> list[Finding]:
    """Every claim with its verdict.

    Args:
        arms: by benchmark and name.
        baselines: the arms that no seed changes. Of two others the seeds that both have are compared.

    Raises:
        InvalidData: the scores of a benchmark cannot be joined item by item (see `join_items`).
    """
    findings, arms = [], {name: join_items(known) for name, known in arms.items()}
    for claim in claims:
        known = arms.get(claim.benchmark, {})
        old, new = (known.get(name, {}) for name in (claim.before, claim.after))
        if not {claim.before, claim.after} & set(baselines):
            both = old.keys() & new.keys()
            old, new = ({seed: arm[seed] for seed in sorted(both)} for arm in (old, new))
        before, after = list(old.values()), list(new.values())
        if not before or not after:
            findings.append(Finding(claim, MISSING))
            continue
        measure = next(one for one in before[0].measures if one.name == claim.measure)
        draws = draw_resamples(count_drawn(before[0]), max(len(before), len(after)), seed)
        sign = -1.0 if measure.better == "lower" else 1.0
        relative = claim.rule == AT_LEAST
        turned = 1.0 if relative else sign
        gains = tuple(turned * change + 0.0 for change in changes_of_seeds(before, after, measure, relative))
        if relative:
            change = draws.relative_reduction(before, after, measure)
        else:
            change = turn(draws.difference(before, after, measure), sign)
        verdict, why, was = judge(claim.rule, change, gains, claim.margin), "", draws.value(before, measure)
        if claim.premise is not None and not (was.value is not None and was.low > claim.premise):
            verdict, why = UNDECIDED, "there is nothing to lower here"
        findings.append(Finding(claim, verdict, was, draws.value(after, measure), change, gains, why))
    return findings


@cache
def draw_resamples(items: int, seeds: int, seed: int = 0) -> SeedBootstrap:
    """The same resamples for every figure of so many items and seeds."""
    return SeedBootstrap(items, seeds, seed)


def judge(rule: str, change: Figure, gains: Sequence[float], margin: float) -> str:
    """The verdict of a rule (see the top of this module)."""
    if change.value is None:
        return UNDECIDED
    if rule == BETTER:
        if change.low > 0 and all(gain > 0 for gain in gains):
            return TOO_SMALL if change.high < margin else HELD
        return NOT_HELD if change.high < margin else UNDECIDED
    if rule == NO_WORSE:
        return HELD if change.low > -margin else NOT_HELD if change.high < -margin else UNDECIDED
    if rule == AT_LEAST:
        return HELD if change.low >= margin else NOT_HELD if change.high < margin else UNDECIDED
    raise ValueError(f"{rule!r} is no rule")


def turn(figure: Figure, sign: float) -> Figure:
    """The figure times 1 or −1."""
    if figure.value is None or sign > 0:
        return figure
    return Figure(0.0 - figure.value, 0.0 - figure.high, 0.0 - figure.low)
