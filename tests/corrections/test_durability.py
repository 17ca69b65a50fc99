"""What was confirmed survives `kill -9`, and many processes write at once without a loss."""

import random
import signal
import sqlite3
import time

import pytest

from rlhfv.corrections.store import Store
from tests.corrections.processes import let_go, start_process

WRITER = """
import itertools, sys
from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.pairs import Judgement, PreferencePair, Provenance
from rlhfv.corrections.store import Store

path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store, model = Store(path), ModelIdentity("demo", "1")
print("ready", flush=True)
sys.stdin.readline()
for index in range(count) if count else itertools.count():
    answer = Answer(f"{name}-{index}", Prompt("What?"), "A red dog 🐕. " * 20, model, Sampling(), name, "2025")
    store.add_answer(answer)
    for change in ("blue", "green"):
        edits = (Edit(2, 5, change, "attribute"),)
        chosen = answer.text[:2] + change + answer.text[5:]
        pair = PreferencePair("x", answer.prompt, chosen, answer.text, edits, "corrected", Provenance(model))
        judgement = Judgement(f"{answer.id}-{change}", (answer.id,), "corrected", (), "", name, "2025", 1.0)
        revision = store.save(judgement, pair)
        print(revision.pair.id, revision.number, change, judgement.id, flush=True)
"""


def assert_confirmed(path, lines):
    """Every confirmed revision is there with what was said about it, and nothing is broken or half there."""
    store = Store(path)
    judgements = {judgement.id for judgement in store.judgements()}
    for line in lines:
        pair_id, number, change, judgement = line.split()
        revision = store.history(pair_id)[int(number) - 1]
        assert (revision.number, revision.pair.chosen[2 : 2 + len(change)]) == (int(number), change)
        assert judgement in judgements
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.execute("INSERT INTO pair_search (pair_search) VALUES ('integrity-check')")
        revisions = connection.execute("SELECT count(*) FROM revisions").fetchone()[0]
    assert len(judgements) == revisions
    assert store.find_pairs("red dog").total == store.find_pairs().total == len(list(store.all_pairs()))
    return store


def kill_rounds(path, rounds, writers_a_round):
    chance, confirmed = random.Random(), []
    for number in range(rounds):
        writers = [start_process(WRITER, path, f"r{number}w{index}", 0) for index in range(writers_a_round)]
        let_go(*writers)
        confirmed.append(writers[0].stdout.readline().strip())  # at least one each round, however slow the machine
        time.sleep(chance.uniform(0.05, 0.6))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer in writers:
            output, errors = writer.communicate()
            assert errors == ""
            confirmed += [line for line in output.split("\n")[:-1] if line]  # a torn last line was not read
        assert_confirmed(path, confirmed)
    return confirmed


def test_what_save_returned_survives_kill_9(tmp_path):
    confirmed = kill_rounds(tmp_path / "studio.db", rounds=4, writers_a_round=2)
    print(f"{len(confirmed)} confirmed revisions in 4 rounds, none lost")
    assert confirmed


@pytest.mark.slow
def test_what_save_returned_survives_kill_9_many_times(tmp_path):
    confirmed = kill_rounds(tmp_path / "studio.db", rounds=40, writers_a_round=3)
    print(f"{len(confirmed)} confirmed revisions in 40 rounds, none lost")
    assert len(confirmed) > 100


def save_at_once(path, processes, count):
    writers = [start_process(WRITER, path, f"w{index}", count) for index in range(processes)]
    start = time.monotonic()
    let_go(*writers)
    lines = []
    for writer in writers:
        output, errors = writer.communicate(timeout=500)
        assert errors == "" and writer.returncode == 0
        lines += output.split("\n")[:-1]
    store = assert_confirmed(path, lines)
    assert len(lines) == processes * count * 2
    assert store.find_pairs().total == processes * count
    print(f"{processes} processes, {len(lines)} revisions in {time.monotonic() - start:.1f} s")


def test_8_processes_save_at_once_from_the_first_start_on(tmp_path):
    save_at_once(tmp_path / "studio.db", processes=8, count=6)


@pytest.mark.slow
def test_8_processes_save_a_lot_at_once(tmp_path):
    save_at_once(tmp_path / "studio.db", processes=8, count=200)
