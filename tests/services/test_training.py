"""What the Train tab asks of the services, over a scripted model."""

import shlex
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.ddpo.config import RECIPES
from rlhfv.services.terms import Terms
from rlhfv.settings import default_data_dir

DEMO = RECIPES["demo"]


@pytest.fixture
def pair(services, ada, picture):
    services.chat.set_images(ada, (services.chat.add_image(ada, picture).name,))
    *_, state = services.chat.ask(ada, "What is it?", threading.Event())
    services.corrections.set_terms(ada, Terms("cc-by-4.0", True, "Ada"))
    reply = state.turns[0].left
    services.corrections.save(ada, reply.answer_id, reply.text, [Edit(0, 8, "two dogs", "number")])
    return services.corrections.mine(ada)[0]


def test_pairs_are_counted_by_maker_and_kind(services, ada, pair):
    oracle = replace(pair, id="2" * 32, provenance=replace(pair.provenance, annotator="oracle"))
    services.store.add_pairs([oracle], ada.visitor)
    counts = services.training.counts(ada)
    assert (counts.own, counts.oracle, counts.kinds) == (1, 1, {"number": 2})


def test_the_command_names_this_studio_and_nothing_that_is_as_usual(services, ada):
    command = shlex.split(services.training.command(ada, DEMO.changed(gamma=2.0), "my run"))
    assert command[:4] == ["python", "-m", "rlhfv", "train"]
    assert command[command.index("--data-dir") + 1] == str(services.settings.data_dir)
    assert command[command.index("--gamma") + 1] == "2.0" and command[command.index("--title") + 1] == "my run"
    assert "--data" not in command and "--beta" not in command
    services.training.settings = replace(services.settings, data_dir=default_data_dir())
    assert "--data-dir" not in services.training.command(ada, DEMO)
    services.training.settings = replace(services.settings, single_user=False)
    shared = services.training.command(ada, DEMO)
    assert "--data pairs.jsonl" in shared and str(services.settings.data_dir) not in shared


def test_asking_again_ends_when_it_is_stopped(services, ada, pair, monkeypatch):
    folder = SimpleNamespace(read_rows=lambda: [pair.to_row()] * 3, image_path=services.chat.shelf.path)
    monkeypatch.setattr(services.training, "folder", lambda who, run_id: folder)
    monkeypatch.setattr(services.training, "voice_of", lambda who, run_id: "")
    stop = threading.Event()
    asked = services.training.reask(ada, "run", stop)
    assert next(asked) == ([], 3)
    results, total = next(asked)
    assert (len(results), total, results[0].judged_by) == (1, 3, "lexical")
    stop.set()
    assert list(asked) == []
