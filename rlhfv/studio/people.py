"""The People tab: who may sign in to this studio, and as what."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from rlhfv.services import Actor, Services
from rlhfv.services.people import MIN_PASSWORD, ROLES
from rlhfv.studio import people_view as shown
from rlhfv.studio.chat_view import alert
from rlhfv.studio.events import explain, private
from rlhfv.studio.view import Node, h, view
from rlhfv.studio.visitor import actor


@dataclass(frozen=True)
class PeopleTab:
    """`show(who)` fills the tab."""

    outputs: tuple
    show: Callable[..., dict]


def build(services: Services) -> PeopleTab:
    members = services.members

    refusal = view(elem_id="people-refused")
    with gr.Row(elem_classes="workbench", elem_id="people") as desk:
        with gr.Column(scale=5, min_width=300, elem_classes="side"):
            view(h("h3", "Let somebody in"), elem_id="people-add-intro")
            name = gr.Textbox(
                label="Name to sign in with",
                max_length=64,
                html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
                elem_id="people-name",
            )
            role = gr.Dropdown(
                [(shown.ROLE_TITLES[each], each) for each in ROLES],
                value="annotator",
                label="Role",
                filterable=False,
                elem_id="people-role",
            )
            password = _password("Password", "people-password")
            add = gr.Button("Add", variant="primary", size="sm", elem_id="people-add")
            view(h("h3", "A new password"), elem_id="people-reset-intro")
            whom = gr.Dropdown([], label="For", filterable=False, elem_id="people-whom")
            another = _password("New password", "people-another")
            reset = gr.Button("Set it", size="sm", elem_id="people-reset")
        with gr.Column(scale=9, min_width=300):
            message = view(elem_id="people-message")
            listing = view(elem_id="people-list", label="People")

    outputs = (refusal, desk, name, password, whom, another, message, listing)

    def show(who: Actor, note: list[Node] | None = None) -> dict:
        """Everybody, for whoever manages the studio; for others, why there is nothing."""
        if "manage" not in who.rights:
            return {refusal: shown.refused(), desk: gr.Row(visible=False)}
        everybody = members.list(who) if services.settings.team else ()
        names = [each.name for each in everybody]
        return {
            refusal: [],
            desk: gr.Row(visible=True),
            whom: gr.Dropdown(names, value=names[0] if names else None),
            message: note or [],
            listing: shown.listing(everybody),
        }

    def attempt(who: Actor, act: Callable[[], None], done: str) -> dict:
        """The tab after `act`; a password never stays in its field."""
        try:
            act()
        except Exception as error:
            return {message: alert(*explain(error)), password: "", another: ""}
        return {**show(who, [h("p.done", done, role="status")]), password: "", another: ""}

    def let_in(request: gr.Request, called: str, as_what: str, secret: str):
        who, called = actor(request), (called or "").strip()
        done = attempt(
            who, lambda: members.add(who, called, as_what, secret or ""), f"{called} may sign in as {as_what}."
        )
        return done if listing not in done else {**done, name: ""}

    def set_password(request: gr.Request, called: str | None, secret: str):
        who = actor(request)
        return attempt(
            who,
            lambda: members.reset(who, called or "", secret or ""),
            f"{called} has a new password and may sign in.",
        )

    def act(event: gr.EventData, request: gr.Request):
        who = actor(request)
        return attempt(
            who, lambda: members.disable(who, event.ref), f"{event.ref} has no access any more; what they saved stays."
        )

    changed = list(outputs)
    for event in (add.click, password.submit):
        private(event, let_in, [name, role, password], changed)
    for event in (reset.click, another.submit):
        private(event, set_password, [whom, another], changed)
    private(listing.select, act, None, changed)

    return PeopleTab(outputs, show)


def _password(label: str, elem_id: str) -> gr.Textbox:
    return gr.Textbox(
        label=label,
        type="password",
        info=f"At least {MIN_PASSWORD} characters, such as four words. Only a hash of it is kept.",
        max_length=1000,
        html_attributes=gr.InputHTMLAttributes(autocomplete="new-password", spellcheck=False),
        elem_id=elem_id,
    )
