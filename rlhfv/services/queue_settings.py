"""How the queue hands out work; kept in the store, changed by the studio's owner."""

from dataclasses import asdict, dataclass

from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidData

MAX_GUIDELINE = 20_000
_KEY = "queue"
_GUIDELINE = (
    "Change only what the picture contradicts, in the fewest words, and keep the answer's own wording elsewhere. "
    "Delete what is not there, put right what is there otherwise, and leave matters of taste alone. "
    "When you cannot tell from the picture, leave it as it is, or skip the answer and say why."
)


@dataclass(frozen=True)
class QueueSettings:
    """`second_share` of the tasks, drawn by lot once for all, go to a second annotator who does not see the first
    correction. `gold_share` of the items that an annotator is given are gold items, as long as there are any left.
    Shares are from 0 to 1. An opened item stays reserved for `reserve_minutes` after the last change to its draft.
    `guideline` stands beside the editor.
    """

    second_share: float = 0.1
    gold_share: float = 0.05
    reserve_minutes: float = 30.0
    guideline: str = _GUIDELINE

    def validate(self) -> None:
        """Raises InvalidData for a number out of its bounds or a guideline that is too long."""
        for name, low, high in (("second_share", 0, 1), ("gold_share", 0, 1), ("reserve_minutes", 1, 24 * 60)):
            value = getattr(self, name)
            if type(value) not in (int, float) or not low <= value <= high:
                raise InvalidData(
                    f"{name} is {value!r:.80}.", f"It is a number from {low} to {high}.", "Choose one between."
                )
        if not isinstance(self.guideline, str) or len(self.guideline) > MAX_GUIDELINE:
            raise InvalidData(
                "The guideline is too long.", f"At most {MAX_GUIDELINE:,} characters fit.", "Say it in fewer words."
            )


def read_queue_settings(store: Store) -> QueueSettings:
    return QueueSettings(**(store.recall(_KEY) or {}))


def write_queue_settings(store: Store, settings: QueueSettings) -> QueueSettings:
    """Raises InvalidData unless the settings hold."""
    settings.validate()
    store.remember(_KEY, asdict(settings))
    return settings
