"""The public API: ask, correct, take your pairs away. Three endpoints for programs, under the rights, the limits and
the terms of the page; everything else of the page is closed to programs.
"""

import functools
import json
import threading
from collections.abc import Callable
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from rlhfv.corrections.edits import edits_from_rows
from rlhfv.corrections.images import MAX_BYTES
from rlhfv.errors import InvalidData
from rlhfv.services import Services
from rlhfv.services.chat_state import SIDES, Reply
from rlhfv.services.consent import ConsentMissing
from rlhfv.services.terms import LICENCES, Terms, TermsMissing
from rlhfv.studio.events import MODEL, READ, explain
from rlhfv.studio.visitor import actor


def build(services: Services) -> None:
    """Registers the endpoints in the page that is being built."""

    def chat(question: str, picture: dict | None = None, fresh: bool = False, request: gr.Request = None) -> dict:
        """Asks both voices. `picture` is a file that begins a new conversation; without one the caller's conversation
        goes on, unless `fresh`. Returns for "left" and "right" the voice, its answer and the id to correct it by."""
        who = actor(request)
        who.require("chat")
        require_types({"question": (question, str), "fresh": (fresh, bool)})
        anew = None
        if picture is not None:
            anew = (services.chat.add_image(who, read_upload(picture)).name,)
        elif fresh:
            shown = services.chat.open(who).shown_image
            anew = (shown,) if shown else ()
        *_, state = services.chat.ask(who, question, threading.Event(), anew)
        return {side: reply(getattr(state.turns[-1], side)) for side in SIDES}

    def correct(
        answer_id: str,
        edits: list[dict],
        licence: str = "",
        publish: bool = False,
        agree: str = "",
        request: gr.Request = None,
    ) -> dict:
        """Makes or revises the preference pair of an answer. An edit is {"start", "end", "replacement", "kind"}, with
        offsets in characters of the answer, half-open. `licence` and `publish` are asked for once, before the first
        pair; where the studio has terms, `agree` is their version, which the refusal names. Returns the pair's id."""
        who = actor(request)
        who.require("correct")
        given = {"answer_id": (answer_id, str), "licence": (licence, str), "agree": (agree, str)}
        require_types({**given, "publish": (publish, bool)})
        original = services.corrections.open(who, answer_id).original
        rows = edits_from_rows(edits, original)
        if agree:
            services.consent.agree(who, agree)
        if licence:
            known = services.corrections.terms(who) or Terms()
            services.corrections.set_terms(who, Terms(licence, publish, known.annotator))
        saved = services.corrections.save(who, answer_id, original, rows)
        return {"pair_id": saved.pair_id, "revision": saved.revision, "message": saved.message}

    def export(request: gr.Request = None) -> str:
        """The caller's own pairs, one JSON object a line, as `python -m rlhfv pairs import` and `train` read them."""
        return "".join(f"{json.dumps(pair.to_row())}\n" for pair in services.corrections.mine(actor(request)))

    for function, room in ((chat, MODEL), (correct, READ), (export, READ)):
        gr.api(whole(function), api_name=function.__name__, api_visibility="public", **room)


def reply(said: Reply) -> dict:
    return {
        "voice": said.voice_title,
        "answer": said.text,
        "answer_id": said.answer_id,
        "finished": said.finished,
        "problem": " ".join(said.problem),
    }


def read_upload(file: dict) -> bytes:
    """The bytes of a file that was uploaded to this app; the file itself goes. Raises `InvalidData` for anything else:
    a program may name any path."""
    place = Path(get_upload_folder()).resolve()
    path = Path(str(file.get("path") or "")) if isinstance(file, dict) else Path()
    if not path.name or not path.resolve().is_relative_to(place) or not path.is_file():
        raise InvalidData(
            "The picture is no file that was uploaded here.",
            "Only the files that a program has sent are read.",
            "Use handle_file of gradio_client, or POST it to /gradio_api/upload and name the path that comes back.",
        )
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    finally:
        path.unlink(missing_ok=True)


def require_types(given: dict[str, tuple[object, type]]) -> None:
    for name, (value, wanted) in given.items():
        if type(value) is not wanted:
            raise InvalidData(
                f"'{name}' is {value!r:.80}.", f"It has to be of type {wanted.__name__}.", "Send it as that."
            )


def whole(function: Callable) -> Callable:
    """`function` with its errors told in one sentence after the other, as a program prints them."""

    @functools.wraps(function)
    def call(*arguments, **named):
        try:
            return function(*arguments, **named)
        except Exception as error:
            raise gr.Error(" ".join((*explain(error), _how(error))).strip(), print_exception=False) from None

    return call


def _how(error: Exception) -> str:
    """What a program sends where a page would show a dialog."""
    if isinstance(error, ConsentMissing):
        return f"The terms: {error.terms.text} — To agree, send agree={error.terms.version!r}."
    if isinstance(error, TermsMissing):
        return f"Send licence=, one of {', '.join(LICENCES)}, and publish=True or False."
    return ""
