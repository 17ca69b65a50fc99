import hashlib
import io
from types import SimpleNamespace

import pytest
from PIL import Image

SHARD = "data/train-00000.parquet"


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no compression makes smaller."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)


@pytest.fixture
def ann(hub, connect):
    """Ann's client, and this process's."""
    return connect(hub.user("ann"))


@pytest.fixture
def waits(monkeypatch):
    """The client's waits between its tries; it does not really wait."""
    from huggingface_hub.utils import _http

    seconds = []
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


@pytest.fixture
def make_picture():
    def make_picture(seed: int, size: int = 24) -> bytes:
        """A PNG of noise, which no compression makes smaller."""
        buffer = io.BytesIO()
        Image.frombytes("RGB", (size, size), noise(size * size * 3, seed)).save(buffer, "PNG")
        return buffer.getvalue()

    return make_picture
