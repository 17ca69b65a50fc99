"""`erase`: text and pictures go for good, which `pairs` never does."""

import argparse
import sys
from dataclasses import asdict

from rlhfv.commands.terminal import count, open_services, read_token, show, show_json, tell
from rlhfv.errors import InvalidData


def erase(arguments: argparse.Namespace) -> int:
    services, actor = open_services(arguments)
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
    erased = services.erasing.erase(actor, arguments.pair, arguments.image, arguments.forget_history)
    if arguments.json:
        show_json(asdict(erased))
    else:
        show(f"Erased here{''.join(f', and in {repo}' for repo in erased.repos)}.")
        show(*(f"Still in {repo}: {reason}" for repo, reason in erased.waiting))
        show("Out of reach:", *(f"  {sentence}" for sentence in erased.unreached))
    return 1 if erased.waiting else 0


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise InvalidData("Nobody can be asked.", "Erasing cannot be undone, so it is confirmed first.", "Add --yes.")
    if input("Erase them? Type 'erase': ").strip() != "erase":
        raise InvalidData("It was not confirmed.", "Nothing was erased.", "Call the command again if it should be.")
