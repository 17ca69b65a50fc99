"""Voices on servers in the studio: beside those here, in their place, and what is said where they cannot serve."""

import io
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from rlhfv.corrections.conversation import ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.pairs import PreferencePair, Provenance
from rlhfv.corrections.tasks import NewTask
from rlhfv.ddpo.check import check_run
from rlhfv.ddpo.config import RECIPES
from rlhfv.errors import GenerationFailed, InvalidData, ModelUnavailable, NotFound
from rlhfv.models.catalog import find_entry
from rlhfv.services import Actor, build_services, local_actor
from rlhfv.services.terms import Terms
from rlhfv.settings import NO_MODEL, RemoteVoice, Settings
from tests.remote.server import SAID
from tests.services.fakes import ScriptedModel, load_instead, scripted_entry

ADA = Actor("a" * 32)


def voices_of(server, *models) -> tuple[RemoteVoice, ...]:
    return tuple(RemoteVoice(model.title(), server.url, model) for model in models)


@pytest.fixture
def open_studio(tmp_path, server, monkeypatch):
    """`open_studio(*models, local=…)`: a studio with these voices on the server, beside a scripted model or alone."""

    def open_studio(*models, local=True):
        if local:
            monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
        name = "scripted" if local else NO_MODEL
        services = build_services(Settings(tmp_path / "data", model=name, remotes=voices_of(server, *models)))
        if local:
            services.host._model = ScriptedModel(delay=0.01)
        return services

    return open_studio


def give_picture(services, actor=ADA) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), "teal").save(buffer, "PNG")
    image = services.chat.add_image(actor, buffer.getvalue())
    services.chat.set_images(actor, (image.name,))
    return image.name


def ask(services, question="What is it?", actor=ADA, stop=None):
    *_, last = services.chat.ask(actor, question, stop or threading.Event())
    return last


def identity_of(server, model) -> ModelIdentity:
    return ModelIdentity(model, f"127.0.0.1:{server.server_address[1]}")


# ---- who answers


def test_two_voices_of_one_server_need_no_model_here(open_studio, server):
    services = open_studio("llava", "aligned", local=False)
    give_picture(services)
    assert [voice.title for voice in services.host.voices(ADA)] == ["Llava", "Aligned"]
    assert services.host.warm() is None and not services.chat.waits_for_loading(ADA)
    turn = ask(services).turns[-1]
    assert turn.left.text == SAID and turn.right.text == "A cat and a blue cup."
    stored = services.store.answer(turn.right.answer_id)
    assert stored.model == identity_of(server, "aligned") and stored.row_layout == (str(stored.model),)
    assert not services.host.loaded
    with pytest.raises(ModelUnavailable, match="no model on this machine"):
        services.host.model()
    with pytest.raises(NotFound):
        services.chat.choose(ADA, "", "", Sampling())


def test_torch_is_not_even_imported_for_them(tmp_path, server):
    code = (
        "import sys, threading; from pathlib import Path; from rlhfv.services import Actor, build_services;"
        "from rlhfv.settings import parse_app_arguments;"
        f"words = ['--data-dir', {str(tmp_path / 'data')!r}, '--remote', 'A={server.url}#llava',"
        f" '--remote', 'B={server.url}#aligned'];"
        "services = build_services(parse_app_arguments(words)); ada = Actor('a' * 32);"
        f"image = services.chat.add_image(ada, Path({str(picture_path(tmp_path))!r}).read_bytes());"
        "services.chat.set_images(ada, (image.name,)); services.host.warm();"
        "*_, last = services.chat.ask(ada, 'What?', threading.Event());"
        "assert last.turns[0].left.finished and last.turns[0].right.finished;"
        "print([name for name in ('torch', 'transformers', 'gradio') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def picture_path(folder: Path) -> Path:
    Image.new("RGB", (32, 24), "teal").save(folder / "cup.png")
    return folder / "cup.png"


def test_a_local_baseline_and_a_server_stream_side_by_side(open_studio, server):
    server.delay = 0.02
    services = open_studio("llava")
    give_picture(services)
    states = list(services.chat.ask(ADA, "What is it?", threading.Event()))
    partly = [state.turns[-1] for state in states if not state.turns[-1].left.answer_id]
    assert any(turn.left.text and turn.right.text and turn.right.text != SAID for turn in partly)
    last = states[-1].turns[-1]
    assert last.left.text == "baseline says: What is it? #0" and last.right.text == SAID
    assert last.left.voice_title == "Baseline" and last.right.voice_title == "Llava"
    notices = [voice.notice for voice in services.host.voices(ADA)]
    assert notices == ["Scripted, on this machine", f"on {identity_of(server, 'llava').revision}"]
    assert services.store.answer(last.left.answer_id).model.name == "scripted"
    assert services.store.answer(last.right.answer_id).model == identity_of(server, "llava")


def test_each_column_goes_on_with_its_own_history(open_studio, server):
    services = open_studio("llava", "aligned", local=False)
    give_picture(services)
    ask(services, "One?"), ask(services, "Two?")
    bodies = {body["model"]: body["messages"] for _, body in server.requests[-2:]}
    assert [bodies[name][1]["content"] for name in ("llava", "aligned")] == [SAID, "A cat and a blue cup."]
    assert all(len(messages) == 3 and messages[2]["content"] == "Two?" for messages in bodies.values())
    *_, again = services.chat.regenerate(ADA, threading.Event())
    assert len(again.turns) == 2 and again.turns[-1].left.text == SAID


def test_the_limit_and_a_cut_are_told_in_the_column_and_kept_as_unfinished(open_studio):
    services = open_studio("length", "no-reason", local=False)
    give_picture(services)
    turn = ask(services).turns[-1]
    assert "limit of 256 tokens" in turn.left.note and "without saying why" in turn.right.note
    for reply in (turn.left, turn.right):
        assert not reply.finished and not services.store.answer(reply.answer_id).finished
    assert services.chat.open(ADA).turns[-1].left.note == turn.left.note, "a reload tells it too"


# ---- one side fails


def test_a_server_that_fails_takes_nothing_from_the_other_column(open_studio, server):
    services = open_studio("busy")
    name = give_picture(services)
    state = ask(services)
    assert state.turns[-1].left.answer_id and not state.turns[-1].right.answer_id
    assert state.turns[-1].right.problem[0].startswith("The server of 'Busy'")
    assert "17 seconds" in state.turns[-1].right.problem[2]
    assert services.chat.open(ADA).turns == state.turns
    with pytest.raises(InvalidData, match="no two answers"):
        services.chat.vote(ADA, "left")
    # The next question of that column brings the picture of the turn that it could not answer.
    ask(services, "And now?")
    messages = server.requests[-1][1]["messages"]
    assert len(messages) == 1 and messages[0]["content"][0]["type"] == "image_url"
    [left] = services.host._model.calls[-1]
    assert left.prompt.images == () and left.prompt.all_images == (name,)


def test_where_nobody_answers_the_question_is_given_back(open_studio):
    services = open_studio("broken", "unknown", local=False)
    give_picture(services)
    with pytest.raises(GenerationFailed, match="CUDA out of memory"):
        ask(services)
    assert services.chat.open(ADA).turns == () and services.chat.open(ADA).pending_images


def test_a_model_that_cannot_be_loaded_here_takes_nothing_from_the_server(open_studio, monkeypatch):
    services = open_studio("llava")
    give_picture(services)
    services.host._model = None
    error = ModelUnavailable("It does not fit.", "It is too large.", "Take a smaller one.")
    load_instead(monkeypatch, lambda entry: (_ for _ in ()).throw(error))
    assert services.chat.waits_for_loading(ADA)
    turn = ask(services).turns[-1]
    assert turn.left.problem == ("It does not fit.", "It is too large.", "Take a smaller one.")
    assert turn.right.text == SAID


# ---- limits


def test_a_silent_server_blocks_nobody_who_asks_the_model_here(open_studio, server):
    services = open_studio("silent")
    waiting = Actor("b" * 32)
    for actor in (ADA, waiting):
        give_picture(services, actor)
    stop = threading.Event()
    services.chat.choose(ADA, "", "", Sampling())
    silent = threading.Thread(target=lambda: list(services.chat.ask(waiting, "Hello?", stop)))
    silent.start()
    begun = time.monotonic()
    assert ask(services).turns[-1].left.finished
    assert time.monotonic() - begun < 2 and silent.is_alive()
    stop.set()
    silent.join(5)
    assert not silent.is_alive()
    left, right = (getattr(services.chat.open(waiting).turns[-1], side) for side in ("left", "right"))
    assert left.answer_id and right.answer_id and not right.finished


def test_stopping_ends_both_columns_and_the_stream_at_the_server(open_studio, server):
    services = open_studio("endless")
    services.host._model.delay = 0.3
    give_picture(services)
    stop = threading.Event()
    stream = services.chat.ask(ADA, "A long story please", stop)
    next(stream), next(stream)
    services.host._model.delay = 0
    stop.set()
    *_, last = stream
    assert last.turns[-1].right.text and not last.turns[-1].right.finished
    ends = time.monotonic() + 5
    while not server.abandoned and time.monotonic() < ends:
        time.sleep(0.02)
    assert server.abandoned == 1


# ---- what follows from an answer


def corrected_pair(services, server, model="llava"):
    services.corrections.set_terms(ADA, Terms("cc-by-4.0", True, "Ada"))
    answer_id = ask(services).turns[-1].right.answer_id
    start = SAID.index("red")
    services.corrections.save(ADA, answer_id, SAID, [Edit(start, start + 3, "blue", "attribute")])
    [pair] = services.store.all_pairs()
    return pair


def test_a_pair_and_the_statistics_name_the_model_and_its_server(open_studio, server):
    services = open_studio("llava")
    give_picture(services)
    pair = corrected_pair(services, server)
    name = str(identity_of(server, "llava"))
    assert str(pair.provenance.model) == name and pair.rejected == SAID
    assert [one.name for one in services.reviewing.statistics(local_actor()).models] == [name]
    assert PreferencePair.from_row(pair.to_row()).provenance.model == identity_of(server, "llava")


def test_hints_say_why_there_are_none(open_studio):
    services = open_studio("llava", "aligned", local=False)
    give_picture(services)
    answer_id = ask(services).turns[-1].left.answer_id
    assert services.hints.hints(ADA, answer_id) == []
    assert "probability of each token" in services.hints.why_none(ADA, answer_id)
    assert "no model is here" in services.hints.why_none(ADA, answer_id)
    with pytest.raises(NotFound):
        services.hints.why_none(Actor("c" * 32), answer_id)


def test_hints_come_from_the_model_here_where_there_is_one(open_studio):
    services = open_studio("llava")
    give_picture(services)
    turn = ask(services).turns[-1]
    assert services.hints.why_none(ADA, turn.right.answer_id) == ""
    services.hints.hints(ADA, turn.right.answer_id)
    assert services.host._model.reads and all(reader.voice is None for reader in services.host._model.reads[0])
    services.host._model = None
    assert services.hints.why_none(ADA, turn.left.answer_id) == "", "what was said here is read here when it is loaded"


def test_an_evaluation_says_why_a_server_cannot_take_part(tmp_path, server):
    services = build_services(Settings(tmp_path / "data", remotes=voices_of(server, "llava")))
    voice = services.host.voices(ADA)[-1]
    with pytest.raises(InvalidData, match="answers on 127") as told:
        services.evaluation.start(local_actor(), [voice.id], 20)
    assert "a server gives none" in told.value.why


def test_training_without_a_model_here_says_what_it_needs(open_studio, server):
    services = open_studio("llava", "aligned", local=False)
    with pytest.raises(ModelUnavailable, match="--model"):
        services.training.check(local_actor(), RECIPES["demo"])
    assert not services.evaluation.can_evaluate() and not services.training.can_add_oracle_pairs()


def test_the_check_warns_of_answers_that_the_base_never_gave(tmp_path):
    path = picture_path(tmp_path)
    remote = Provenance(model=ModelIdentity("gpt-4o-2024-11-20", "api.openai.com"))
    pair = PreferencePair(
        "1", Prompt("What?", (path.name,)), "A cup.", "A cat.", (Edit(2, 5, "cup", "object"),), "corrected", remote
    )
    own = replace(pair, id="2", provenance=Provenance(model=ModelIdentity("demo", "0" * 64)))
    unknown = replace(pair, id="3", provenance=Provenance())
    entry, config = find_entry("demo"), RECIPES["demo"]
    found = check_run([pair, own, unknown], config, entry, tmp_path.joinpath).warnings
    assert any("1 of 3 pairs" in one and "gpt-4o-2024-11-20@api.openai.com" in one for one in found)
    assert not any("off-policy" in one for one in check_run([own, unknown], config, entry, tmp_path.joinpath).warnings)


def test_a_queue_is_answered_by_a_server(open_studio, server):
    services = open_studio("llava", "drips", local=False)
    server.delay = 0.03
    me, name = local_actor(), give_picture(services)
    services.queue.add(me, [NewTask(Prompt(f"Question {number}?", (name,))) for number in range(6)])
    states = list(services.answering.write(me, sampling=Sampling(temperature=1.0, seed=5), batch_size=4))
    assert [(state.done, state.written) for state in states] == [(0, 0), (4, 4), (6, 6)]
    answers = [services.store.answer(task.answer_id) for task in services.queue.tasks(me)]
    assert {answer.text for answer in answers} == {SAID}
    assert {answer.model for answer in answers} == {identity_of(server, "llava")}
    assert server.most_at_once == 4 and len(server.requests) == 6


def test_tasks_that_a_server_cannot_answer_are_told_and_left_waiting(open_studio, server):
    services = open_studio("cut", "llava", local=False)
    me, name = local_actor(), give_picture(services)
    services.queue.add(me, [NewTask(Prompt("What?", (name,))), NewTask(Prompt("Where?", (name,)))])
    *_, state = services.answering.write(me)
    assert state.written == 0 and len(state.failures) == 2 and "cut off" in str(state.failures[0].error)
    assert len(server.requests) == 2, "each is paid for once"
    second = services.host.voices(me)[1].id
    *_, state = services.answering.write(me, second)
    assert state.written == 2


def test_corrected_questions_are_asked_again_of_a_server(open_studio, server, monkeypatch):
    services = open_studio("llava", "aligned")
    give_picture(services)
    services.chat.choose(ADA, "", identity_of(server, "llava").base, Sampling())
    pair = corrected_pair(services, server)

    class Folder:
        image_path = staticmethod(services.chat.shelf.path)

        def read_rows(self):
            return [pair.to_row()]

    monkeypatch.setattr(services.training, "folder", lambda actor, run_id: Folder())
    *_, (results, total) = services.training.reask(ADA, "run", voice=identity_of(server, "aligned").base)
    assert total == 1 and results[0].new_answer == "A cat and a blue cup."
    assert [one.verdict for one in results[0].verdicts] == ["mended"]


def test_a_server_that_is_no_longer_named_leaves_the_conversation_open(open_studio, tmp_path, server):
    services = open_studio("llava", "aligned", local=False)
    give_picture(services)
    ask(services)
    reopened = build_services(Settings(tmp_path / "data", model=NO_MODEL, remotes=voices_of(server, "llava")))
    state = reopened.chat.open(ADA)
    assert state.left == state.right == identity_of(server, "llava").base and len(state.turns) == 1
