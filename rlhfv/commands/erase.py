"""`erase`: text and pictures go for good, which `pairs` never does."""

import argparse
import sys
from dataclasses import asdict

from rlhfv.commands.terminal import count, open_services, read_token, show, show_json, tell
from rlhfv.errors import InvalidData
from rlhfv.services.erasing import Erased


def erase(arguments: argparse.Namespace) -> int:
    if arguments.waiting and (arguments.pair or arguments.image):
        raise InvalidData(
            "Pairs or pictures were named beside --waiting.",
            "With it only what was erased before is taken out of repositories; nothing else goes.",
            "Call it once with what is to be erased, and once with --waiting alone.",
        )
    services, actor = open_services(arguments)
    if arguments.waiting:
        services.publishing.sign_in(actor, read_token(arguments))
        return _tell(arguments, services.erasing.erase_waiting(actor, arguments.forget_history))
    found = services.erasing.find(actor, arguments.pair, arguments.image)
    tell(
        f"{count(len(found.pairs), 'pair')}, {count(len(found.answers), 'answer')}, "
        f"{count(len(found.tasks), 'task')} and {count(len(found.images) - len(found.shared), 'picture')} would go.",
        *(f"The picture {name} stays: something else is about it." for name in found.shared),
    )
    if not arguments.yes:
        _confirm()
    if token := read_token(arguments):
        services.publishing.sign_in(actor, token)
    return _tell(arguments, services.erasing.erase(actor, arguments.pair, arguments.image, arguments.forget_history))


def _tell(arguments: argparse.Namespace, erased: Erased) -> int:
    if arguments.json:
        show_json(asdict(erased))
    else:
        places = [*([] if arguments.waiting else ["here"]), *(f"in {repo}" for repo in erased.repos)]
        show(f"Erased {' and '.join(places)}." if places else "Nothing to erase.")
        show(*(f"Still in {repo}: {reason}" for repo, reason in erased.waiting))
        if erased.unreached:
            show("Out of reach:", *(f"  {sentence}" for sentence in erased.unreached))
    return 1 if erased.waiting else 0


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise InvalidData("Nobody can be asked.", "Erasing cannot be undone, so it is confirmed first.", "Add --yes.")
    if input("Erase them? Type 'erase': ").strip() != "erase":
        raise InvalidData("It was not confirmed.", "Nothing was erased.", "Call the command again if it should be.")
