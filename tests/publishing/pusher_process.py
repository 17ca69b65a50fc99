"""A process that changes a store at random and pushes it, until it is killed.

`python -m tests.publishing.pusher_process FOLDER ENDPOINT` reads lines "SEED POINT", starts a worker for each and
prints its process id. A worker kills itself at the point that is named, else it goes on until somebody else does.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from huggingface_hub.utils import _http

from rlhfv.corrections.published import LeaseLost, Published
from rlhfv.publishing.hub import Hub
from rlhfv.publishing.pusher import Pusher, _Work
from rlhfv.publishing.token import Token
from tests.publishing.conftest import REPO, Bench

LEASE_SECONDS = 1.0
PAIRS = 60
COLOURS = ("blue", "green", "pink", "teal", "white")


def change(bench: Bench, chance: random.Random) -> None:
    """Adds, edits or deletes a pair, or judges an answer."""
    number = chance.randrange(PAIRS)
    live = {pair.id for pair in bench.store.all_pairs()}
    if f"pair-{number}" in live and chance.random() < 0.4:
        bench.store.delete(f"pair-{number}", "Ann Lee")
    elif chance.random() < 0.1:
        bench.judge(f"j{chance.randrange(10**9)}", chance.choice(["faithful", "skipped"]))
    else:
        bench.add(number, colour=chance.choice(COLOURS))


def push(bench: Bench, token: str, endpoint: str) -> None:
    """One push; waits for a lease that a dead process has left."""
    hub = Hub(Token(token), endpoint)
    pusher = Pusher(bench.published, bench.shelf, bench.folder / "publishing", hub, LEASE_SECONDS, wait=quick)
    while True:
        try:
            pusher.push(REPO)
            return
        except LeaseLost:
            time.sleep(0.1)


def quick(seconds: float) -> None:
    time.sleep(min(seconds, 0.05))


def die_after(owner: type, name: str, chance: random.Random) -> None:
    """The process ends right after one of the next calls of the method."""
    act, left = getattr(owner, name), chance.randrange(1, 4)

    def last_act(*arguments, **options):
        nonlocal left
        result = act(*arguments, **options)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, last_act)


POINTS = {
    "placed": (Published, "freeze"),
    "built": (_Work, "_build"),
    "written down": (Published, "add_attempt"),
    "sent": (Hub, "commit"),
    "recorded": (Published, "record"),
}


def work(folder: Path, endpoint: str, seed: int, point: str) -> None:
    chance = random.Random(seed)
    if point in POINTS:
        die_after(*POINTS[point], chance)
    bench = Bench(folder)
    while True:
        for _ in range(chance.randrange(1, 4)):
            change(bench, chance)
        push(bench, os.environ["PUSHER_TOKEN"], endpoint)


def main(folder: str, endpoint: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _http.time = SimpleNamespace(sleep=quick)
    print("ready", flush=True)
    for line in sys.stdin:
        seed, _, point = line.strip().partition(" ")
        worker = os.fork()
        if not worker:
            try:
                work(Path(folder), endpoint, int(seed), point)
            finally:
                os._exit(1)
        print(worker, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
