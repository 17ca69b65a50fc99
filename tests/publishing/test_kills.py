"""Pushes that are killed and disturbed at random: afterwards the Hub holds what the store holds, once."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.apps import ROOT
from tests.publishing import pusher_process
from tests.publishing.conftest import REPO
from tests.publishing.test_push import answers, remote_rows

FAULTS = [
    {"drop": "before"},
    {"drop": "during"},
    {"drop": "after"},
    {"drop": "reply"},
    {"status": 503},
    {"status": 429, "headers": {"Retry-After": "1"}},
    {"status": 412},
]
ROUTES = ["POST .*/commit/", "POST .*/preupload/", "GET /api/datasets/ann/pairs$", "PUT /lfs-storage/", "GET .*/tree/"]


@pytest.fixture
def start(hub, bench, tmp_path, ann, transport):
    """`start(seed, point)` starts a worker and gives its process id."""
    environment = hub.environment(None, tmp_path / "home", xet=transport == "xet") | {"PUSHER_TOKEN": ann.secret}
    command = [sys.executable, "-m", "tests.publishing.pusher_process", str(bench.folder), hub.endpoint]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as nursery:
        assert nursery.stdout.readline() == "ready\n"

        def start(seed: int, point: str) -> int:
            nursery.stdin.write(f"{seed} {point}\n")
            nursery.stdin.flush()
            return int(nursery.stdout.readline())

        yield start
        nursery.stdin.close()


def is_alive(worker: int) -> bool:
    try:
        os.kill(worker, 0)
    except ProcessLookupError:
        return False
    return True


def disturb(hub, chance: random.Random, round: int) -> str:
    """A fault, a foreign commit, or neither."""
    kind = chance.choice(["fault", "fault", "foreign", "calm"])
    if kind == "fault":
        fault = chance.choice(FAULTS)
        hub.fail(chance.choice(ROUTES), times=chance.randrange(1, 3), **fault)
        return str(fault.get("drop") or fault["status"])
    if kind == "foreign" and f"datasets/{REPO}" in hub.storage.repos:
        hub.commit_as("bob", REPO, {"notes.txt": f"Round {round}".encode()})
        return "foreign commit"
    return "calm"


def rounds(hub, bench, start, tmp_path, ann, count: int) -> None:
    chance = random.Random(count)
    died, disturbed = Counter(), Counter()
    for round in range(count):
        point = chance.choice([*pusher_process.POINTS, "any moment", "any moment"])
        disturbed[disturb(hub, chance, round)] += 1
        worker = start(chance.randrange(10**6), point)
        until = time.monotonic() + (chance.uniform(0.2, 2.5) if point == "any moment" else 30)
        while is_alive(worker) and time.monotonic() < until:
            time.sleep(0.02)
        if is_alive(worker):
            os.kill(worker, signal.SIGKILL)
            point = "any moment"
        died[point] += 1
        while is_alive(worker):
            time.sleep(0.01)
    hub.heal()
    assert len(bench.published.attempts(REPO)) < 40
    pusher_process.push(bench, ann.secret, hub.endpoint)

    here = {pair.id: pair.chosen for pair in bench.store.all_pairs()}
    assert answers(remote_rows(hub, tmp_path)) == here
    judged = {one.id for one in bench.store.judgements() if one.outcome in ("faithful", "skipped")}
    assert set(remote_rows(hub, tmp_path, part="judgements")) == judged
    assert bench.published.waiting(REPO).total == 0 and bench.published.attempts(REPO) == []
    assert not (bench.folder / "publishing" / "ann--pairs").exists()
    assert hub.leaks == []
    commits = Counter(commit.author for commit in hub.commits(REPO))
    print(
        f"\n{count} rounds, killed {dict(died)}, disturbed by {dict(disturbed)}: {len(here)} pairs and {len(judged)} "
        f"judgements on the Hub as here, none twice, none waiting; {commits['ann'] - 1} commits of ours, "
        f"{commits['bob']} of somebody else"
    )


@pytest.mark.parametrize("transport", ["xet"], indirect=True)
def test_a_few_rounds(hub, bench, start, tmp_path, ann):
    rounds(hub, bench, start, tmp_path, ann, 3)


@pytest.mark.slow
def test_thirty_rounds(hub, bench, start, tmp_path, ann):
    rounds(hub, bench, start, tmp_path, ann, 30)
