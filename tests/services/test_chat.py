import io
import itertools
import threading
from dataclasses import replace

import pytest
from PIL import Image

from rlhfv.corrections.conversation import Sampling
from rlhfv.errors import Forbidden, InvalidData, NotFound
from rlhfv.services import Actor, build_services
from rlhfv.settings import Settings
from tests.services.fakes import ScriptedModel


def ask(services, actor, question, stop=None):
    *_, last = services.chat.ask(actor, question, stop or threading.Event())
    return last


@pytest.fixture
def chatting(services, ada, picture):
    """Ada with a picture in her conversation."""
    image = services.chat.add_image(ada, picture)
    services.chat.set_images(ada, (image.name,))
    return services


def test_both_columns_answer_and_the_answers_are_stored(chatting, ada):
    state = ask(chatting, ada, "What is it?")
    assert state.turns[0].left.text == "baseline says: What is it? #0"
    assert not state.streaming
    answer = chatting.store.answer(state.turns[0].left.answer_id)
    assert answer.text == state.turns[0].left.text
    assert answer.prompt.images == state.images
    assert answer.visitor == ada.visitor


def test_each_column_keeps_its_own_history(chatting, ada):
    ask(chatting, ada, "One?")
    ask(chatting, ada, "Two?")
    left, right = chatting.host._model.calls[-1]
    assert [turn.question for turn in left.prompt.history] == ["One?"]
    assert left.prompt.images == ()
    assert left.prompt.all_images == right.prompt.all_images != ()


def test_states_stream_and_grow(chatting, ada):
    texts = [state.turns[-1].left.text for state in chatting.chat.ask(ada, "Stream it", threading.Event())]
    assert texts[0] == ""
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert len(set(texts)) > 3


def test_a_conversation_outlives_the_app(chatting, ada, tmp_path):
    asked = ask(chatting, ada, "Still here?")
    reopened = build_services(Settings(data_dir=tmp_path, model="scripted")).chat.open(ada)
    assert reopened.turns == asked.turns
    assert reopened.conversation_id == asked.conversation_id


def test_nobody_sees_the_conversation_of_another(chatting, ada, bob):
    asked = ask(chatting, ada, "Secret?")
    assert chatting.chat.open(bob).turns == ()
    with pytest.raises(NotFound):
        chatting.chat.faithful(bob, asked.turns[0].left.answer_id)


def test_bad_questions_are_refused_and_lose_nothing(chatting, ada, bob):
    before = ask(chatting, ada, "First?")
    for question in ("", "  \n ", "x" * 5000):
        with pytest.raises(InvalidData):
            ask(chatting, ada, question)
    assert chatting.chat.open(ada).turns == before.turns
    with pytest.raises(InvalidData, match="no picture"):
        ask(chatting, bob, "Without a picture?")


def test_stopping_keeps_what_was_said(chatting, ada):
    stop = threading.Event()
    stream = chatting.chat.ask(ada, "A long story please", stop)
    next(stream), next(stream), next(stream)
    stop.set()
    *_, last = stream
    reply = last.turns[-1].left
    assert reply.text and not reply.finished
    assert chatting.store.answer(reply.answer_id).finished is False


def test_regenerate_replaces_the_last_turn_and_keeps_its_picture(chatting, ada):
    ask(chatting, ada, "One?")
    first = ask(chatting, ada, "Two?")
    *_, again = chatting.chat.regenerate(ada, threading.Event())
    assert [turn.question for turn in again.turns] == ["One?", "Two?"]
    assert again.turns[-1].left.answer_id != first.turns[-1].left.answer_id
    *_, edited = chatting.chat.regenerate(ada, threading.Event(), "Three?")
    assert [turn.question for turn in edited.turns] == ["One?", "Three?"]
    assert edited.images == first.images


def test_a_new_picture_joins_with_the_next_question(chatting, ada, picture):
    ask(chatting, ada, "One?")
    other = another_picture(chatting, ada)
    state = chatting.chat.set_images(ada, (other,))
    assert len(state.turns) == 1 and state.pending_images == (other,)
    state = ask(chatting, ada, "And this?")
    assert state.turns[1].images == (other,) and len(state.images) == 2


def test_swap_exchanges_columns_with_their_answers(chatting, ada):
    state = ask(chatting, ada, "One?")
    swapped = chatting.chat.swap(ada)
    assert swapped.turns[0].left == state.turns[0].right
    assert swapped.left == state.right


def test_votes(chatting, ada):
    ask(chatting, ada, "Which?")
    assert "same" in chatting.chat.vote(ada, "left")
    assert chatting.store.find_pairs().total == 0
    chatting.host._model.answer_both = _two_voices
    ask(chatting, ada, "Which now?")
    # The histories are equal, as the first answers are: the prompts match, so a preference pair is right.
    chatting.chat.vote(ada, "right")
    [pair] = chatting.store.find_pairs().pairs
    assert (pair.outcome, pair.chosen, pair.rejected, pair.edits) == ("preferred", "right", "left", ())
    ask(chatting, ada, "After the voices parted?")
    assert "without a pair" in chatting.chat.vote(ada, "left")
    assert chatting.chat.open(ada).turns[-1].left.judged == "preferred"
    with pytest.raises(InvalidData):
        chatting.chat.vote(ada, "neither")


def _two_voices(rows, sampling, image_path, stop):
    from rlhfv.models.local import Generated

    yield ("l", "r")
    return (Generated("left", True, 1, ("baseline", "x"), 0), Generated("right", True, 1, ("baseline", "x"), 1))


def another_picture(services, actor) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(buffer, "PNG")
    return services.chat.add_image(actor, buffer.getvalue()).name


def test_what_is_chosen_while_the_models_answer_stays(chatting, ada):
    stream = chatting.chat.ask(ada, "A long story please", threading.Event())
    next(stream), next(stream)
    name = another_picture(chatting, ada)
    chatting.chat.set_images(ada, (name,))
    chatting.chat.choose(ada, "", "", Sampling(temperature=0.5))
    with pytest.raises(InvalidData, match="still answering"):
        chatting.chat.swap(ada)
    *_, last = stream
    assert last == chatting.chat.open(ada)
    assert last.pending_images == (name,) and last.sampling.temperature == 0.5 and len(last.turns) == 1
    chatting.chat.swap(ada)


def test_a_turn_does_not_end_in_a_conversation_that_was_begun_meanwhile(chatting, ada):
    stream = chatting.chat.ask(ada, "A long story please", threading.Event())
    next(stream), next(stream)
    fresh = chatting.chat.new_conversation(ada)
    *_, last = stream
    assert last == fresh == chatting.chat.open(ada)
    assert len(chatting.store.uncorrected(ada.visitor)) == 2, "the answers wait to be judged all the same"


def test_a_model_of_one_picture_says_so_before_anything_changes(chatting, ada):
    chatting.host._model.takes_several_images = False
    before = ask(chatting, ada, "One?")
    assert chatting.chat.set_images(ada, before.images).pending_images == (), "it is in the conversation already"
    chatting.chat.set_images(ada, (another_picture(chatting, ada),))
    with pytest.raises(InvalidData, match="one picture a conversation"):
        ask(chatting, ada, "And this?")
    assert chatting.chat.open(ada).turns == before.turns
    assert not chatting.chat.studio(ada).several_pictures
    chatting.chat.new_conversation(ada, keep_image=True)
    assert len(ask(chatting, ada, "And this?").turns) == 1


def test_unknown_voices_and_wild_sampling_are_refused(chatting, ada):
    with pytest.raises(NotFound):
        chatting.chat.choose(ada, "", "forged@123", Sampling())
    with pytest.raises(InvalidData, match="temperature"):
        chatting.chat.choose(ada, "", "", Sampling(temperature=9))
    with pytest.raises(InvalidData):
        chatting.chat.choose(ada, "", "", replace(Sampling(), max_new_tokens=10**6))


def test_rights_are_checked(services, picture):
    nobody = Actor("c" * 32, rights=frozenset())
    with pytest.raises(Forbidden):
        services.chat.open(nobody)
    with pytest.raises(Forbidden):
        services.chat.add_image(nobody, picture)
    with pytest.raises(Forbidden):
        services.training.runs(nobody)


def test_twenty_visitors_with_two_tabs_each_never_mix(services, picture):
    services.host._model = ScriptedModel(delay=0.001)
    visitors = [Actor(f"{number:032x}") for number in range(20)]
    for visitor in visitors:
        services.chat.set_images(visitor, (services.chat.add_image(visitor, picture).name,))
    failures = []

    def tab(visitor, name):
        try:
            for number in range(3):
                ask(services, visitor, f"{visitor.visitor[-4:]} {name} {number}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=tab, args=(visitor, name)) for visitor in visitors for name in "AB"]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert not failures and not any(thread.is_alive() for thread in threads)
    for visitor in visitors:
        turns = services.chat.open(visitor).turns
        assert len(turns) == 6
        for number, turn in enumerate(turns):
            assert turn.question.startswith(visitor.visitor[-4:])
            assert turn.left.text == f"baseline says: {turn.question} #{number}"
    assert len(services.chat._locks) == 0, "locks of visitors who are gone must not pile up"


def test_what_is_refused_does_not_count_and_leaves_the_conversation(services, ada, picture):
    from rlhfv.services.limits import Limits, TooMany

    who = Actor(ada.visitor, rights=frozenset({"chat"}))
    services.chat.limits = Limits(1, 0)
    for _ in range(5):
        with pytest.raises(InvalidData, match="no picture"):
            ask(services, who, "What?")
    image = services.chat.add_image(who, picture).name
    services.chat.set_images(who, (image,))
    assert ask(services, who, "What?").turns[-1].left.answer_id, "nothing was counted"
    with pytest.raises(TooMany):
        list(services.chat.ask(who, "And now?", threading.Event(), (image,)))
    services.chat.limits = Limits()
    for question, pictures in (("  ", (image,)), ("x" * 5000, (image,)), ("Anew?", ())):
        with pytest.raises(InvalidData):
            list(services.chat.ask(who, question, threading.Event(), pictures))
    assert [turn.question for turn in services.chat.open(who).turns] == ["What?"]
    *_, state = services.chat.ask(who, "Anew?", threading.Event(), (image,))
    assert [turn.question for turn in state.turns] == ["Anew?"] and services.chat.open(who) == state
