import io

import pytest
from PIL import Image

from rlhfv.services import Actor, build_services
from rlhfv.settings import Settings
from tests.services.fakes import ScriptedModel, scripted_entry


@pytest.fixture
def services(tmp_path, monkeypatch):
    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
    services = build_services(Settings(data_dir=tmp_path, model="scripted"))
    services.host._model = ScriptedModel()
    return services


@pytest.fixture
def picture():
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), "teal").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def ada():
    return Actor("a" * 32)


@pytest.fixture
def bob():
    return Actor("b" * 32)
