"""`publish push|pull|status|adapter`: the data set and the adapters on the Hub."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from rlhfv.commands.terminal import count, open_services, progress, read_token, show, show_json, tell

if TYPE_CHECKING:
    from rlhfv.services import Actor, Services


def push(arguments: argparse.Namespace) -> None:
    services, actor = _sign_in(arguments)
    with _told(arguments.repo) as tell_progress:
        pushed = services.publishing.push(
            actor, arguments.repo, not arguments.public, arguments.pull_request, tell_progress
        )
    for id, reason in pushed.left_out:
        tell(f"{id} was left out: {reason}.")
    if arguments.json:
        return show_json(asdict(pushed))
    done = ", ".join(f"{number} {what}" for what, number in _counts(pushed) if number)
    if pushed.url:
        return show(f"{done or 'nothing'} in the pull request {pushed.url}")
    show(f"{done or 'nothing to push'}; {pushed.repo} is at {pushed.commit}")


def pull(arguments: argparse.Namespace) -> int:
    # A public data set is read as nobody.
    services, actor = _sign_in(arguments) if read_token(arguments) else open_services(arguments)
    with _told(arguments.repo) as tell_progress:
        pulled = services.publishing.pull(actor, arguments.repo, tell_progress)
    for problem in pulled.problems:
        tell(str(problem))
    if arguments.json:
        show_json(asdict(pulled))
    else:
        show(
            f"{count(pulled.new, 'new pair')}, {pulled.changed} changed, {pulled.removed} removed, "
            f"{pulled.conflicts} changed on both sides, {pulled.judgements} judgements; at {pulled.commit}"
        )
    return 1 if pulled.problems else 0


def status(arguments: argparse.Namespace) -> None:
    services, actor = open_services(arguments)
    found = services.publishing.status(actor, arguments.repo)
    if arguments.json:
        return show_json(asdict(found))
    if not found.repo:
        show("nothing was pushed yet")
    else:
        show(f"{found.repo} at {found.commit or 'no commit yet'}, pushed {found.pushed or 'never'}")
    waiting = found.waiting
    show(
        f"waiting: {waiting.added} to add, {waiting.changed} to change, {waiting.removed} to remove, "
        f"{waiting.judgements} judgements"
    )
    show(*(f"stay here: {number} ({reason})" for reason, number in found.unpublishable.items()))
    show(*(f"left out: {id} ({reason})" for id, reason in found.left_out))
    if found.pull_request:
        show(f"pull request: {found.pull_request}")


def adapter(arguments: argparse.Namespace) -> None:
    services, actor = _sign_in(arguments)
    with _told(arguments.repo) as tell_progress:
        pushed = services.publishing.push_adapter(
            actor, arguments.run, arguments.repo, not arguments.public, tell_progress
        )
    show_json(asdict(pushed)) if arguments.json else show(f"{pushed.repo}@{pushed.commit}")


def _sign_in(arguments: argparse.Namespace) -> "tuple[Services, Actor]":
    services, actor = open_services(arguments)
    services.publishing.sign_in(actor, read_token(arguments))
    return services, actor


def _counts(pushed) -> list[tuple[str, int]]:
    names = ("added", "changed", "removed")
    return [*((name, getattr(pushed, name)) for name in names), ("judgements", pushed.judgements)]


@contextmanager
def _told(title: str) -> Iterator:
    """A bar that says what is being done."""
    with progress(title, None, "steps") as bar:

        def tell_progress(stage: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_postfix_str(stage, refresh=False)
            bar.update_to(done)
            bar.refresh()

        yield tell_progress
