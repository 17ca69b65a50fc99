"""What others have published of LLaVA-1.5-7B before and after preference training, to stand beside our own figures.

Answers, prompts, decoding and judges differ from paper to paper, and none of these tables could be opened while this
list was made: the values come from notes on the papers. They are for orientation, never for a verdict.
"""

from dataclasses import dataclass

MODEL = "llava-hf/llava-1.5-7b-hf"
PAIRS = 5733
"""Pairs of RLHF-V-Dataset on the Hub since January 2024."""

BASE, DPO, DDPO = "base", "dpo", "ddpo"
"""Whose figure it is: the model as it came, after plain DPO, or after DDPO; `Published.of` is one of them."""

_OBJECTS = "objects listed by GPT-3.5, which has been withdrawn"
_JUDGED = "AMBER's own script"


@dataclass(frozen=True)
class Published:
    """One figure. `row` says which model and data, `benchmark` and `measure` are ours that stand closest to it,
    `counted` how it was counted there."""

    row: str
    of: str
    benchmark: str
    measure: str
    value: float
    source: str
    counted: str


def _figures(row, of, source, counted, **values) -> tuple[Published, ...]:
    """`values` are named benchmark__measure, with _ for -."""
    found = []
    for name, value in values.items():
        benchmark, _, measure = name.partition("__")
        found.append(Published(row, of, benchmark.replace("_", "-"), measure, value, source, counted))
    return tuple(found)


_RLAIFV = "RLAIF-V, arXiv 2405.17220"
_TPO = "TPO (token-level), arXiv 2412.14487, Table 2"

FIGURES: tuple[Published, ...] = (
    *_figures(
        "LLaVA-1.5-7B",
        BASE,
        f"{_RLAIFV}, main table",
        _OBJECTS,
        object_halbench__response_rate=54.5,
        object_halbench__mention_rate=27.8,
    ),
    *_figures(
        "LLaVA-1.5-7B",
        BASE,
        f"{_RLAIFV}, main table",
        _JUDGED,
        amber_discriminative__accuracy=73.5,
        amber_discriminative__f1=77.7,
    ),
    *_figures(
        "LLaVA-1.5-7B",
        BASE,
        "SENTINEL, arXiv 2507.12455, Table 1",
        _OBJECTS,
        object_halbench__response_rate=52.7,
        object_halbench__mention_rate=28.0,
    ),
    *_figures("LLaVA-1.5-7B", BASE, "SENTINEL, arXiv 2507.12455, Table 1", _JUDGED, amber_generative__chair=8.4),
    *_figures("LLaVA-1.5-7B", BASE, _TPO, _JUDGED, amber_discriminative__accuracy=71.7, amber_discriminative__f1=74.3),
    *_figures(
        "LLaVA-1.5-7B with RLHF-V's data",
        DPO,
        f"{_RLAIFV}, ablation of the data",
        _OBJECTS,
        object_halbench__response_rate=28.5,
        object_halbench__mention_rate=12.3,
    ),
    *_figures(
        "LLaVA-1.5-7B with RLHF-V's data",
        DPO,
        f"{_RLAIFV}, ablation of the data",
        _JUDGED,
        amber_discriminative__accuracy=76.4,
    ),
    *_figures(
        "LLaVA-1.5-7B, plain DPO",
        DPO,
        _TPO,
        _JUDGED,
        amber_discriminative__accuracy=77.5,
        amber_discriminative__f1=82.1,
    ),
    *_figures(
        "LLaVA-1.5-7B, RLHF-V (DDPO)",
        DDPO,
        _TPO,
        _JUDGED,
        amber_discriminative__accuracy=74.8,
        amber_discriminative__f1=78.5,
    ),
)
