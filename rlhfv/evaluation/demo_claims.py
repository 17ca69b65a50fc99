"""What RLHF-V and two later papers say, as claims that the cells of `reproduce_demo` can decide.

The published figures are of real models on human-judged or GPT-judged answers; ours are of a small model in a drawn
world, where every claim of an answer is checked against the scene. What can be compared is the direction.
"""

from itertools import pairwise

from rlhfv.evaluation.claims import AT_LEAST, BETTER, NO_WORSE, Claim
from rlhfv.evaluation.reproduce_demo import BASE, BY_HABIT, BY_SCENE, CROPPED, WARM, Sizes, arm_name, rankings
from rlhfv.evaluation.scene_score import BENCHMARK

POINT = 1.0
"""The smallest gain in a rate that matters, in percentage points."""
SLACK = 2.0
"""How much worse still counts as no worse, in percentage points."""

NOT_TESTED = (
    "RLHF-V hallucinates less than GPT-4V (Table 1), and GPT-4V's corrections are worse than a person's (Table 3): "
    "there is no GPT-4V in the demo world.",
    "Answers to general questions and helpfulness (Table 1: VQAv2, LLaVA-Bench, MMHal-Bench): the demo model only "
    "describes and says what is there. Recall and length stand in for the cost.",
)


def list_claims(sizes: Sizes) -> list[Claim]:
    claims: list[Claim] = []

    def add(
        said,
        where,
        theirs,
        measure,
        before,
        after,
        rule=BETTER,
        margin=POINT,
        note="",
        benchmark=BENCHMARK,
        premise=None,
    ):
        claims.append(Claim(said, where, theirs, benchmark, measure, before, after, rule, margin, note, premise))

    def compared(name: str, rate: float) -> str:
        return arm_name(name, sizes.compared, rate, sizes.epochs)

    first, most = sizes.rates[0], max(sizes.scaling)
    paper, at = arm_name("paper", most, first, sizes.epochs), f"{most} pairs at rate {first:g}"
    add(
        "Training on corrections lowers the share of answers that name an absent object.",
        "RLHF-V, Table 1 (Object HalBench, response)",
        "50.5 → 12.2 % (Muffin → RLHF-V)",
        "response_rate",
        BASE,
        paper,
        note=at,
    )
    add(
        "It lowers the share of named objects that are absent.",
        "RLHF-V, Table 1 (Object HalBench, mention)",
        "24.5 → 7.5 %",
        "mention_rate",
        BASE,
        paper,
        note=at,
    )
    add(
        "1.4k corrections make 34.8 % fewer hallucinations.",
        "RLHF-V, abstract; Table 1 (MHumanEval, object)",
        "33.6 → 21.9 %",
        "response_rate",
        BASE,
        paper,
        AT_LEAST,
        0.348,
        at,
    )
    add(
        "It costs no general ability.",
        "RLHF-V, Table 3 (VQAv2)",
        "80.0 → 80.0",
        "recall",
        BASE,
        paper,
        NO_WORSE,
        SLACK,
        f"{at}; recall stands for ability",
    )
    for benchmark, how in ((BY_SCENE, "the ten most frequent objects of a scene"), (BY_HABIT, "planted habits")):
        add(
            "Corrections lower over-generalisation: absent objects are named no more often where they are usual.",
            "RLHF-V, Table 2 (mean Δ)",
            "LLaVA-1.5 +9.2, RLHF-V +1.7",
            "delta",
            BASE,
            paper,
            note=f"{how}; {at}",
            benchmark=benchmark,
            premise=0.0,
        )
    pairs = [
        (f"{sizes.compared} pairs at rate {rate:g}", compared("dpo", rate), compared("paper", rate))
        for rate in sizes.rates
    ]
    pairs.append(
        (
            f"{most} pairs at rate {first:g}",
            arm_name("dpo", most, first, sizes.epochs),
            arm_name("paper", most, first, sizes.epochs),
        )
    )
    for note, dpo, paper in dict.fromkeys(pairs):
        add(
            "DDPO hallucinates less than plain DPO on the same pairs.",
            "RLHF-V, Table 3 (MHumanEval, all)",
            "57.5 → 55.5 %",
            "any_rate",
            dpo,
            paper,
            note=note,
        )
        add(
            "DDPO costs no more than plain DPO.",
            "RLHF-V, Table 3 (VQAv2)",
            "80.0 and 80.0",
            "recall",
            dpo,
            paper,
            NO_WORSE,
            SLACK,
            f"{note}; recall stands for ability",
        )
        add(
            "Plain DPO is better than DDPO on the same pairs.",
            "TPO (arXiv 2412.14487), Table 2: an independent run on LLaVA-1.5-7B",
            "AMBER F1 78.5 (DDPO) → 82.1 (DPO)",
            "any_rate",
            paper,
            dpo,
            note=note,
        )
    for label, length, note in (
        ("epochs", {"epochs": sizes.epochs}, "plain DPO, the same epochs"),
        ("steps", {"steps": sizes.steps}, f"plain DPO, {sizes.steps} steps whatever the number of pairs"),
    ):
        counts = [0, *sizes.scaling] if label == "epochs" else list(sizes.scaling)
        for before, after in pairwise(counts):
            add(
                f"{after} corrections leave fewer hallucinations than {before}.",
                "RLHF-V, Fig. 2 (MHumanEval, all)",
                "0 / 200 / 800 / 1,400 pairs: 65.1 / 61.6 / 58.9 / 57.5 %",
                "any_rate",
                arm_name("dpo", before, first, **length) if before else BASE,
                arm_name("dpo", after, first, **length),
                note=note,
            )
    for count, rate, epochs in rankings(sizes):
        many, seen = count == sizes.many, "once" if epochs == 1 else f"{epochs:g} times"
        for measure, kind in (("any_rate", "anything false"), ("response_rate", "absent objects")):
            add(
                f"{sizes.few} corrections do {'as much as' if many else 'more than'} {count} rankings.",
                "RLHF-V, Fig. 2 (corrections against LLaVA-RLHF's rankings)",
                "200 corrections 61.6 %; rankings 200 / 800 / 2,200: 66.4 / 64.4 / 61.6 %",
                measure,
                arm_name("dpo-ranked", count, rate, epochs),
                arm_name("dpo", sizes.few, rate, sizes.epochs_few),
                NO_WORSE if many else BETTER,
                SLACK if many else POINT,
                f"{kind}; both under plain DPO at rate {rate:g}, rankings seen {seen}",
            )
    for rate in sizes.rates:
        note = f"{sizes.compared} pairs at rate {rate:g}"
        cropped, whole = compared(f"{CROPPED}-cropped", rate), compared(CROPPED, rate)
        add(
            "Leaving random crops out lowers hallucination.",
            "RLHF-V, Table 3 (with cropping; MHumanEval, all)",
            "59.6 % with, 55.5 % without",
            "any_rate",
            cropped,
            whole,
            note=note,
        )
        add(
            "Random crops cost ability.",
            "RLHF-V, Table 3 (with cropping; VQAv2)",
            "77.1 with, 80.0 without",
            "recall",
            cropped,
            whole,
            note=f"{note}; recall stands for ability; the gain is what they cost",
        )
        add(
            "A warm-up on the corrected answers makes DPO stronger.",
            "OPA-DPO (arXiv 2501.09695), abstract",
            "13.26 points fewer on AMBER (Hal) than the best before it",
            "any_rate",
            compared("dpo", rate),
            compared(WARM, rate),
            note=note,
        )
    return claims
