"""Sixty visitors at once on the real demo model: five seconds here, five minutes in the slow target.

Prints the 95th percentiles of queue wait and answer time: pytest -s tests/studio/test_crowd.py
"""

import gc
import json
import os
import statistics
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import gradio as gr
import pytest

from rlhfv.corrections.store import Store
from rlhfv.services.chat import Chat
from tests.apps import free_port, start_app, wait_until_ready
from tests.studio.crowd import AT_ONCE, MARK, TOO_OFTEN, Seen, come, visit

VISITORS = 60
TERMS = "What is kept: your correction."
MINUTES = float(os.environ.get("CROWD_MINUTES", "5"))
EVERY = 10
SCENE_AFTER = 5
"""Questions about one picture. An open chat takes memory by its length, so that chats which only grew would show
nothing; what is to be flat is what people who come and go leave behind."""
FLAT = 25
"""Megabytes by which the second half may end above the middle. What Python holds does not grow, see
`check_nothing_is_left`; what still moves is outside: the threads that work at the same time, with SQLite's page caches
and the holes in their heaps."""


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def watch(process: subprocess.Popen, memory: list[float]) -> None:
    while True:
        time.sleep(EVERY)
        if process.poll() is not None:
            return
        memory.append(resident_bytes(process.pid) / 1e6)


def check_store(data: Path, seen: Seen) -> None:
    """Every conversation, every answer and every pair in the store is one visitor's."""
    store = Store(data / "studio.sqlite3")
    owners, asked = {}, Counter()
    for visitor, document in store._connection.execute("SELECT visitor, document FROM answers").fetchall():
        answer = json.loads(document)
        question = answer["prompt"]["question"]
        owners.setdefault(visitor, set()).add(MARK.search(question)[1])
        asked[question] += bool(answer["text"])
    for (visitor,) in store._connection.execute("SELECT visitor FROM conversations").fetchall():
        turns = store.conversation(visitor)["turns"]
        owners.setdefault(visitor, set()).update(MARK.search(turn["question"])[1] for turn in turns)
    assert all(len(numbers) <= 1 for numbers in owners.values()), "one visitor has the questions of two"
    named = [number for numbers in owners.values() for number in numbers]
    assert len(set(named)) == len(named), "one visitor's questions are kept as two people's"
    assert sum(voices == 2 for voices in asked.values()) >= len(seen.answers), "an answer that was shown is not here"
    pairs = 0
    for visitor, numbers in owners.items():
        for pair in store.all_pairs(visitor=visitor):
            pairs += 1
            assert {MARK.search(pair.prompt.question)[1]} == numbers, "a pair is somebody else's"
            assert store.agreement_of_pair(pair.id), "a pair does not show that its maker agreed"
    assert pairs == seen.saved


def check_nothing_is_left(chat: Chat, demo: gr.Blocks) -> None:
    """What grows with the questions that were asked, rather than with the visitors, would grow for ever."""
    until = time.monotonic() + 5
    while demo._queue.event_ids_to_events and time.monotonic() < until:
        time.sleep(0.05)  # an event's end is heard before the queue has tidied up
    assert not demo._queue.event_ids_to_events and not demo.app.iterators
    assert not any(demo._queue.pending_event_ids_session.values()) and len(demo._queue.event_analytics) <= 1
    assert not chat.limits._held and not chat.line._waiting and not chat.line._answered
    gc.collect()
    assert not len(chat._locks)
    for session in demo.state_holder.session_data.values():
        assert len(session.blocks_config.blocks) == len(demo.blocks), "a page keeps components that are not its own"


def settings_of(folder: Path, per_minute: int) -> str:
    (folder / "terms.md").write_text(TERMS)
    return f"--answers-per-minute {per_minute} --answers-in-all 2000 --terms {folder / 'terms.md'}"


def agreed_version(folder: Path) -> str:
    from rlhfv.services.consent import read_house_terms
    from rlhfv.settings import Settings

    return read_house_terms(Settings(folder, terms=folder / "terms.md")).version


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The app as a Space has it, in this process: starting another one takes longer than the whole test."""
    from rlhfv.services import Actor, build_services
    from rlhfv.settings import parse_app_arguments
    from rlhfv.studio import app
    from rlhfv.studio.visitor import COOKIE, read_key, sign

    folder, port = tmp_path_factory.mktemp("crowd"), free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPACE_ID", "somebody/studio")
        words = f"--data-dir {folder / 'data'} {settings_of(folder, 1)}"
        services = build_services(parse_app_arguments(words.split()))
        demo = app.build_app(services)
        app.launch(services, demo, prevent_thread_lock=True, server_port=port, quiet=True)
    services.host.model()
    key, known = read_key(folder / "data"), []
    for number in range(VISITORS):
        who = Actor(f"{number:032x}", rights=frozenset({"chat"}))
        [picture] = services.chat.set_images(who, (services.chat.draw_scene(who, seed=number).name,)).pending_images
        known.append((f"{COOKIE}={sign(who.visitor, key)}", picture))
    yield folder, come(f"http://127.0.0.1:{port}", VISITORS, known), services.chat, demo
    demo.close()


def test_sixty_visitors_for_five_seconds(here):
    folder, people, chat, demo = here
    seen = visit(people, seconds=5, think=3, greedy=2, hurried=1, agree=agreed_version(folder))
    print("\n" + seen.report())
    assert not seen.strange, seen.strange[:3]
    assert len(seen.answers) >= 3 and seen.places and max(seen.places) > 20
    assert seen.refusals[AT_ONCE], "sixty came at once, and fewer may wait"
    assert seen.refusals[TOO_OFTEN], "one asked again and again"
    check_store(folder / "data", seen)
    check_nothing_is_left(chat, demo)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_sixty_visitors_for_five_minutes(tmp_path):
    port = free_port()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "SPACE_ID": "somebody/studio"}
    environment["RLHFV_FLAGS"] = settings_of(tmp_path, 6)
    process = start_app(tmp_path / "data", port, environment=environment)
    try:
        wait_until_ready(port, process)
        people, version = come(f"http://127.0.0.1:{port}", VISITORS), agreed_version(tmp_path)
        memory: list[float] = []
        timer = threading.Thread(target=watch, args=(process, memory), daemon=True)
        timer.start()
        seen = visit(people, seconds=60 * MINUTES, think=15, greedy=3, agree=version, scene_after=SCENE_AFTER)
        told = " ".join(f"{each:.0f}" for each in memory)
        # The first half minute is the model's and the threads' own.
        start, half, end = (statistics.median(memory[at:][:3]) for at in (2, len(memory) // 2 - 1, -3))
        print(f"\n{seen.report()}; resident {start:.0f}, {half:.0f}, {end:.0f} MB; every {EVERY} s: {told}")
        assert not seen.strange, seen.strange[:3]
        assert len(seen.answers) > VISITORS and seen.refusals[TOO_OFTEN] and seen.saved
        check_store(tmp_path / "data", seen)
        assert end - half <= FLAT, "memory grows"
    finally:
        process.terminate()
        process.wait(30)
