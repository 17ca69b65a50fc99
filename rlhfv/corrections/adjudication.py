"""Two corrections of the same answer side by side: what they share, what only one has, and where they contradict."""

from dataclasses import dataclass

from rlhfv.corrections.edits import Edit
from rlhfv.errors import InvalidCorrection


@dataclass(frozen=True)
class EditComparison:
    """Edits that both made, those that one made and that stand beside all of the other's, and pairs (one, other) that
    cannot stand together: their spans overlap, or both insert at one place.
    """

    shared: tuple[Edit, ...]
    only_first: tuple[Edit, ...]
    only_second: tuple[Edit, ...]
    conflicts: tuple[tuple[Edit, Edit], ...]


def compare_edits(first: tuple[Edit, ...], second: tuple[Edit, ...]) -> EditComparison:
    """Both are valid edits of one answer."""
    shared = tuple(edit for edit in first if edit in second)
    mine = [edit for edit in first if edit not in shared]
    others = [edit for edit in second if edit not in shared]
    # A shared edit stands beside every other edit of either side, for each side is valid.
    conflicts = tuple((one, other) for one in mine for other in others if _contradict(one, other))
    in_conflict = {edit for pair in conflicts for edit in pair}
    return EditComparison(
        shared,
        tuple(edit for edit in mine if edit not in in_conflict),
        tuple(edit for edit in others if edit not in in_conflict),
        conflicts,
    )


def merge_edits(first: tuple[Edit, ...], second: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """All edits of both, in order.

    Raises InvalidCorrection where two contradict: only a person can say which holds.
    """
    compared = compare_edits(first, second)
    if compared.conflicts:
        one, other = compared.conflicts[0]
        raise InvalidCorrection(
            f"The two corrections contradict each other in {len(compared.conflicts)} "
            f"place{'s' if len(compared.conflicts) > 1 else ''}: characters {one.start} to {one.end} become "
            f"{one.replacement!r:.60} ({one.kind}), and {other.start} to {other.end} {other.replacement!r:.60} "
            f"({other.kind}).",
            "Each character of the answer can be changed by one correction.",
            "Choose one of the two at each such place, and send the corrections that shall hold.",
        )
    edits = {*first, *second}
    return tuple(sorted(edits, key=lambda edit: (edit.start, edit.end)))


def _contradict(one: Edit, other: Edit) -> bool:
    first, second = sorted((one, other), key=lambda edit: (edit.start, edit.end))
    return second.start < first.end or first.start == first.end == second.start == second.end
