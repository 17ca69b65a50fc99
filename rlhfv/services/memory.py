"""Whether a run fits beside what is in memory, and what its owner wants done where it does not."""

from rlhfv.errors import InvalidData, RunFailed
from rlhfv.units import human_bytes

ASK, UNLOAD, WAIT, ANYWAY = "", "unload", "wait", "anyway"
"""Ask when memory is short; take the chat's model out while the run works; queue until there is room; just start."""
ELSEWHERE = "elsewhere"
"""Freeze the run only: another machine is to train it."""


class MemoryShort(RunFailed):
    """A run that needs more memory than is free and whose owner has not said what to do. `needed`, `free` and `held`,
    what the chat's model takes, are bytes."""

    needed = free = held = 0


def find_place(room: str, needed: int, free: int, held: int) -> dict:
    """How a run of so many bytes is queued, as `LocalRuns` takes it. Raises `MemoryShort` where one has to ask."""
    if room == ELSEWHERE:
        return {"hold": True}
    if room not in (ASK, UNLOAD, WAIT, ANYWAY):
        raise InvalidData(
            f"'{room}' is no way to make room.",
            "A run can take the chat's memory, wait for room, or start as it is.",
            "Choose one of the three.",
        )
    if room == ASK and needed > free:
        short = MemoryShort(
            f"This run needs about {human_bytes(needed)} of memory, {human_bytes(free)} are free.",
            f"The chat's model holds {human_bytes(held)}." if held else "The chat's model is not loaded.",
            "Take the chat's model out while it works, let it wait until there is room, or start it as it is.",
        )
        short.needed, short.free, short.held = needed, free, held
        raise short
    return {"memory": needed if room == WAIT else 0, "alone": room == UNLOAD}
