"""Rates and places on a shared studio: what is let through, what is refused, and that memory stays small."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv.services.actor import RIGHTS, Actor
from rlhfv.services.limits import AT_A_TIME, DEEDS, NETWORK, Limits, Rate, TooMany

STRANGER = frozenset({"chat", "correct", "train"})


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def visitor(name: str, place: str = "") -> Actor:
    return Actor(name, rights=STRANGER, place=place)


def allowed(limits: Limits, actor: Actor, deed: str = "answer") -> bool:
    try:
        limits.take(actor, deed)
    except TooMany:
        return False
    return True


# ---- one rate

pauses = st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=120)


@given(count=st.integers(1, 20), seconds=st.floats(0.5, 120), pauses=pauses)
@settings(max_examples=150, deadline=None)
def test_no_window_lets_more_through_than_burst_and_refill(count, seconds, pauses):
    clock = Clock()
    rate, taken = Rate(count, seconds, clock), []
    for pause in pauses:
        clock.now += pause
        if rate.wait("a") == 0:
            rate.take("a")
            taken.append(clock.now)
    for first, begun in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= count + (taken[last] - begun) * count / seconds + 1e-6


@given(count=st.integers(1, 20), seconds=st.floats(0.5, 120), pauses=pauses)
@settings(max_examples=150, deadline=None)
def test_the_time_to_wait_is_true_and_no_longer_than_needed(count, seconds, pauses):
    clock = Clock()
    rate = Rate(count, seconds, clock)
    for pause in pauses:
        clock.now += pause
        wait = rate.wait("a")
        if wait == 0:
            rate.take("a")
            continue
        assert wait <= seconds + 1e-6
        clock.now += wait * 0.999
        assert rate.wait("a") > 0, "it would have been allowed before"
        clock.now += wait * 0.001 + 1e-6
        assert rate.wait("a") == 0, "waiting as long as was said is enough"


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 5)), max_size=200))
@settings(max_examples=60, deadline=None)
def test_keys_do_not_touch_each_other_and_memory_is_bounded(calls):
    clock = Clock()
    together, apart = Rate(3, 10, clock), {key: Rate(3, 10, clock) for key in "abcdefgh"}
    small = Rate(3, 10, clock, most_keys=3)
    for key, pause in calls:
        clock.now += pause
        assert together.wait(key) == apart[key].wait(key)
        if together.wait(key) == 0:
            together.take(key)
            apart[key].take(key)
        small.take(key)
        assert len(small) <= 3


def test_a_whole_allowance_takes_no_memory_once_there_is_need():
    clock = Clock()
    rate = Rate(2, 10, clock, most_keys=100)
    for number in range(100):
        rate.take(str(number))
    clock.now += 60
    rate.take("new")
    assert len(rate) == 1


def test_less_than_one_a_minute_is_one_in_more_minutes():
    clock = Clock()
    rate = Rate(0.2, 60, clock)
    rate.take("a")
    assert rate.wait("a") == pytest.approx(300)


# ---- visitor, network, everybody


def test_without_numbers_nobody_is_limited():
    limits, ada = Limits(), visitor("a", "home")
    assert not limits
    assert all(allowed(limits, ada) for _ in range(1000))
    with limits.hold(ada), limits.hold(ada), limits.hold(ada), limits.hold(ada):
        pass


def test_a_visitor_is_told_how_long_to_wait_and_others_are_not_touched():
    clock = Clock()
    limits = Limits(6, 0, clock)
    assert [allowed(limits, visitor("a")) for _ in range(8)] == [True] * 6 + [False] * 2
    with pytest.raises(TooMany) as refused:
        limits.take(visitor("a"), "answer")
    assert refused.value.seconds == pytest.approx(10)
    assert "by you" in refused.value.what and "6 times in a minute" in refused.value.why
    assert refused.value.fix == "Wait 10 seconds and try again; what you typed is kept."
    assert allowed(limits, visitor("b")), "somebody else's allowance is their own"
    clock.now += 10.01
    assert allowed(limits, visitor("a")) and not allowed(limits, visitor("a"))


def test_whoever_drops_the_cookie_is_known_by_the_network():
    limits = Limits(5, 0, Clock())
    got = [allowed(limits, visitor(f"fresh {number}", "home")) for number in range(5 * NETWORK + 3)]
    assert got == [True] * 5 * NETWORK + [False] * 3
    assert allowed(limits, visitor("x", "elsewhere"))
    with pytest.raises(TooMany, match="from your network"):
        limits.take(visitor("y", "home"), "answer")


def test_everybody_together_has_a_limit_that_one_refused_does_not_use_up():
    clock = Clock()
    limits = Limits(2, 10, clock)
    for _ in range(50):
        allowed(limits, visitor("greedy"))
    others = [allowed(limits, visitor(f"v{number}")) for number in range(12)]
    assert sum(others) == 8, "the greedy visitor took two of ten"
    with pytest.raises(TooMany, match="all visitors together"):
        limits.take(visitor("late"), "answer")


def test_each_deed_has_its_own_allowance():
    limits = Limits(10, 0, Clock())
    for deed, (share, told) in DEEDS.items():
        count = max(1, int(share * 10))
        assert [allowed(limits, visitor("a"), deed) for _ in range(count + 1)] == [True] * count + [False], told


def test_who_manages_the_studio_is_not_limited():
    limits, owner = Limits(1, 1, Clock()), Actor("o", rights=RIGHTS, place="home")
    assert all(allowed(limits, owner) for _ in range(100))


@pytest.mark.parametrize(
    ("level", "make"),
    [
        ("visitor", lambda number: visitor("a", "home")),
        ("network", lambda number: visitor(f"a{number}", "home")),
        ("all", lambda number: visitor(f"a{number}", f"home {number}")),
    ],
)
def test_only_so_many_wait_at_a_time(level, make):
    limits, held = Limits(100, 1000, Clock()), []
    for number in range(AT_A_TIME[level]):
        held.append(limits.hold(make(number)))
        held[-1].__enter__()
    with pytest.raises(TooMany) as refused, limits.hold(make(-1)):
        pass
    assert str(AT_A_TIME[level]) in refused.value.what and "what you typed is kept" in refused.value.fix
    held.pop().__exit__(None, None, None)
    with limits.hold(make(-1)):
        pass
    for one in held:
        one.__exit__(None, None, None)
    assert not limits._held, "nothing is remembered of who has gone"


# ---- runs


def test_on_a_shared_machine_a_visitor_has_two_open_runs_and_few_oracle_pairs(services, monkeypatch):
    from types import SimpleNamespace

    from rlhfv.errors import InvalidData, RunFailed

    training, who = services.training, visitor("a")
    training.limits = Limits(100, 0)
    monkeypatch.setattr(training.host, "require_world", lambda: SimpleNamespace(questions=["?"]))
    with pytest.raises(InvalidData, match="up to 256 here"):
        next(training.add_oracle_pairs(who, 257))
    assert next(training.add_oracle_pairs(who, 256)) == (0, 256)
    assert next(training.add_oracle_pairs(Actor("o"), 5000)) == (0, 5000), "who manages the studio knows what they do"
    states = ["queued", "running", "done"]
    runs = [SimpleNamespace(config={"owner": who.public_id}, state=state) for state in states]
    monkeypatch.setattr(training.local, "list", lambda: runs)
    with pytest.raises(RunFailed, match="2 runs that are not done"):
        training._take_share(who)
    training._take_share(visitor("b"))
    runs.pop(0)
    training._take_share(who)
