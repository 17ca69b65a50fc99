"""What a row held beside the pair, kept in its provenance, so that an export in the same format gives the row back."""

import json

from rlhfv.corrections.pairs import PreferencePair


def keep(format: str, row: dict, original: str) -> str:
    """The origin of a pair as JSON: the columns of its row in their order, with None where the pair itself holds the
    value, and the name of the original picture, if it was kept. What JSON cannot hold is left out.
    """
    kept = {name: value for name, value in row.items() if _is_plain(value)}
    return json.dumps({"format": format, "original": original, "row": kept}, ensure_ascii=False)


def recall(pair: PreferencePair, format: str) -> tuple[dict, str] | None:
    """The columns and the original picture's name that `keep` kept for this format, or None. The texts may be forged:
    a pair can come from anywhere with its provenance.
    """
    origin = _parse(pair)
    if origin.get("format") != format or not isinstance(origin.get("row"), dict):
        return None
    return origin["row"], original_name(pair)


def original_name(pair: PreferencePair) -> str:
    """How the shelf calls the picture as it came, in whichever format that was; empty if it was not kept."""
    name = _parse(pair).get("original")
    return name if isinstance(name, str) else ""


def _parse(pair: PreferencePair) -> dict:
    try:
        origin = json.loads(pair.provenance.origin or "{}")
        json.dumps(origin, ensure_ascii=False).encode()  # no half characters, which no file takes
    except (ValueError, RecursionError):
        return {}
    return origin if isinstance(origin, dict) else {}


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
