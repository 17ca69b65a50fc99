import pytest
from PIL import Image

from rlhfv.corrections.conversation import Prompt
from tests.remote.server import OpenAIServer


@pytest.fixture
def server():
    server = OpenAIServer()
    yield server
    server.stop()


@pytest.fixture
def picture_file(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (32, 24), "teal").save(path)
    return path


@pytest.fixture
def prompt(picture_file):
    return Prompt("What is it?", images=(str(picture_file),))
