"""Benchmarks that papers report as one figure, though their parts are asked and counted apart."""

from collections.abc import Sequence

from rlhfv.errors import InvalidData
from rlhfv.evaluation import amber, pope
from rlhfv.evaluation.score import Score
from rlhfv.evaluation.stamp import FIELDS, Stamp

_VOICE = FIELDS | {"model": "who answered"}


def put_together(scores: Sequence[Score], stamps: Sequence[Stamp]) -> list[Score]:
    """What the scores of one voice make together: POPE where all three splits are among them, AMBER where both parts
    are; nothing where a part is missing.

    Raises:
        InvalidData: parts were answered by different voices or in different ways, or POPE's splits read differently.
    """
    parts = {score.benchmark: (score, stamp) for score, stamp in zip(scores, stamps, strict=True)}
    wholes = (
        (
            lambda *found: pope.put_together(dict(zip(pope.SPLITS, found, strict=True))),
            *map("pope-{}".format, pope.SPLITS),
        ),
        (amber.put_together, amber.GENERATIVE, amber.DISCRIMINATIVE),
    )
    together = []
    for make, *names in wholes:
        if all(name in parts for name in names):
            found, made = zip(*(parts[name] for name in names), strict=True)
            _refuse_several_voices(made)
            together.append(make(*found))
    return together


def _refuse_several_voices(stamps):
    for name in ("model", "prompt", "decoding", "values", "transform"):
        told = [str(getattr(stamp, name)) for stamp in stamps]
        if len(set(told)) > 1:
            raise InvalidData(
                f"The parts differ in {_VOICE[name]}: {' and '.join(dict.fromkeys(told))}.",
                "Their figures put together would be nobody's.",
                "Choose sets of answers of one voice, made in one way.",
            )
