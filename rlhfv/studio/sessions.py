"""What Gradio keeps of each open page, without the part that nothing here reads.

For links that open a page as somebody left it, which this studio does not have, Gradio describes every component anew
for each page that opens and keeps that for as long as it knows the page: a third of a second of this page, and
megabytes, for every session that a visitor, or a program that invents sessions, begins.
"""

from types import SimpleNamespace

import gradio.state_holder
from gradio.state_holder import SessionState

MOST = 600
"""Pages that are remembered; of more the ones that were longest unused begin anew."""


class LeanState(SessionState):
    """The state of one page: its `gr.State`s and what its components were updated to."""

    def __init__(self, blocks):
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks={}))

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: object) -> None:
        pass


def install() -> None:
    """From now on sessions begin lean, in every app of this process."""
    gradio.state_holder.SessionState = LeanState
