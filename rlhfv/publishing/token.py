"""Tokens of the Hub. Each is given by somebody, for what is done with it now: there is no token that "is there"."""

import re
from dataclasses import dataclass, field

from rlhfv.errors import StudioError

_SECRET = re.compile(r"hf_\w{16,}|(?<=[Bb]earer )\S+")


class SignInNeeded(StudioError):
    """Something that only a token can do was asked for without one."""


@dataclass(frozen=True)
class Token:
    """A token that somebody gave for what is done with it now; it shows in no text that is made of this object."""

    secret: str = field(repr=False)

    def __post_init__(self):
        if not isinstance(self.secret, str) or not self.secret.strip() or not self.secret.isascii():
            raise SignInNeeded(
                "There is no token.",
                "The Hub takes rows only from somebody it knows, and nobody else's token is used for it.",
                "Sign in to continue; what waits is kept.",
            )
        object.__setattr__(self, "secret", self.secret.strip())

    def __reduce__(self):
        raise TypeError("a token stays in the memory of this process")

    def scrub(self, text: str) -> str:
        """The text without this token, or anything else that looks like one."""
        return scrub(text.replace(self.secret, "…"))


def scrub(text: str) -> str:
    """The text without anything that looks like a token."""
    return _SECRET.sub("…", text)
