"""The models that answer, with their terms and sources; and for who manages the studio another one beside them."""

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from rlhfv.services import Actor, Services
from rlhfv.services.models import ModelFacts
from rlhfv.studio.view import Node, h, link, view
from rlhfv.units import human_bytes

TURNS = "They do not fit into memory together, so they take turns: one is loaded when the other has answered."


@dataclass(frozen=True)
class ModelsView:
    """`name` is what to put beside the chat's model with `put`; `remove` takes it away again. `show_here` fills
    `listing` alone."""

    name: gr.Dropdown
    put: gr.Button
    remove: gr.Button
    listing: gr.HTML
    outputs: tuple
    show_here: Callable[[Actor], dict]
    show: Callable[[Actor], dict]


def build(services: Services) -> ModelsView:
    models = services.models
    with gr.Accordion("Models", open=False, elem_id="models"):
        listing = view(elem_id="models-here", label="Models that answer here")
        with gr.Column(visible=False) as choosing:
            name = gr.Dropdown(
                [],
                label="Compare with another model",
                info="Of this list, or any Hub id or folder. It is fetched and loaded with the next question.",
                allow_custom_value=True,
                elem_id="model-beside",
            )
            with gr.Row(elem_classes="tight"):
                put = gr.Button("Put it beside", size="sm", elem_id="put-beside")
                remove = gr.Button("Take it away", size="sm", elem_id="take-away")

    def show_here(who: Actor) -> dict:
        turns = [h("p.hint", TURNS)] if models.take_turns(who) else []
        return {listing: [*(facts(one) for one in models.here(who)), *turns]}

    def show(who: Actor) -> dict:
        here, manages = models.here(who), "manage" in who.rights
        choices = [(describe(one), one.name) for one in models.known(who)] if manages else []
        return {
            **show_here(who),
            choosing: gr.Column(visible=manages and bool(here)),
            name: gr.Dropdown(choices, value=None),
            remove: gr.Button(interactive=len(here) > 1),
        }

    return ModelsView(name, put, remove, listing, (listing, choosing, name, remove), show_here, show)


def describe(one) -> str:
    """A known model in one line: weights in 16 bits, licence, and what it is compared with."""
    pair = ", with an aligned adapter" if one.aligned else f", beside {one.beside}" if one.beside else ""
    return f"{one.title}: {human_bytes(one.weights)}, {one.licence}{pair}"


def facts(one: ModelFacts) -> Node:
    memory = "Not in memory" if one.held is None else f"{human_bytes(one.held)} in memory"
    lines = [
        f"Licence: {one.licence}." if one.licence else "Its licence is not known here.",
        f"{memory}{', held in 4 bits' if one.four_bit else ''}.",
        f"Decoding by its makers: {one.makers}" if one.makers else "",
        one.note,
    ]
    source = link(one.source, f"https://huggingface.co/{one.source}") if one.source else "on this machine"
    at = f" at {one.commit[:12]}" if one.commit else ", at the newest commit; the one that comes is noted and kept"
    return h(
        "div.model-facts",
        h("p", h("strong", one.title), " (", source, at if one.source else "", ")"),
        *(h("p.hint", line) for line in lines if line),
    )
