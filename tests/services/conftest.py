import io
import threading

import pytest
from PIL import Image

from rlhfv.corrections import mounts
from rlhfv.errors import InvalidImage
from rlhfv.publishing import places
from rlhfv.publishing.places import FolderPlace
from rlhfv.services import Actor, build_services, durable
from rlhfv.settings import Settings
from tests.services.copied_studio import Studio
from tests.services.fakes import ScriptedModel, scripted_entry
from tests.services.made_benchmark import make_pope, take_both


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


@pytest.fixture
def open_studio(tmp_path, monkeypatch):
    """`open_studio(name)` is a studio on the disk of that name; the same folder keeps the copies of all."""
    opened = []
    (tmp_path / "mounts").write_text(f"hf-mount {tmp_path}/bucket fuse rw 0 0\n", encoding="utf-8")
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(places, "MOUNT_SETTLES", 0.0)

    def open_studio(name, place=tmp_path / "bucket", start=True, **settings):
        opened.append(Studio(tmp_path / name, place, **settings))
        return opened[-1].start() if start else opened[-1]

    monkeypatch.setattr(durable, "SECONDS_TO_CONFIRM", 5.0)
    yield open_studio
    for studio in opened:
        studio.durable.close()


@pytest.fixture
def tired(monkeypatch):
    """While it is set, every call of a folder fails."""
    away = threading.Event()

    def tire(do):
        def tired(*given):
            if away.is_set():
                raise OSError("the network is gone")
            return do(*given)

        return tired

    for name in ("prepare", "names", "fetch", "write"):
        monkeypatch.setattr(FolderPlace, name, tire(getattr(FolderPlace, name)))
    return away


@pytest.fixture
def bench(services):
    make_pope(services.benchmarking.root)
    return services.benchmarking


@pytest.fixture
def asked(monkeypatch):
    """The questions that the model was asked, in batches; those in `asked.fail` fail."""

    class Asked(list):
        fail = ()

    asked, answer = Asked(), ScriptedModel.answer_many

    def listen(self, prompts, *arguments, **named):
        asked.append([prompt.question for prompt in prompts])
        for prompt in prompts:
            if any(word in prompt.question for word in asked.fail):
                raise InvalidImage("The image cannot be opened.", "It is torn.", "Take another.")
        return answer(self, prompts, *arguments, **named)

    monkeypatch.setattr(ScriptedModel, "answer_many", listen)
    return asked


@pytest.fixture
def compared(services, ada, tmp_path):
    """The ids of two sets of answers of ada's."""
    return take_both(services, ada, tmp_path)
