"""Which of several bases the next run trains; nothing to see where there is one."""

from collections.abc import Callable

import gradio as gr

from rlhfv.ddpo.config import TrainingConfig
from rlhfv.services import Actor, Services
from rlhfv.studio.events import explain, private
from rlhfv.studio.settings_form import SettingsForm
from rlhfv.studio.visitor import actor

# A dropdown takes an empty value for "nothing chosen", and the first base's key is empty.
FIRST = "first"


def build(services: Services) -> tuple[gr.Dropdown, Callable[[Actor], dict]]:
    """The choice, and what shows it to a visitor as it stands."""
    training = services.training
    base = gr.Dropdown(
        [],
        label="Model to train",
        info="Its own corrected answers teach it most; the check counts those of other models.",
        filterable=False,
        visible=False,
        elem_id="train-base",
    )

    def show(who: Actor) -> dict:
        bases = [(title, key or FIRST) for title, key in training.bases(who)]
        chosen = training.base_to_train(who).key or FIRST
        return {base: gr.Dropdown(bases, value=chosen, visible=len(bases) > 1)}

    def choose(key: str, request: gr.Request) -> dict:
        who = actor(request)
        try:
            training.choose_base(who, "" if key == FIRST else key)
        except Exception as error:
            gr.Warning(" ".join(explain(error)))
        return show(who)

    private(base.input, choose, base, [base])
    return base, show


def reader(services: Services, form: SettingsForm) -> Callable[..., TrainingConfig]:
    """What reads the form, whose last value is the choice of this page: the visitor's next run trains that base,
    whatever another page of theirs chose. It raises `NotFound` where the base is no longer here."""

    def read(who: Actor, *values) -> TrainingConfig:
        if values[-1]:
            services.training.choose_base(who, "" if values[-1] == FIRST else values[-1])
        return form.read(*values[:-1])

    return read
