"""Who asks, and what they may do. Every service call takes an `Actor` first and checks its right there, once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rlhfv.errors import Forbidden, StudioError
from rlhfv.settings import Settings

RIGHTS = frozenset({"chat", "correct", "annotate", "review", "publish", "train", "manage"})
"""Ask; correct own answers; work on the shared queue; accept, return and adjudicate; push; train; and everything about
people, settings, deletion and what comes in."""
LOCAL_VISITOR = "local"


@dataclass(frozen=True)
class Actor:
    """A visitor of the page or a user of the command line.

    `visitor` is the random id of the server's cookie ("local" for the command line): drafts and conversations belong
    to it. `name` is what pairs call the annotator. `rights` is a subset of `RIGHTS`. `place` stands for the network
    that they come from, where limits count by it; no address can be read off.
    """

    visitor: str
    name: str = ""
    rights: frozenset[str] = RIGHTS
    place: str = ""

    @property
    def public_id(self) -> str:
        """What may stand in files that are given away: the visitor id itself opens the visitor's conversation."""
        return sha256(self.visitor.encode()).hexdigest()[:16]

    def require(self, right: str) -> None:
        """Raises `Forbidden` unless the actor holds `right`."""
        if right not in self.rights:
            raise Forbidden(
                f"You asked for something that needs the right '{right}'.",
                "Your visit does not have it.",
                "Ask the owner of this studio, or run your own.",
            )


def worker_id(settings: Settings, actor: Actor) -> str:
    """Whose work on the queue it is: on a machine of one person always that person's, whichever browser it is from."""
    return LOCAL_VISITOR if settings.single_user and not settings.team else actor.visitor


def shown_state(actor: Actor, state: str) -> str:
    """The state of a pair as the actor may know it: only who manages the studio learns which items are gold."""
    return "submitted" if state == "gold" and "manage" not in actor.rights else state


def asked_states(actor: Actor, state: str | None) -> str | tuple[str, ...] | None:
    """The states in the store that the actor calls `state`."""
    if "manage" in actor.rights:
        return state
    return {"submitted": ("submitted", "gold"), "gold": "of no pair"}.get(state, state)


def local_actor(name: str = "") -> Actor:
    """The person at the command line of this machine, who owns everything on it."""
    return Actor(LOCAL_VISITOR, name)


@contextmanager
def hiding(actor: Actor, root: Path) -> Iterator[None]:
    """Whoever does not manage the studio is not told where on its disk the benchmarks' files lie."""
    try:
        yield
    except StudioError as error:
        told = [part.replace(str(root), "the benchmark folder") for part in (error.what, error.why, error.fix)]
        if "manage" in actor.rights or told == [error.what, error.why, error.fix]:
            raise
        raise type(error)(*told) from None
