"""How a benchmark's question to a judge is worded: the studio's own words, or those of a file that the user names.

A file is plain text, sent as one message of the user, or a JSON list of messages with "role" and "content". Where a
value goes stands its name in braces; a text without any names, but with as many `{}` as there are names, takes them in
order. Other braces are left as they are.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhfv.errors import InvalidData
from rlhfv.evaluation.files import sha256_of

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Template:
    """Messages with places for values; `label` names the wording in full, as it stands beside the figures."""

    messages: tuple[Mapping[str, str], ...]
    label: str

    def fill(self, values: Mapping[str, str]) -> tuple[dict, ...]:
        """The messages with each `{name}` of `values` replaced, in one go: braces in a value stay as they are."""
        places = re.compile("|".join(re.escape("{" + name + "}") for name in values))
        return tuple(
            {
                "role": message["role"],
                "content": places.sub(lambda found: values[found[0][1:-1]], message["content"]),
            }
            for message in self.messages
        )


def own_template(system: str, user: str, label: str) -> Template:
    """The studio's own wording; without `system` there is one message."""
    messages = [{"role": "user", "content": user}]
    return Template((*([{"role": "system", "content": system}] if system else []), *messages), f"prompt {label}")


def read_template(path: Path, needed: Sequence[str], known: Sequence[str] = ()) -> Template:
    """The wording of a file. It has a place for each `needed` value and may have places for `known` ones.

    Raises InvalidData for a file that cannot be read, is no list of messages, or lacks a needed place.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(
            path, f"It cannot be read ({getattr(error, 'strerror', None) or 'it is no UTF-8'})."
        ) from error
    messages = [{"role": "user", "content": text}]
    if text.lstrip().startswith("["):
        try:
            listed = json.loads(text)
        except ValueError:
            listed = None  # plain text that begins with a bracket
        if listed is not None:
            messages = listed
    if not messages or not all(map(_is_message, messages)):
        raise _unusable(path, f"Each message has a role ({', '.join(ROLES)}) and a content.")
    whole = "".join(message["content"] for message in messages)
    if not any("{" + name + "}" in whole for name in (*needed, *known)) and whole.count("{}") == len(needed):
        names = iter(needed)
        messages = [
            one | {"content": re.sub(r"\{\}", lambda _: "{" + next(names) + "}", one["content"])} for one in messages
        ]
        whole = "".join(message["content"] for message in messages)
    if missing := [name for name in needed if "{" + name + "}" not in whole]:
        raise _unusable(path, f"It has no place for {' and '.join('{' + name + '}' for name in missing)}.")
    kept = tuple({"role": one["role"], "content": one["content"]} for one in messages)
    return Template(kept, f"prompt sha256 {sha256_of(Path(path))}")


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)


def _unusable(path: Path, why: str) -> InvalidData:
    return InvalidData(
        f"The file {Path(path).name!r} is no prompt for the judge.",
        why,
        "Name a text file, or a JSON list of messages, in which the values have their places, such as {question}.",
    )
