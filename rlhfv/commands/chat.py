"""`chat`: one question to two voices, or a conversation line by line."""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
    sampling = read_sampling(services, arguments)
    voices = services.chat.studio(actor).voices
    sides = {
        side: getattr(state, side) if wanted is None else find_voice(voices, wanted)
        for side, wanted in (("left", arguments.left), ("right", arguments.right))
    }
    services.chat.choose(actor, sides["left"], sides["right"], sampling)
    # A picture that is refused must not cost the conversation so far.
    names = [services.chat.add_image(actor, read_image(path)).name for path in arguments.image]
    names += [services.chat.draw_scene(actor).name] if arguments.scene else []
    if names:
        services.chat.new_conversation(actor)
        services.chat.set_images(actor, tuple(names))
    titles = {voice.id: voice.title for voice in voices}
    if arguments.question is not None:
        return _ask(services, actor, arguments.question, titles, arguments.json)
    tell(f"{titles[sides['left']]} | {titles[sides['right']]}: type a question; an empty line ends.")
    code = 0
    while question := _read_line():
        try:
            code = 2 if _ask(services, actor, question, titles, arguments.json) == 2 else code
        except StudioError as error:
            tell_error(error)
            code = 2
    return code


def read_sampling(services: "Services", arguments: argparse.Namespace) -> Sampling:
    """What the flags say; the length where they say none is what the makers of the model use, if that is known."""
    known = services.host.entry.known
    usual = (known.decoding if known else Sampling()).max_new_tokens
    longest = usual if arguments.max_new_tokens is None else arguments.max_new_tokens
    return Sampling(arguments.temperature, arguments.top_p, longest, arguments.seed)


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


def _ask(services: "Services", actor: "Actor", question: str, titles: dict[str, str], as_json: bool) -> int:
    """Asks and shows both answers; 130 where they were not left to end by themselves, 2 where there is only one."""
    stop = threading.Event()
    answers = services.chat.ask(actor, question, stop)
    state = next(answers)  # a question that is refused ends here
    with interrupt_stops(stop), progress("answering", None, "characters") as bar:
        for state in answers:
            turn = state.turns[-1]
            bar.update_to(len(turn.left.text) + len(turn.right.text))
    turn = state.turns[-1]
    for reply in (turn.left, turn.right):
        if reply.problem:
            tell_error(StudioError(*reply.problem))
    said = {
        side: {"voice": getattr(state, side), "title": titles.get(getattr(state, side), ""), **_reply(reply)}
        for side, reply in (("left", turn.left), ("right", turn.right))
    }
    if as_json:
        show_json({"question": turn.question, "images": turn.images, **said})
    else:
        for reply in said.values():
            if not reply["problem"]:
                show(f"{reply['title']}: {reply['text']}", *([f"({reply['note']})"] if reply["note"] else []), "")
    if turn.left.problem or turn.right.problem:
        return 2
    return 130 if stop.is_set() else 0


@contextmanager
def interrupt_stops(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C ends the answers, which are kept as they stand; a second one does not wait for them."""

    def stop_or_end(*_) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, stop_or_end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _reply(reply) -> dict:
    return {name: getattr(reply, name) for name in ("text", "answer_id", "finished", "note", "problem")}


def _read_line() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def read_image(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidData(f"{path} cannot be read.", f"{error.strerror}.", "Check the path.") from error
