"""How much one visitor, one network and everybody together may ask of a shared studio, and how many at a time.

Nothing of it is written to disk. On a machine of one person there are no limits.
"""

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rlhfv.errors import StudioError
from rlhfv.services.actor import Actor

DEEDS = {
    "answer": (1.0, "questions were asked"),
    "picture": (2.0, "pictures were added"),
    "correction": (3.0, "corrections were saved"),
    "judgement": (10.0, "answers were judged"),
    "change": (10.0, "corrections were changed or taken back"),
    "run": (0.4, "runs were started"),
    "upload": (3.0, "files were sent"),
}
"""How many of each a minute for one answer a minute, and how that is told."""
NETWORK = 4
"""Visitors' worth for one address: a class or an office shares one, and whoever drops the cookie keeps it."""
AT_A_TIME = {"visitor": 2, "network": 8, "all": 56}
"""Questions that may wait or be answered; the last is less than what the page's queue lets in at once."""
MOST_KEYS = 20_000


class TooMany(StudioError):
    """More was asked than a shared studio gives; it works again after `seconds`."""

    seconds = 0.0


class Rate:
    """At most `count` at once, and on average `count` in `seconds`, for each key.

    The generic cell rate algorithm (ITU-T I.371): of each key is known when its allowance will be whole again, and
    nothing where it is whole. Of more than `most_keys` the ones that were longest unused are forgotten.
    """

    def __init__(
        self, count: float, seconds: float, clock: Callable[[], float] = time.monotonic, most_keys: int = MOST_KEYS
    ):
        self.count, self.seconds = max(count, 1.0), seconds * max(count, 1.0) / count
        self._clock, self._most = clock, most_keys
        self._whole: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._whole)

    def wait(self, key: str, times: int = 1) -> float:
        """Seconds until so many more are allowed; 0 now. Nothing is taken."""
        now, each = self._clock(), self.seconds / self.count * min(times, self.count)
        left = max(self._whole.get(key, now), now) + each - now - self.seconds
        # What is left of a rounding is no time to wait for.
        return left if left > 1e-9 * max(1.0, self.seconds, abs(now)) else 0.0

    def take(self, key: str, times: int = 1) -> None:
        """Counts so many, allowed or not, at most the whole allowance."""
        now = self._clock()
        self._whole[key] = max(self._whole.pop(key, now), now) + self.seconds / self.count * min(times, self.count)
        if len(self._whole) > self._most:
            for known in [known for known, whole in self._whole.items() if whole <= now]:
                del self._whole[known]
            while len(self._whole) > self._most:
                self._whole.popitem(last=False)


class Limits:
    """`per_minute` answers for a visitor and `in_all` for everybody, and other deeds in proportion; 0 is no limit.

    Who manages the studio is not limited. A visitor is counted by cookie and by network (`Actor.place`), because a
    cookie can be thrown away.
    """

    def __init__(self, per_minute: int = 0, in_all: int = 0, clock: Callable[[], float] = time.monotonic):
        self.per_minute, self.in_all = per_minute, in_all
        self._rates: dict[str, list[tuple[str, Rate]]] = {}
        for deed, (share, _) in DEEDS.items():
            levels = [("visitor", share * per_minute), ("network", share * NETWORK * per_minute)]
            levels += [("all", share * in_all)]
            self._rates[deed] = [(level, Rate(count, 60.0, clock)) for level, count in levels if count]
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self.per_minute or self.in_all)

    def take(self, actor: Actor, deed: str, times: int = 1) -> None:
        """Counts one `deed` of `DEEDS`, or one that is worth several. Raises `TooMany`, and then counts nothing."""
        keys = self._keys(actor)
        if not keys:
            return
        with self._lock:
            waits = [
                (rate.wait(keys[level], times), level, rate) for level, rate in self._rates[deed] if level in keys
            ]
            longest = max(waits, key=lambda one: one[0], default=None)
            if longest is None or longest[0] == 0:
                for _, level, rate in waits:
                    rate.take(keys[level], times)
                return
        raise _too_many(deed, *longest)

    @contextmanager
    def hold(self, actor: Actor) -> Iterator[None]:
        """While a question of the actor waits or is answered. Raises `TooMany` where enough of them do already."""
        keys = list(self._keys(actor).items())
        with self._lock:
            for level, key in keys:
                if self._held[key] >= AT_A_TIME[level]:
                    raise _too_many_at_once(level, self._held[key])
            self._held.update(key for _, key in keys)
        try:
            yield
        finally:
            with self._lock:
                for _, key in keys:
                    self._held[key] -= 1
                    if self._held[key] <= 0:
                        del self._held[key]

    def _keys(self, actor: Actor) -> dict[str, str]:
        """What is counted under which key; nothing where nobody is limited."""
        if not self or "manage" in actor.rights:
            return {}
        keys = {"visitor": f"v {actor.visitor}", "network": f"n {actor.place}", "all": "all"}
        return {level: key for level, key in keys.items() if level != "network" or actor.place}


def _too_many(deed: str, seconds: float, level: str, rate: Rate) -> TooMany:
    whose = {
        "visitor": f"one visitor may {rate.count:.0f} times in {_time(rate.seconds)}",
        "network": f"one network may {rate.count:.0f} times in {_time(rate.seconds)}",
        "all": f"all visitors together may {rate.count:.0f} times in {_time(rate.seconds)}",
    }[level]
    from_where = {"visitor": "by you", "network": "from your network", "all": "by all visitors together"}[level]
    error = TooMany(
        f"Too many {DEEDS[deed][1]} {from_where} just now.",
        f"Many people share this studio, and {whose}.",
        f"Wait {_time(seconds)} and try again; what you typed is kept.",
    )
    error.seconds = seconds
    return error


def _too_many_at_once(level: str, count: int) -> TooMany:
    whose = {
        "visitor": f"{count} of your questions are waiting for an answer.",
        "network": f"{count} questions from your network are waiting for an answer.",
        "all": f"{count} people are waiting for an answer.",
    }[level]
    error = TooMany(
        whose,
        "Many people share this studio, and that is as many as may wait at a time.",
        "Wait until one is answered"
        + (", or try again in half a minute" if level != "visitor" else "")
        + "; what you typed is kept.",
    )
    error.seconds = 30.0 if level != "visitor" else 5.0
    return error


def _time(seconds: float) -> str:
    whole = max(1, math.ceil(seconds))
    if whole == 60:
        return "a minute"
    return f"{whole} second{'s' if whole > 1 else ''}" if whole < 120 else f"{math.ceil(whole / 60)} minutes"
