"""Many who ask at once: the line in front of the model, what limits refuse, and two tabs of one visitor."""

import threading
import time
from dataclasses import replace

import pytest

from rlhfv.corrections.conversation import Sampling
from rlhfv.errors import InvalidData
from rlhfv.services import Actor
from rlhfv.services.chat import MAX_PICTURES, MAX_QUESTION
from rlhfv.services.limits import Limits, TooMany
from rlhfv.services.line import AT_ONCE, Line, Place

STRANGER = frozenset({"chat", "correct", "train"})


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


# ---- the line


def test_the_first_are_let_through_and_the_others_are_told_their_place():
    clock, never = Clock(), threading.Event()
    line = Line(clock)
    first = [line.join() for _ in range(AT_ONCE)]
    for each in first:
        assert list(line.wait(each.__enter__(), never)) == []
    with line.join() as third, line.join() as fourth:
        assert next(line.wait(third, never)) == Place(AT_ONCE + 1, 0), "nobody knows yet how long an answer takes"
        clock.now += 4
        first[0].__exit__(None, None, None)
        assert list(line.wait(third, never)) == []
        assert next(line.wait(fourth, never)) == Place(AT_ONCE + 1, 8)
        clock.now += 4
        first[1].__exit__(None, None, None)
        assert list(line.wait(fourth, never)) == []


def test_the_estimate_is_the_mean_time_of_those_before():
    clock, never = Clock(), threading.Event()
    line = Line(clock)
    for _ in range(30):
        with line.join():
            clock.now += 3
    held = [line.join() for _ in range(12)]
    tickets = [each.__enter__() for each in held]
    assert next(line.wait(tickets[4], never)) == Place(5, 10), "coarse above ten seconds"
    assert next(line.wait(tickets[2], never)) == Place(3, 6)
    for each in held:
        each.__exit__(None, None, None)
    assert not line._answered and not line._waiting


def test_who_stops_leaves_the_line_and_the_others_move_up():
    never = threading.Event()
    line = Line(Clock())
    with line.join(), line.join():
        leaving, staying = line.join(), line.join()
        left, stayed = leaving.__enter__(), staying.__enter__()
        waiting = line.wait(stayed, never)
        assert next(waiting).number == 4
        stop = threading.Event()
        assert next(line.wait(left, stop)).number == 3
        stop.set()
        assert list(line.wait(left, stop)) == []
        leaving.__exit__(None, None, None)
        assert next(waiting).number == 3
        staying.__exit__(None, None, None)


def test_everybody_has_a_turn_in_the_order_of_coming():
    line, order, guard = Line(), [], threading.Lock()
    together = []

    def visit(number: int) -> None:
        with line.join() as ticket:
            arrived.set()
            for _ in line.wait(ticket, threading.Event()):
                pass
            with guard:
                order.append(number)
                together.append(len(line._answered))
            time.sleep(0.01)

    threads = []
    for number in range(12):
        arrived = threading.Event()
        threads.append(threading.Thread(target=visit, args=(number,)))
        threads[-1].start()
        arrived.wait(5)
    for thread in threads:
        thread.join(10)
    assert max(together) <= AT_ONCE and len(order) == 12
    assert all(abs(place - number) < AT_ONCE for place, number in enumerate(order)), order


# ---- the chat


@pytest.fixture
def chat(services, ada, picture):
    services.host._model.delay = 0.02
    services.chat.set_images(ada, (services.chat.add_image(ada, picture).name,))
    return services.chat


def visitors(chat, picture, count):
    found = [Actor(f"{number:032x}", rights=STRANGER) for number in range(count)]
    for who in found:
        chat.set_images(who, (chat.add_image(who, picture).name,))
    return found


def test_who_waits_is_told_their_place_and_then_answered(chat, picture):
    everybody, seen = visitors(chat, picture, 8), {}

    def visit(who):
        seen[who.visitor] = list(chat.ask(who, "What is it?", threading.Event()))

    threads = [threading.Thread(target=visit, args=(who,)) for who in everybody]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    places = [{state.place for state in states if state.place} for states in seen.values()]
    assert sum(bool(each) for each in places) >= 8 - AT_ONCE - 1, "all but the first waited and were told"
    assert max(max(each, default=0) for each in places) <= 8
    assert all(states[-1].turns[-1].left.answer_id and not states[-1].place for states in seen.values())
    assert not chat.line._answered and not chat.line._waiting


def test_who_stops_in_the_line_is_out_of_it_at_once(chat, ada, picture):
    with chat.line.join(), chat.line.join():
        stop = threading.Event()
        states = chat.ask(ada, "What is it?", stop)
        assert next(states).place == 3
        stop.set()
        begun = time.monotonic()
        list(states)
        assert time.monotonic() - begun < 2
    assert len(chat.line._waiting) == 0


def test_limits_refuse_before_anything_changes(chat, ada, picture):
    [who] = visitors(chat, picture, 1)
    chat.limits = Limits(2, 0)
    for _ in range(2):
        list(chat.ask(who, "What is it?", threading.Event()))
    before = chat.open(who)
    with pytest.raises(TooMany, match="Wait 30 seconds"):
        list(chat.ask(who, "And now?", threading.Event()))
    with pytest.raises(TooMany):
        list(chat.regenerate(who, threading.Event()))
    assert chat.open(who) == before
    list(chat.ask(ada, "What is it?", threading.Event()))  # who manages the studio is not limited


def test_an_empty_question_costs_nothing(chat, picture):
    [who] = visitors(chat, picture, 1)
    chat.limits = Limits(1, 0)
    for _ in range(5):
        with pytest.raises(InvalidData):
            list(chat.ask(who, " ", threading.Event()))
    list(chat.ask(who, "What is it?", threading.Event()))


def test_pictures_are_limited_too(chat, picture):
    [who] = visitors(chat, picture, 1)
    chat.limits = Limits(1, 0)
    for _ in range(2):
        chat.add_image(who, picture)
    with pytest.raises(TooMany, match="pictures"):
        chat.add_image(who, picture)


def test_a_visitor_cannot_fill_the_line_from_many_tabs(chat, picture):
    [who] = visitors(chat, picture, 1)
    chat.limits = Limits(1000, 0)
    with chat.line.join(), chat.line.join():
        stop, threads = threading.Event(), []
        for _ in range(2):
            threads.append(threading.Thread(target=lambda: list(chat.ask(who, "What is it?", stop))))
            threads[-1].start()
        deadline = time.monotonic() + 5
        while sum(chat.limits._held.values()) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(TooMany, match="2 of your questions"):
            list(chat.ask(who, "What is it?", threading.Event()))
        stop.set()
    for thread in threads:
        thread.join(10)
    assert not chat.limits._held


def test_a_long_question_and_too_many_pictures_are_told_in_three_parts(chat, ada, picture):
    with pytest.raises(InvalidData) as long:
        list(chat.ask(ada, "x" * (MAX_QUESTION + 1), threading.Event()))
    name = chat.add_image(ada, picture).name
    with pytest.raises(InvalidData) as many:
        chat.set_images(ada, (name,) * (MAX_PICTURES + 1))
    for error in (long.value, many.value):
        assert all((error.what, error.why, error.fix))


def test_what_two_tabs_do_at_the_same_moment_is_both_kept(chat, ada, picture, monkeypatch):
    """One chooses how to decode while the other adds a picture: neither undoes the other."""
    name, read = chat.add_image(ada, picture).name, chat.store.conversation
    chat.set_images(ada, ())

    def slowly(visitor):
        document = read(visitor)
        time.sleep(0.05)
        return document

    monkeypatch.setattr(chat.store, "conversation", slowly)
    state = chat.open(ada)
    warm = replace(Sampling(), seed=7)
    tabs = [
        threading.Thread(target=chat.choose, args=(ada, state.left, state.right, warm)),
        threading.Thread(target=chat.set_images, args=(ada, (name,))),
    ]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join(10)
    kept = chat.open(ada)
    assert kept.sampling == warm and kept.pending_images == (name,)
