"""Which items of a benchmark a set of answers is about, said once for every benchmark."""

from collections.abc import Iterable, Mapping


def answered(wanted: Iterable[str], answers: Mapping[str, str]) -> tuple[tuple[str, ...], list[str]]:
    """The ids that have an answer, in the benchmark's order, and sentences for whoever reads the figures: how many
    have none, how many answers are of no item, how many are empty."""
    wanted = list(wanted)
    ids = tuple(id for id in wanted if id in answers)
    strangers, empty = len(answers) - len(ids), sum(not answers[id].strip() for id in ids)
    notes = []
    if len(ids) < len(wanted):
        notes.append(
            f"{len(wanted) - len(ids):,} of {len(wanted):,} items have no answer; the figures are of the other "
            f"{len(ids):,}, those that are published of all."
        )
    if strangers:
        notes.append(f"{strangers:,} answer(s) are of no item and were left out.")
    if empty:
        notes.append(f"{empty:,} answer(s) are empty; they count like any other.")
    return ids, notes
