"""How every event of the page is registered: closed to the API, quiet while it runs, truthful when it fails."""

import functools
import html
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import gradio as gr
from gradio.events import Dependency

from rlhfv.errors import StudioError

log = logging.getLogger(__name__)
Item = TypeVar("Item")

# Visitors who wait for the model wait inside the models room, in the order in which they came; the queue only has to
# hold that many of them at once.
MODEL = {"concurrency_id": "model", "concurrency_limit": 64}
# Hints wait behind the answers of those who chat; what opens pages must not wait for them.
HINTS = {"concurrency_id": "hints", "concurrency_limit": 8}
# What asks the Hub may wait for it for a minute; the reads of everybody else must not.
HUB = {"concurrency_id": "hub", "concurrency_limit": 8}
# Cheap reads of the store and of run folders.
READ = {"concurrency_id": "read", "concurrency_limit": 16}


def private(event: Callable[..., Dependency], function: Callable, inputs=None, outputs=None, **options) -> Dependency:
    """Registers `function` for `event`: closed to the API, and nothing fades while it runs unless `options` say so.

    By default Gradio drops an event whose function still runs for an earlier one. What must not be lost says so with
    `trigger_mode`: "always_last" where only the newest counts, "multiple" where each does.
    """
    settings = {
        "api_visibility": "private",
        "api_name": name_of(function),
        "show_progress": "hidden",
        **READ,
        **options,
    }
    return event(told(function), inputs, outputs, **settings)


def name_of(function: Callable) -> str:
    """The name of an endpoint, by which `endpoints` says what it does and who may use it: "publish_begin_push"."""
    return f"{function.__module__.rpartition('.')[2]}_{function.__name__}"


def script(event: Callable[..., Dependency], code: str, inputs=None) -> Dependency:
    """Registers constant JavaScript for `event`; the server hears nothing of it."""
    return event(None, inputs, None, js=code, api_visibility="private", show_progress="hidden")


def told(function: Callable) -> Callable:
    """`function` with errors that a visitor can act on: a `StudioError` tells its three parts, anything else is logged
    and shows a neutral sentence without a traceback.
    """
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stream(*arguments, **named):
            try:
                yield from function(*arguments, **named)
            except Exception as error:
                raise as_toast(error) from None

        return stream

    @functools.wraps(function)
    def call(*arguments, **named):
        try:
            return function(*arguments, **named)
        except Exception as error:
            raise as_toast(error) from None

    return call


def as_toast(error: Exception) -> gr.Error:
    """The error as Gradio shows it. Its texts are escaped, because Gradio reads them as HTML."""
    if isinstance(error, gr.Error):
        return error
    what, why, fix = explain(error)
    return gr.Error(html.escape(f"{why} {fix}"), title=html.escape(what), duration=15, print_exception=False)


def explain(error: Exception) -> tuple[str, str, str]:
    """What was wrong, why it cannot work, what to do next."""
    if isinstance(error, StudioError):
        return error.what, error.why, error.fix
    log.error("An event of the page failed.", exc_info=error)
    return (
        "Something in the studio failed.",
        f"The cause ({type(error).__name__}) is in the studio's log.",
        "What was saved is kept. Try again; if it happens again, tell the owner of this studio the time.",
    )


def throttle(states: Iterable[Item], seconds: float = 0.09) -> Iterator[Item]:
    """The newest item at most every `seconds`, and always the first and the last: a page that is sent every token
    falls behind by many seconds.
    """
    sent, pending, waiting = 0.0, None, False
    for state in states:
        pending, waiting = state, True
        if time.monotonic() - sent >= seconds:
            yield pending
            sent, waiting = time.monotonic(), False
    if waiting:
        yield pending
