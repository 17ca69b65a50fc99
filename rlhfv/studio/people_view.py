"""What the People tab shows, as nodes of views."""

from rlhfv.services import Actor
from rlhfv.services.members import Member
from rlhfv.services.people import ROLES
from rlhfv.studio.view import Node, button, empty, h

ROLE_TITLES = {
    "visitor": "Visitor: chats, corrects own answers",
    "annotator": "Annotator: works on the shared tasks too",
    "reviewer": "Reviewer: accepts and publishes too",
    "owner": "Owner: everything, people and settings too",
}


def refused() -> list[Node]:
    return [empty("Who may sign in is up to the owner.", "Ask them for another role or a new password.")]


def person(who: Actor) -> list[Node]:
    """Who is signed in, and the way out."""
    if not who.name:
        return []
    role = next((role for role in reversed(ROLES) if ROLES[role] <= who.rights), "")
    return [
        h(
            "p.person",
            h("span.by", "Signed in as ", h("strong", who.name, dir="auto"), f", {role}" if role else ""),
            button("Sign out", "sign-out", kind="quiet"),
        )
    ]


def listing(members: tuple[Member, ...]) -> list[Node]:
    rows = [
        h(
            "tr",
            h("th", member.name, scope="row", dir="auto"),
            h("td", member.role),
            h("td", h("span.badge.ok", "may sign in") if member.enabled else h("span.badge.bad", "disabled")),
            h(
                "td",
                h("span.by", "you")
                if member.itself
                else button("Disable", "disable", member.name, "danger", aria_label=f"Disable {member.name}")
                if member.enabled
                else h("span.by", "a new password lets them in again"),
            ),
        )
        for member in members
    ]
    head = h("tr", *(h("th", name, scope="col") for name in ("Name", "Role", "Access", "")))
    return [h("div.scroll", h("table.plain", h("thead", head), h("tbody", *rows)))]
