"""Under which licence and with whose consent corrections are kept: asked once a visitor, at the first save."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from rlhfv import __version__
from rlhfv.corrections.conversation import Answer
from rlhfv.corrections.pairs import Provenance
from rlhfv.corrections.published import NOT_TO_BE_PUBLISHED
from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidData
from rlhfv.services.actor import Actor

LICENCES = ("cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0", "apache-2.0", NOT_TO_BE_PUBLISHED)
MAX_NAME = 80


@dataclass(frozen=True)
class Terms:
    """`consent` is whether the visitor agrees to publication under `licence`; `annotator` is the name pairs carry."""

    licence: str = LICENCES[0]
    consent: bool = False
    annotator: str = ""


class TermsMissing(InvalidData):
    """The first save of a visitor who was not asked yet."""


def now() -> str:
    """The time as pairs and answers carry it: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_terms(store: Store, actor: Actor) -> Terms | None:
    """What this visitor agreed to, or None when they were never asked."""
    saved = store.recall(f"terms:{actor.visitor}")
    return Terms(**saved) if saved else None


def write_terms(store: Store, actor: Actor, terms: Terms) -> Terms:
    if terms.licence not in LICENCES:
        raise InvalidData(
            f"The licence '{terms.licence}' is not offered.",
            "Pairs can only be published under a licence that is known.",
            f"Choose one of {', '.join(LICENCES)}.",
        )
    if len(terms.annotator) > MAX_NAME:
        raise InvalidData(
            f"The name has {len(terms.annotator)} characters.", f"At most {MAX_NAME} fit.", "Choose a shorter one."
        )
    store.remember(f"terms:{actor.visitor}", asdict(terms))
    return terms


def require_terms(store: Store, actor: Actor) -> Terms:
    terms = read_terms(store, actor)
    if terms is None:
        raise TermsMissing(
            "You have not said yet under which licence your corrections may be used.",
            "Every pair carries that, so it is asked once, before the first save.",
            "Answer the two questions, in Correct under 'Name, licence and consent …'; your corrections are kept.",
        )
    return terms


def agreed_terms(store: Store, actor: Actor) -> dict:
    """Licence and consent as a judgement carries them; without consent when the visitor was never asked."""
    terms = read_terms(store, actor) or Terms()
    return {"licence": terms.licence, "consent": terms.consent}


def annotator_name(store: Store, actor: Actor) -> str:
    """The actor's own name, which nobody may change who signed in with it; else the one given with the terms."""
    terms = read_terms(store, actor)
    return actor.name or (terms.annotator if terms else "")


def make_provenance(store: Store, actor: Actor, answer: Answer, annotator: str | None = None) -> Provenance:
    """Where a pair made from `answer` comes from. `annotator` replaces the visitor's name (the oracle's)."""
    images = answer.prompt.all_images
    return Provenance(
        model=answer.model,
        sampling=answer.sampling,
        row_layout=answer.row_layout,
        row=answer.row,
        created=now(),
        annotator=annotator if annotator is not None else annotator_name(store, actor),
        app_version=__version__,
        **agreed_terms(store, actor),
        edits="made",
        source=store.image_source(images[-1]) if images else "",
    )
