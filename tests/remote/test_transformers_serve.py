"""The same voice against a server of other people: `transformers serve` on a tiny random LLaVA."""

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from transformers.utils.import_utils import is_serve_available

from rlhfv.corrections.conversation import Prompt, Sampling
from rlhfv.errors import GenerationFailed
from rlhfv.models.generated import Row
from rlhfv.models.local import load_model
from rlhfv.models.remote import open_remotes
from rlhfv.services import Actor, build_services
from rlhfv.settings import NO_MODEL, RemoteVoice, Settings
from tests.apps import free_port
from tests.models.tiny import build_llava

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_serve_available(), reason="`transformers serve` needs the package openai"),
]
SHORT = Sampling(max_new_tokens=24)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build_llava(tmp_path_factory.mktemp("tiny") / "llava")


@pytest.fixture(scope="module")
def address(tiny):
    port = free_port()
    command = [Path(sys.executable).with_name("transformers"), "serve", tiny, "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with (tiny.parent / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        ends = time.monotonic() + 120
        while True:
            assert process.poll() is None and time.monotonic() < ends, (tiny.parent / "serve.log").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def test_the_server_says_what_the_same_weights_say_here(tiny, address, picture_file):
    prompt = Prompt("What is it?", images=(str(picture_file),))
    *_, here = _all(load_model(str(tiny)).answer_both([Row(None, prompt)], SHORT))
    voice = RemoteVoice("Tiny", address, str(tiny))
    *shown, there = _all(open_remotes([voice], 1)[voice.id].answer_both([Row(None, prompt)], SHORT))
    assert len(shown) > 2 and there[0].text
    # The server keeps the bytes of a character that is not complete at the limit.
    assert here[0].text.startswith(there[0].text) and len(here[0].text) - len(there[0].text) <= 3
    assert not there[0].finished and "limit of 24 tokens" in there[0].note
    assert there[0].model.name.startswith("llava") and "/" not in str(there[0].model)


def test_it_streams_into_a_column_and_the_answer_is_stored(tiny, address, picture_file, tmp_path):
    voices = (RemoteVoice("Left", address, str(tiny)),)
    services, ada = build_services(Settings(tmp_path / "data", model=NO_MODEL, remotes=voices)), Actor("a" * 32)
    image = services.chat.add_image(ada, picture_file.read_bytes())
    services.chat.set_images(ada, (image.name,))
    voice = voices[0].id
    services.chat.choose(ada, voice, voice, SHORT)
    states = list(services.chat.ask(ada, "What is it?", threading.Event()))
    assert len({state.turns[-1].left.text for state in states}) > 2
    turn = states[-1].turns[-1]
    assert turn.left.text == turn.right.text and services.store.answer(turn.left.answer_id).text == turn.left.text
    *_, second = services.chat.ask(ada, "And now?", threading.Event())
    assert second.turns[-1].left.answer_id, "a second turn, with its history, is answered too"


def test_a_model_that_it_does_not_have_is_told(tiny, address, picture_file):
    voice = RemoteVoice("Other", address, "nobody/nothing")
    with pytest.raises(GenerationFailed) as told:
        _all(open_remotes([voice], 1)[voice.id].answer_both([Row(None, Prompt("Hello?"))], SHORT))
    assert "'Other'" in told.value.what and told.value.why and told.value.fix


def _all(stream) -> list:
    """What a stream shows, and what it returns."""
    shown = []
    while True:
        try:
            shown.append(next(stream))
        except StopIteration as end:
            return [*shown, end.value]
