"""The page of the experiments on the demo world: arms out of the cells that are done, tables, and what was chosen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhfv.evaluation import over_generalisation, scene_score
from rlhfv.evaluation.claims import check_claims
from rlhfv.evaluation.demo_claims import NOT_TESTED, list_claims
from rlhfv.evaluation.demo_world import SPLIT, read_answers
from rlhfv.evaluation.reproduce import Cell, read_kept, read_score
from rlhfv.evaluation.reproduce_demo import (
    BASE,
    BY_HABIT,
    BY_SCENE,
    COMPARED,
    CROPPED,
    WARM,
    Sizes,
    arm_name,
    count_corrections,
    rankings,
)
from rlhfv.evaluation.reproduce_page import Report, Table, describe_machine, describe_versions
from rlhfv.evaluation.score import Score
from rlhfv.evaluation.seeds import join_items
from rlhfv.models.catalog import Entry, World

_FIGURES = ("response_rate", "mention_rate", "any_rate", "number_rate", "position_rate", "recall", "words")
_SHORT = ("response_rate", "mention_rate", "any_rate", "recall", "words")


def build_report(cells: Sequence[Cell], sizes: Sizes, work: Path, entry: Entry, base: str) -> Report:
    arms = read_arms(cells, work, entry.world)
    return Report(
        title="RLHF-V's experiments on the demo world",
        about=(
            ("Machine", describe_machine()),
            ("Versions", describe_versions()),
            ("Base", f"{entry.title}, weights {base}; every run is a LoRA of rank 16 on its language model"),
            ("Seeds", _describe_seeds(sizes)),
            (
                "Measured on",
                f"greedy descriptions of the first {sizes.scenes} scenes of the split {SPLIT!r}; a program checks"
                " every claim against the scene",
            ),
        ),
        chosen=_chosen(sizes),
        cells=cells,
        findings=check_claims(list_claims(sizes), arms, (BASE,)),
        tables=_tables(sizes, arms, count_used(cells, work)),
        arms=arms,
        baselines=(BASE,),
        not_tested=NOT_TESTED,
    )


def _describe_seeds(sizes: Sizes) -> str:
    return (
        f"{', '.join(map(str, sizes.seeds))}: which pairs are drawn from the pool, their order, and the start of the"
        f" adapter; where an arm takes the whole pool ({count_corrections(sizes):,} corrections, {sizes.many:,}"
        " rankings), seeds differ in order and start only, and the variance of the draw is not in their intervals. All"
        " draw from one pool of one base: neither is what another would give"
    )


def read_arms(cells: Sequence[Cell], work: Path, world: World) -> dict[str, dict[str, dict[int, Score]]]:
    """Benchmark → arm → seed → score, the seeds in their order."""
    arms: dict[str, dict[str, dict[int, Score]]] = {name: {} for name in (scene_score.BENCHMARK, BY_SCENE, BY_HABIT)}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        if not cell.arm or not cell.is_done(work):
            continue
        folder = cell.folder(work)
        score = read_score(folder, scene_score.BENCHMARK, scene_score.MEASURES)
        arms[scene_score.BENCHMARK].setdefault(cell.arm, {})[cell.seed] = score
        if "d" in cell.parts:
            said = {row.scene: row.answer for row in read_answers(folder / "answers.jsonl")}
            said = {source: said[source] for source in score.ids}
            arms[BY_SCENE].setdefault(cell.arm, {})[cell.seed] = over_generalisation.score_world(world, said)
            arms[BY_HABIT].setdefault(cell.arm, {})[cell.seed] = score_habits(world, said)
    return {name: join_items(known) for name, known in arms.items()}


def score_habits(world: World, answers: Mapping[str, str]) -> Score:
    """Over-generalisation by the habits that the base was taught: what stands for a scene is a thing that is seen, and
    what for its objects the one thing that is named with it."""
    truths = {source: frozenset(world.truth(source).counts()) for source in answers}
    objects = {seen: (named,) for seen, named in world.habits.items()}
    namings = {
        source: over_generalisation.Naming(
            frozenset(truths[source] & objects.keys()), frozenset(world.named(answer)), truths[source]
        )
        for source, answer in answers.items()
    }
    return over_generalisation.score_namings(namings, objects, "over-generalisation by habit, the demo world's own")


def count_used(cells: Sequence[Cell], work: Path) -> dict[str, str]:
    """Arm → how many of its pairs taught it anything, in words, where that is not all of them."""
    counted: dict[str, list[int]] = {}
    for cell in cells:
        card = cell.folder(work) / "adapter" / "rlhfv.json"
        if cell.arm and cell.is_done(work) and card.is_file():
            used = read_kept(card, lambda row: int(row["pairs"]["count"]))
            counted.setdefault(cell.arm, []).append(used)
    given = {cell.arm: cell.settings.get("pairs", 0) for cell in cells}
    return {
        arm: f" ({'–'.join(str(one) for one in sorted({min(used), max(used)}))} of {given[arm]} pairs have a weight)"
        for arm, used in counted.items()
        if min(used) < given[arm]
    }


def _tables(sizes: Sizes, arms: dict, used: Mapping[str, str]) -> tuple[Table, ...]:
    first = sizes.rates[0]
    base = ("base", BASE)
    recipes = [
        (f"{name}, rate {rate:g}", arm_name(name, sizes.compared, rate, sizes.epochs))
        for rate in sizes.rates
        for name in COMPARED
    ]
    recipes = [(label + used.get(arm, ""), arm) for label, arm in recipes]
    most = max(sizes.scaling)
    recipes += [
        (f"{name}, {most} pairs, rate {first:g}", arm_name(name, most, first, sizes.epochs))
        for name in ("dpo", "paper", "demo")
    ]
    scaling = [
        (f"{label}, {count} pairs, {words}", arm_name(label, count, first, **length))
        for label, length, words in (
            ("dpo", {"epochs": sizes.epochs}, f"{sizes.epochs:g} epochs"),
            ("demo", {"epochs": sizes.epochs}, f"{sizes.epochs:g} epochs"),
            ("dpo", {"steps": sizes.steps}, f"{sizes.steps} steps"),
        )
        for count in sizes.scaling
    ]
    few = [
        (f"{sizes.few} corrections, {name}, rate {rate:g}", arm_name(name, sizes.few, rate, sizes.epochs_few))
        for rate in sizes.rates
        for name in ("dpo", "demo")
    ]
    few += [
        (
            f"{count} rankings, dpo, rate {rate:g}, seen {_times(epochs)}",
            arm_name("dpo-ranked", count, rate, epochs),
        )
        for count, rate, epochs in rankings(sizes)
    ]
    crops = [
        (f"{CROPPED}, {words}, rate {rate:g}", arm_name(f"{CROPPED}{end}", sizes.compared, rate, sizes.epochs))
        for rate in sizes.rates
        for end, words in (("", "whole images"), ("-cropped", "random crops"))
    ]
    compared = [
        (f"{name}, {sizes.compared} pairs, rate {rate:g}", arm_name(name, sizes.compared, rate, sizes.epochs))
        for rate in sizes.rates
        for name in ("dpo", "paper")
    ]
    compared += [
        (f"{name}, {most} pairs, rate {first:g}", arm_name(name, most, first, sizes.epochs))
        for name in ("dpo", "paper")
    ]
    world = scene_score.BENCHMARK
    tables = [
        Table(
            "(a) Recipes", f"{sizes.compared} corrections unless said otherwise.", world, (base, *recipes), _FIGURES
        ),
        Table(
            "(b) More and more pairs",
            f"Rate {first:g}. With the same epochs more pairs are more steps too; the last rows keep the steps.",
            world,
            (base, *scaling),
            _SHORT,
        ),
        Table(
            "(c) Corrections and rankings",
            f"Corrections are seen {_times(sizes.epochs_few)}. A ranking is two sampled answers to one question: fewer"
            " false claims win, then more of what is there; equal ones were skipped. All tokens weigh 1. The higher"
            f" rate, the arm that sees {sizes.many} rankings {_times(sizes.epochs_many)} and the comparisons by absent"
            f" objects alone were added when the first seed had shown that {sizes.few} pairs are learnt in part only"
            f" at the lower rate, and that seeing {sizes.many} of them as often does harm.",
            world,
            (base, *few),
            _FIGURES,
        ),
    ]
    for benchmark, how in (
        (BY_SCENE, "A scene's objects are the ten that most of its pictures show."),
        (
            BY_HABIT,
            "In place of a scene: a thing that is seen; in place of its objects: what the base was taught to name"
            " with it.",
        ),
    ):
        names = ["delta"]
        notes = ""
        if some := arms[benchmark].get(BASE):
            names += [one.name for one in some[0].measures if one.name.startswith(("h_s", "h_a"))]
            notes = " ".join(some[0].notes)
        if benchmark == BY_HABIT:
            names, notes = names[:1], ""
        text = (
            f"{how} An object's rate: answers naming it although it is not there / answers naming it. H_s is the mean"
            " over the objects in pictures of the scene, H_a over the same objects in all pictures, Δ = H_s − H_a, and"
            f" the mean is over what is defined. {notes}"
        )
        tables.append(Table(f"(d) {benchmark.capitalize()}", text.strip(), benchmark, (base, *compared), tuple(names)))
    tables.append(
        Table(
            "(e) Images cropped at random",
            "Half to all of each image, drawn anew for every pair and epoch and once more for the reference, as in the"
            " released code; nothing is mirrored and no colour changed.",
            world,
            (base, *crops),
            _SHORT,
        )
    )
    return tuple(tables)


def _times(epochs: float) -> str:
    return "once" if epochs == 1 else f"{epochs:g} times"


def _chosen(sizes: Sizes) -> list[str]:
    rates = " and ".join(f"{rate:g}" for rate in sizes.rates)
    return [
        "The published learning rates (5e-7 for full tuning, 1e-5 for LoRA) move nothing in a LoRA on a model of two"
        " million weights: at 5e-5 one epoch of 600 pairs changes no rate of the base (`benchmarks/ddpo_grid.py`). A"
        " recipe therefore keeps its weights, score, γ, β, seam and its treatment of shared tokens; batch, schedule,"
        " warm-up and adapter are those of the recipe `demo`.",
        "",
        f"So that no recipe is crippled by a rate that suits another, (a), (c) and (e) run at two rates, {rates}, and"
        " every comparison is made at both: at the lower one the recipes are still on their way, at the higher one"
        f" most have arrived and what they cost shows. {sizes.compared} pairs and {sizes.epochs:g} epochs, because"
        " with more the habits of the demo world are gone whatever the recipe, and nothing would be left to compare."
        f" The claims that were made for 1.4k pairs are checked on the largest pool, {max(sizes.scaling)} pairs at the"
        " lower rate. Both rates come from earlier runs on validation scenes.",
        "",
        "A recipe that weighs replacements only (`token-diff`) learns nothing more from a deleted claim than plain DPO"
        " does, and with shared tokens at 0 (`vl-rlhf`) nothing at all: pairs of deletions only are skipped. The"
        " oracle deletes most of what it corrects, since nothing stands in the place of what is absent.",
        "",
        f"`{WARM}` is plain DPO after two epochs of supervised learning of the corrected answers at the same rate; its"
        " reference is the model that comes out (OPA-DPO).",
        "",
        "The errors of the demo model are mostly planted habits; an oracle corrects and ranks without a mistake. What"
        " holds here need not hold elsewhere, and what fails here may be due to that.",
    ]
