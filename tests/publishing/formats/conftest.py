import pytest

from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.store import Store


@pytest.fixture
def shelf(tmp_path):
    return ImageShelf(tmp_path / "images")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "studio.db")


@pytest.fixture
def find(shelf):
    """Pictures and kept originals by their names, as the services give them to an export."""
    return lambda name: shelf.original(name) if name.endswith(".original") else shelf.path(name)
