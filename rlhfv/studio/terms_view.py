"""What somebody reads before the first correction of theirs is kept."""

from rlhfv.services.consent import HouseTerms
from rlhfv.studio.view import Node, h


def terms_text(house: HouseTerms | None) -> list[Node]:
    """The terms of this studio where it has any, a paragraph a line; its version stands below."""
    if house is None:
        return [
            h("h3", "Before your first pair is kept"),
            h(
                "p",
                "Every pair carries who made it and what may be done with it. Pairs stay in this studio until "
                "somebody exports or publishes them.",
            ),
        ]
    lines = [line for line in house.text.splitlines() if line.strip()]
    return [
        h("h3", "Before your first correction is kept"),
        *(h("p", line, dir="auto") for line in lines),
        h("p.hint", f"Asked once, and again when this text changes. Version {house.version}."),
    ]


def agree_label(house: HouseTerms | None) -> str:
    return "I agree to this" if house else "Keep these answers"
