"""What Gradio keeps of each open page and of each event, without the part that nothing here reads.

For links that open a page as somebody left it, which this studio does not have, Gradio describes every component anew
for each page that opens and keeps that for as long as it knows the page: a third of a second of this page, and
megabytes, for every session that a visitor, or a program that invents sessions, begins. Of a page that stays open it
keeps every component that an update of it ever made: about ten for each question.
"""

import sys
from collections import ChainMap
from collections.abc import Container
from types import SimpleNamespace

import gradio as gr
import gradio.state_holder
from gradio.blocks import Block
from gradio.state_holder import SessionState

MOST = 600
"""Pages that are remembered; of more the ones that were longest unused begin anew."""
MOST_WAITING = 2000
"""Sessions whose events Gradio's queue remembers; for as many it has messages."""


class LeanState(SessionState):
    """The state of one page: its `gr.State`s and what its components were updated to."""

    def __init__(self, blocks):
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks={}))
        # All but what this page changes is the same for every page, and a call of the API changes nothing.
        self.blocks_config.blocks = ChainMap({}, blocks.default_config.blocks)
        self.blocks_config.fns = blocks.default_config.fns

    def __setitem__(self, key: int, value: object) -> None:
        if isinstance(value, Block):
            # What stands in a component's place has its id. By an id of its own Gradio would keep it a second time,
            # for ever, when the next value comes.
            value._id = key
            self.blocks_config.blocks[key] = value
        else:
            super().__setitem__(key, value)

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: object) -> None:
        pass


class WaitingEvents(dict[str, set[str]]):
    """The ids of the events that each session has not yet heard the end of. Gradio takes the ids out and leaves the
    empty sets, one for every call of the API; here those go, and sessions whose `messages` are forgotten."""

    def __init__(self, messages: Container[str]):
        super().__init__()
        self._messages = messages

    def __setitem__(self, session: str, events: set[str]) -> None:
        if len(self) >= MOST_WAITING:
            for known in [known for known, ids in self.items() if not ids or known not in self._messages]:
                del self[known]
        super().__setitem__(session, events)

    def __missing__(self, session: str) -> set[str]:
        return set()


def lighten(blocks: gr.Blocks) -> None:
    """Nothing of an event stays in the page's queue when it has ended. For a dashboard, which is closed here, Gradio
    keeps a record of ten thousand events and makes a table of them all, a tenth of a second, each time one ends."""
    queue = blocks._queue
    queue.ANALYTICS_MAX_EVENTS, queue.ANAYLTICS_CACHE_FREQUENCY = 1, sys.maxsize
    queue.pending_event_ids_session = WaitingEvents(queue.pending_messages_per_session)


def install() -> None:
    """From now on sessions begin lean, in every app of this process."""
    gradio.state_holder.SessionState = LeanState
