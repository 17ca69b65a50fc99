"""What somebody reads before the first correction of theirs is kept."""

from dataclasses import dataclass

import gradio as gr

from rlhfv.services import Actor, Services
from rlhfv.services.consent import HouseTerms
from rlhfv.services.terms import LICENCES, Terms
from rlhfv.studio.view import Node, h, view


@dataclass(frozen=True)
class TermsDialog:
    """The dialog of one tab. What it asks is in `fields`; `read` is the version of the text that stands there, which
    the page alone knows: it may be older than this process."""

    services: Services
    column: gr.Column
    name: gr.Textbox
    licence: gr.Dropdown
    consent: gr.Checkbox
    agree: gr.Button
    cancel: gr.Button
    read: gr.Textbox

    @property
    def fields(self) -> list:
        return [self.name, self.licence, self.consent]

    def ask(self, who: Actor) -> dict:
        """Opens it, with what the visitor said before."""
        known = self.services.corrections.terms(who) or Terms()
        return {
            self.column: gr.Column(visible=True),
            self.name: known.annotator,
            self.licence: known.licence,
            self.consent: known.consent,
        }

    def keep(self, who: Actor, name: str, licence: str, consent: bool, read: str) -> dict:
        """Notes that the visitor agrees, and closes it."""
        self.services.consent.agree(who, read)
        self.services.corrections.set_terms(who, Terms(licence, bool(consent), name.strip()))
        return self.close()

    def close(self) -> dict:
        return {self.column: gr.Column(visible=False)}


def build(services: Services, prefix: str = "") -> TermsDialog:
    """The dialog, not to be seen yet; `prefix` begins the ids of its parts."""
    house = services.consent.house
    with gr.Column(visible=False, elem_id=f"{prefix}terms", elem_classes="dialog") as column:
        view(*terms_text(house), elem_id=f"{prefix}terms-text")
        name = gr.Textbox(
            label="Your name or a pseudonym",
            info="Shown as the annotator; may stay empty.",
            max_length=80,
            elem_id=f"{prefix}annotator",
        )
        licence = gr.Dropdown(
            list(LICENCES), value=LICENCES[0], label="Licence of your corrections", elem_id=f"{prefix}licence"
        )
        consent = gr.Checkbox(
            False,
            label="I agree that my corrections may be published under this licence",
            elem_id=f"{prefix}consent",
        )
        with gr.Row(elem_classes="tight"):
            agree = gr.Button(agree_label(house), variant="primary", size="sm", elem_id=f"{prefix}terms-agree")
            cancel = gr.Button("Cancel", size="sm", elem_id=f"{prefix}terms-cancel")
    read = gr.Textbox(house.version if house else "", visible=False)
    return TermsDialog(services, column, name, licence, consent, agree, cancel, read)


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
