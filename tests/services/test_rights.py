"""Every service call takes an actor and refuses one without the right, before it looks at anything else."""

import inspect
from unittest.mock import MagicMock

import pytest

from rlhfv.errors import Forbidden
from rlhfv.services import Actor, build_services
from rlhfv.settings import Settings

ROOMS = (
    *("chat", "corrections", "hints", "queue", "answering", "reviewing"),
    *("training", "publishing", "backends", "erasing", "members", "evaluation", "sharing", "consent"),
    *("recorded", "guide", "models", "benchmarking", "judged", "reporting"),
)
# What these say is the same for everybody.
FOR_EVERYBODY = {
    *("recipes", "can_add_oracle_pairs", "can_evaluate", "picture", "address", "may_sign_in_as_owner"),
    *("open_link", "open_picture"),
}
# What the studio does by itself, for its owner.
FOR_ITSELF = {"start_background", "push_as_owner"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_services(Settings(data_dir=tmp_path_factory.mktemp("data")))


def calls_of(service):
    for name, method in inspect.getmembers(service, inspect.ismethod):
        if not name.startswith("_") and name not in FOR_EVERYBODY | FOR_ITSELF:
            yield name, method, list(inspect.signature(method).parameters.values())


@pytest.mark.parametrize("room", ROOMS)
def test_every_call_takes_an_actor_first(built, room):
    without = [
        name
        for name, _, parameters in calls_of(getattr(built, room))
        if [one.name for one in parameters[:1]] != ["actor"]
    ]
    assert without == []


@pytest.mark.parametrize("room", ROOMS)
def test_an_actor_without_rights_is_refused(built, room):
    nobody, allowed = Actor("n" * 32, rights=frozenset()), []
    for name, method, parameters in calls_of(getattr(built, room)):
        given = [
            MagicMock() for one in parameters[1:] if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
        ]
        try:
            result = method(nobody, *given)
            if inspect.isgenerator(result):
                next(result)
        except Forbidden:
            continue
        except Exception as error:
            allowed.append(f"{room}.{name} looked further: {error!r:.200}")
            continue
        allowed.append(f"{room}.{name}")
    assert allowed == []
