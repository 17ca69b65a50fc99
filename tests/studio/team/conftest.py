"""A studio of a team: two annotators, a reviewer and an owner."""

import pytest

from rlhfv.services import build_services
from rlhfv.services.people import SCRYPT, People
from rlhfv.settings import Settings
from tests.services.fakes import ScriptedModel, scripted_entry
from tests.studio.conftest import build_page

PASSWORD = "four words are long"


@pytest.fixture
def people(tmp_path, monkeypatch):
    monkeypatch.setitem(SCRYPT, "n", 2)
    people = People(tmp_path / "users.json")
    for name, role in (("Ann", "annotator"), ("Bo", "annotator"), ("Ray", "reviewer"), ("Olga", "owner")):
        people.add(name, role, PASSWORD)
    return people


@pytest.fixture
def services(tmp_path, monkeypatch, people):
    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
    services = build_services(
        Settings(data_dir=tmp_path, model="scripted", team=True, single_user=False, auth=people.path)
    )
    services.host._model = ScriptedModel()
    return services


@pytest.fixture
def page(services):
    return build_page(services)


@pytest.fixture
def ann(people):
    return people.actor("Ann")


@pytest.fixture
def bo(people):
    return people.actor("Bo")


@pytest.fixture
def ray(people):
    return people.actor("Ray")


@pytest.fixture
def olga(people):
    return people.actor("Olga")
