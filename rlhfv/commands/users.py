"""`users add|disable|reset|list`: who may sign in to a shared studio."""

import argparse
import sys
from getpass import getpass

from rlhfv.commands.terminal import show, show_json, tell
from rlhfv.errors import InvalidData
from rlhfv.services.people import People, User


def add(arguments: argparse.Namespace) -> None:
    _tell(arguments, People(arguments.auth).add(arguments.name, arguments.role, _password(arguments)), "added")


def disable(arguments: argparse.Namespace) -> None:
    _tell(arguments, People(arguments.auth).disable(arguments.name), "disabled")


def reset(arguments: argparse.Namespace) -> None:
    people = People(arguments.auth)
    people.user(arguments.name)
    _tell(arguments, people.reset(arguments.name, _password(arguments)), "given a new password")


def list_users(arguments: argparse.Namespace) -> None:
    users = People(arguments.auth).users()
    if arguments.json:
        return show_json([_row(user) for user in users])
    for user in users:
        show(f"{user.name:30}  {user.role:10}  {'' if user.enabled else 'disabled'}".rstrip())
    tell(f"{len(users)} users in {arguments.auth}")


def _tell(arguments: argparse.Namespace, user: User, done: str) -> None:
    show_json(_row(user)) if arguments.json else tell(f"{user.name} ({user.role}) was {done}.")


def _row(user: User) -> dict:
    return {"name": user.name, "role": user.role, "enabled": user.enabled}


def _password(arguments: argparse.Namespace) -> str:
    """From the keyboard, unseen and twice; or one line of stdin, for scripts. Never from the command line
    itself, which every process of the machine can read."""
    if arguments.password_stdin:
        return sys.stdin.readline().rstrip("\n")
    first = getpass("Password: ")
    if getpass("The same again: ") != first:
        raise InvalidData("The two passwords differ.", "One of them has a typing error.", "Call the command again.")
    return first
