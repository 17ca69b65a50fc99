"""The file: threads share it, a failed write leaves nothing, and what it cannot do is told."""

import sqlite3
import threading

import pytest

from rlhfv.corrections import migrations
from rlhfv.corrections.store import Store
from rlhfv.errors import StoreUnavailable


def test_each_commit_is_forced_to_the_disk(store):
    assert store._connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert store._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_threads_share_a_store(store, make_answer, make_pair, make_judgement):
    errors = []

    def work(number):
        try:
            for index in range(10):
                answer = make_answer(f"a{number}-{index}", visitor=f"v{number}")
                store.add_answer(answer)
                store.save(make_judgement(f"j{number}-{index}", answer.id), make_pair(answer, "No."))
                assert store.find_pairs(visitor=f"v{number}").total == index + 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.find_pairs().total == 80


def test_a_failed_write_leaves_nothing_behind(saved, make_answer, make_pair, make_judgement, monkeypatch):
    store, pair = saved
    monkeypatch.setattr("rlhfv.corrections.store._add_judgement", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError):
        store.save(make_judgement("j9", "answer-1"), make_pair(make_answer(), "No."))
    monkeypatch.undo()
    assert store.pair(pair.id) == pair
    assert store.save(make_judgement("j9", "answer-1"), make_pair(make_answer(), "No.")).number == 3


def test_revisions_cannot_be_changed_even_by_sql(saved):
    store, _ = saved
    connection = sqlite3.connect(store.path)
    for statement in ("DELETE FROM revisions", "UPDATE revisions SET annotator = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)


def assert_told(caught, said):
    assert said in caught.value.why
    assert caught.value.what and caught.value.fix


def test_a_file_that_is_no_database_is_told_and_left(tmp_path):
    path = tmp_path / "studio.db"
    path.write_bytes(b"something else " * 100)
    with pytest.raises(StoreUnavailable) as caught:
        Store(path)
    assert_told(caught, "not a database")
    assert path.read_bytes() == b"something else " * 100


def test_a_file_that_cannot_be_opened_is_told_at_once(tmp_path):
    (tmp_path / "studio.db").mkdir()
    with pytest.raises(StoreUnavailable) as caught:
        Store(tmp_path / "studio.db")
    assert_told(caught, "unable to open")


def test_a_database_that_may_not_be_written_is_told_at_once(tmp_path, monkeypatch):
    def connect_read_only(path):
        return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)

    sqlite3.connect(tmp_path / "studio.db").execute("CREATE TABLE other (x)")
    monkeypatch.setattr("rlhfv.corrections.database.connect", connect_read_only)
    with pytest.raises(StoreUnavailable) as caught:
        Store(tmp_path / "studio.db")
    assert_told(caught, "readonly")


def test_a_full_disk_is_told_and_nothing_is_half_there(saved, make_answer, make_pair, make_judgement):
    store, pair = saved
    answer = make_answer("long", "A dog. " * 10_000)
    store._connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the pages that are there already
    with pytest.raises(StoreUnavailable) as caught:
        store.add_answer(answer)
    assert_told(caught, "full")
    assert store.pair(pair.id) == pair
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.add_answer(answer)
    store.save(make_judgement("j9", "long"), make_pair(answer, "No."))


def test_a_database_that_stays_locked_is_told(saved, make_answer, monkeypatch):
    store, _ = saved
    monkeypatch.setattr(migrations, "BUSY_SECONDS", 0.1)
    impatient = Store(store.path)
    with store._transaction(), pytest.raises(StoreUnavailable) as caught:
        impatient.add_answer(make_answer("a9"))
    assert_told(caught, "locked")
    impatient.add_answer(make_answer("a9"))
