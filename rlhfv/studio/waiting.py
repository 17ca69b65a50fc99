"""What a visitor reads while others are answered before them."""

from rlhfv.services.chat_state import ChatState
from rlhfv.studio.view import Node, progress
from rlhfv.units import human_seconds

LOADING = "Loading the model; the first answer takes longer …"


def waiting_note(state: ChatState, loading: bool, status: str = "") -> list[Node]:
    """The place in the line and the time until the turn, or that the model is loaded first, in the words of `status`
    where there are any; nothing otherwise."""
    if state.place:
        when = f"; about {human_seconds(state.wait_seconds)}" if state.wait_seconds else ""
        return [progress(None, f"You are {ordinal(state.place)}{when}", "Waiting for your turn")]
    return [progress(None, status or LOADING)] if loading else []


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, …, 11th, …, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
