"""Fixtures that several rooms share."""

import re
import signal

import pytest

from tests.hub.fixture import connect, hub, transport
from tests.hub.people import ISSUED

__all__ = ["connect", "hub", "transport"]

# A shell that starts the tests in the background makes them deaf to Ctrl-C, and what they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_token_is_left_behind(tmp_path_factory):
    """Whatever the tests left in their folders (stores, runs, events, cards, repositories, logs, caches) is searched
    for the tokens that they used.
    """
    yield
    place = tmp_path_factory.getbasetemp()
    found = [
        str(file.relative_to(place))
        for file in place.rglob("*")
        if file.is_file() and ISSUED & {token.decode() for token in re.findall(rb"hf_[0-9a-f]{34}", file.read_bytes())}
    ]
    assert found == [], f"{len(found)} files hold a token"
