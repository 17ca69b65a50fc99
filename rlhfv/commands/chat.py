"""`chat`: one question to two voices, or a conversation line by line."""

import argparse
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.commands.terminal import open_services, progress, show, show_json, tell, tell_error
from rlhfv.corrections.conversation import Sampling
from rlhfv.errors import InvalidData, StudioError

if TYPE_CHECKING:
    from rlhfv.services import Actor, Services


def chat(arguments: argparse.Namespace) -> int:
    services, actor = open_services(arguments)
    state = services.chat.open(actor)
    if arguments.image or arguments.scene:
        state = services.chat.new_conversation(actor)
        names = [services.chat.add_image(actor, _read(path)).name for path in arguments.image]
        names += [services.chat.draw_scene(actor).name] if arguments.scene else []
        state = services.chat.set_images(actor, tuple(names))
    sampling = Sampling(arguments.temperature, arguments.top_p, arguments.max_new_tokens, arguments.seed)
    voices = services.chat.studio(actor).voices
    sides = {
        side: getattr(state, side) if wanted is None else find_voice(voices, wanted)
        for side, wanted in (("left", arguments.left), ("right", arguments.right))
    }
    services.chat.choose(actor, sides["left"], sides["right"], sampling)
    titles = {voice.id: voice.title for voice in voices}
    if arguments.question:
        _ask(services, actor, arguments.question, titles, arguments.json)
        return 0
    tell(f"{titles[sides['left']]} | {titles[sides['right']]}: type a question; an empty line ends.")
    while question := _read_line():
        try:
            _ask(services, actor, question, titles, arguments.json)
        except StudioError as error:
            tell_error(error)
    return 0


def find_voice(voices, wanted: str) -> str:
    """The id of the voice with that id or title."""
    for voice in voices:
        if wanted.casefold() in (voice.id.casefold(), voice.title.casefold()):
            return voice.id
    raise InvalidData(
        f"There is no voice {wanted!r}.",
        f"On offer are {', '.join(repr(voice.title) for voice in voices)}.",
        "Name one of these, or add an adapter with --adapter.",
    )


def _ask(services: "Services", actor: "Actor", question: str, titles: dict[str, str], as_json: bool) -> None:
    stop, state = threading.Event(), None
    answers = services.chat.ask(actor, question, stop)
    with progress("answering", None, "characters") as bar:
        while True:
            try:
                state = next(answers)
            except StopIteration:
                break
            except KeyboardInterrupt:  # what was said so far is kept
                stop.set()
                answers.close()
                raise
            turn = state.turns[-1]
            bar.update_to(len(turn.left.text) + len(turn.right.text))
    said = {
        side: {"voice": getattr(state, side), "title": titles.get(getattr(state, side), ""), **_reply(reply)}
        for side, reply in (("left", turn.left), ("right", turn.right))
    }
    if as_json:
        show_json({"question": turn.question, "images": turn.images, **said})
    else:
        for reply in said.values():
            show(f"{reply['title']}: {reply['text']}", "")


def _reply(reply) -> dict:
    return {"text": reply.text, "answer_id": reply.answer_id, "finished": reply.finished}


def _read_line() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidData(f"{path} cannot be read.", f"{error.strerror}.", "Check the path.") from error
