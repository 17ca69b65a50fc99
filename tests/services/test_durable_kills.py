"""`kill -9` and SIGTERM at any point between "save" pressed and later: after a restart on an empty disk all that was
told as saved is there.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from rlhfv.corrections.store import Store
from rlhfv.services import build_services, local_actor
from rlhfv.settings import Settings
from tests.apps import ROOT, free_port, start_app, wait_until_ready
from tests.services.saving_process import POINTS


@pytest.fixture
def environment():
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(environment):
    """`start(...)` starts a worker; gives its process id, and what waits for its end."""
    command = [sys.executable, "-m", "tests.services.saving_process"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as nursery:
        assert nursery.stdout.readline() == "ready\n"

        def start(*words):
            nursery.stdin.write("\t".join(map(str, words)) + "\n")
            nursery.stdin.flush()
            worker = int(nursery.stdout.readline())
            return worker, lambda: int(nursery.stdout.readline())

        yield start
        nursery.stdin.close()


def read_told(folder):
    lines = (folder / "told").read_text(encoding="utf-8").splitlines() if (folder / "told").exists() else []
    return [json.loads(line) for line in lines]


def kill_rounds(start, tmp_path, points, signals, place=None):
    """Each round starts on an empty disk, from what the rounds before left at the place."""
    chance, told, ended, place = random.Random(), [], Counter(), place or tmp_path / "bucket"
    for round, (point, number) in enumerate((point, number) for point in points for number in signals):
        folder = tmp_path / f"disk{round}"
        folder.mkdir()
        worker, ends = start(chance.randrange(2**31), point, int(number), folder, place)
        if point == "any moment":
            until = time.monotonic() + 20
            while not read_told(folder) and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 0.5))
            os.kill(worker, number)
        status = ends()
        ended[f"{signal.Signals(number).name} {point}"] += 1
        assert os.WTERMSIG(status) == number if number == signal.SIGKILL else os.waitstatus_to_exitcode(status) == 0, (
            point,
            status,
        )
        told += read_told(folder)
        restored = build_services(Settings(data_dir=tmp_path / f"look{round}", durable=place))
        assert_told(restored, told, (point, number))
        if number == signal.SIGTERM and point != "the log begins":
            here = {pair.id: pair.chosen for pair in Store(folder / "data" / "studio.sqlite3").all_pairs()}
            late = here.keys() ^ {pair.id for pair in restored.store.all_pairs()}
            assert len(late) <= 3, "what was kept before the signal is copied, but for what came while it was handled"
    return told, ended


def assert_told(restored, told, where):
    deleting = {one["pair"]: place for place, one in enumerate(told) if one["deed"] == "delete"}
    for one in told:
        if one["deed"] == "saved":
            revision = restored.store.history(one["pair"])[one["revision"] - 1]
            assert one["word"] in revision.pair.chosen, where
            for name in revision.pair.prompt.images:
                assert restored.corrections.shelf.path(name).stat().st_size > 50, where
            assert one["pair"] in deleting or restored.store.pair(one["pair"]), where
        elif one["deed"] == "deleted":
            assert restored.store.history(one["pair"])[-1].pair is None, where
            assert one["pair"] not in {pair.id for pair in restored.store.all_pairs()}, where


def report(told, ended):
    deeds = Counter(one["deed"] for one in told)
    print(f"\n{sum(ended.values())} ends {dict(ended)}: {deeds['saved']} told as saved, {deeds['deleted']} as deleted")
    assert deeds["saved"]


def test_what_was_told_as_saved_is_there_on_an_empty_disk(start, tmp_path):
    report(*kill_rounds(start, tmp_path, ["any moment", "the copy lies there"], [signal.SIGKILL, signal.SIGTERM]))


@pytest.mark.slow
def test_at_every_point_many_times(start, tmp_path):
    points = [*POINTS, "any moment"] * 6
    told, ended = kill_rounds(start, tmp_path, points, [signal.SIGKILL, signal.SIGTERM])
    report(told, ended)
    assert len(told) > 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["buckets", "datasets"])
def test_at_every_point_with_the_copy_on_the_hub(hub, connect, tmp_path, environment, kind, request):
    token = hub.user("ann")
    connect(token)
    environment.clear()
    environment.update(hub.environment(token, tmp_path / "home"), OMP_NUM_THREADS="1")
    points = ["kept here", "before a copy", "the copy lies there", "before it is told", "any moment"]
    start = request.getfixturevalue("start")
    report(*kill_rounds(start, tmp_path, points, [signal.SIGKILL, signal.SIGTERM], f"hf://{kind}/ann/kept"))
    assert hub.leaks == []


@pytest.mark.slow
def test_the_app_ends_well_and_comes_back_on_an_empty_disk(tmp_path):
    place, port = tmp_path / "bucket", free_port()
    services = build_services(Settings(data_dir=tmp_path / "one"))
    *_, (made, _) = services.training.add_oracle_pairs(local_actor(), 4)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RLHFV_DURABLE": str(place)}
    app = start_app(tmp_path / "one", port, environment=environment)
    wait_until_ready(port, app)
    services.corrections.delete(local_actor(), services.corrections.mine(local_actor())[0].id)
    app.terminate()
    assert app.wait(30) == 0, (tmp_path / "app.log").read_text()
    key = (tmp_path / "one" / "visitors.key").read_bytes()
    app = start_app(tmp_path / "two", port, environment=environment)
    wait_until_ready(port, app)
    app.send_signal(signal.SIGKILL)
    app.wait()
    again = build_services(Settings(data_dir=tmp_path / "two"))
    assert {pair.id for pair in again.store.all_pairs()} == {pair.id for pair in services.store.all_pairs()}
    assert made == 4 and len(list(again.store.all_pairs())) == 3
    assert (tmp_path / "two" / "visitors.key").read_bytes() == key
