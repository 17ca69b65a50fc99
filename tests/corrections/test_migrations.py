import json
import sqlite3
import subprocess
import sys

import pytest

from rlhfv.corrections import migrations
from rlhfv.corrections.conversation import Prompt, fingerprint
from rlhfv.corrections.migrations import MIGRATIONS, connect, migrate
from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidData

ANSWER = {
    "id": "answer-1",
    "prompt": {"question": "What is it?", "images": [], "history": []},
    "text": "A red dog.",
    "model": {"name": "demo", "revision": "1", "adapter": None},
    "sampling": {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 256, "seed": 0},
    "visitor": "v1",
    "created": "2025",
    "row_layout": ["baseline"],
    "row": 0,
    "finished": True,
    "extra": {},
}
JUDGEMENT = {
    "id": "j1",
    "answers": ["answer-1"],
    "outcome": "corrected",
    "flags": [],
    "reason": "",
    "annotator": "ann",
    "created": "2025",
    "active_seconds": 2.0,
}


PROVENANCE = {
    "model": ANSWER["model"],
    "sampling": ANSWER["sampling"],
    "row_layout": ["baseline"],
    "created": "2025",
    "annotator": "ann",
    "app_version": "0.1.0",
    "licence": "cc-by-4.0",
    "consent": True,
    "edits": "made",
    "source": "",
    "row": 0,
    "chosen_model": None,
}


def row(chosen, revision):
    return {
        "id": "pair-1",
        "images": [],
        "history": [],
        "question": "What is it?",
        "chosen": f"A {chosen} dog.",
        "rejected": "A red dog.",
        "edits": [{"start": 2, "end": 5, "text": "red", "replacement": chosen, "kind": "attribute"}],
        "outcome": "corrected",
        "provenance": PROVENANCE,
        "revision": revision,
    }


def write_oldest(path):
    """A database as the first schema had it, with one answer, one live pair of two revisions and one deleted pair."""
    connection = connect(path)
    connection.execute("BEGIN")
    MIGRATIONS[0](connection)
    connection.execute("PRAGMA user_version = 1")
    connection.execute("INSERT INTO answers VALUES (1, 'answer-1', 'v1', '2025', ?)", (json.dumps(ANSWER),))
    connection.execute(
        "INSERT INTO judgements VALUES (1, 'j1', 'ann', 'corrected', '2025', ?, 'pair-1', 1)", (json.dumps(JUDGEMENT),)
    )
    connection.execute("INSERT INTO judged VALUES ('answer-1', 1)")
    connection.execute("INSERT INTO pairs VALUES (1, 'pair-1', 2, 0, 'v1', 'ann', 'demo@1')")
    connection.execute("INSERT INTO pairs VALUES (2, 'pair-2', 2, 1, 'v1', 'ann', 'demo@1')")
    for pair, number, action, document in [
        ("pair-1", 1, "saved", row("blue", 1)),
        ("pair-1", 2, "saved", row("green", 2)),
        ("pair-2", 1, "saved", row("pink", 1) | {"id": "pair-2"}),
        ("pair-2", 2, "deleted", None),
    ]:
        connection.execute(
            "INSERT INTO revisions (pair, number, created, annotator, action, document)"
            " VALUES (?, ?, '2025', 'ann', ?, ?)",
            (pair, number, action, json.dumps(document) if document else None),
        )
    connection.execute("INSERT INTO drafts VALUES ('v1', 'answer-1', '{}')")
    connection.execute("COMMIT")
    connection.close()


def schema(path):
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_each_step_leads_from_the_oldest_schema_and_keeps_everything(tmp_path, monkeypatch, version):
    path = tmp_path / "old.db"
    write_oldest(path)
    before = sqlite3.connect(path).execute("SELECT * FROM revisions").fetchall()
    with monkeypatch.context() as context:
        context.setattr(migrations, "MIGRATIONS", MIGRATIONS[:version])
        migrate(connect(path))
        assert connect(path).execute("PRAGMA user_version").fetchone() == (version,)
    store = Store(path)
    assert store.answer("answer-1").text == "A red dog."
    assert [judgement.id for judgement in store.judgements("answer-1")] == ["j1"]
    assert [(r.number, r.action) for r in store.history("pair-2")] == [(1, "saved"), (2, "deleted")]
    assert store.find_pairs().total == 1
    assert store.find_pairs("gree", annotator="ann", kind="attribute", visitor="v1").pairs[0].chosen == "A green dog."
    assert store.find_pairs("blue").total == store.find_pairs("pink").total == 0
    assert store.undo("pair-2", "ann").pair.chosen == "A pink dog."
    assert store.find_pairs("pink").total == 1
    assert store.draft("v1", "answer-1") == {}
    assert sqlite3.connect(path).execute("SELECT * FROM revisions").fetchall()[: len(before)] == before


def test_what_was_there_before_the_reviews_counts_as_accepted_and_in_the_statistics(tmp_path):
    write_oldest(tmp_path / "old.db")
    store = Store(tmp_path / "old.db", team=True)
    assert store.pair_states(["pair-1", "pair-2"]) == ["accepted", "accepted"]
    assert store.find_pairs(state="accepted").states == ("accepted",)
    found = store.statistics("v1")
    assert (found.total.answers, found.total.corrections, found.total.judged) == (1, 1, 1)
    assert found.total.words_per_answer == 3 and found.total.seconds_per_answer == 2


def test_licence_and_consent_are_read_out_of_the_pairs_that_are_there(tmp_path):
    write_oldest(tmp_path / "old.db")
    Store(tmp_path / "old.db")
    terms = sqlite3.connect(tmp_path / "old.db").execute("SELECT id, licence, consent FROM pairs ORDER BY id")
    assert terms.fetchall() == [("pair-1", "cc-by-4.0", 1), ("pair-2", "cc-by-4.0", 1)]


def test_what_was_corrected_before_is_known_as_work(tmp_path):
    write_oldest(tmp_path / "old.db")
    Store(tmp_path / "old.db")
    works = dict(sqlite3.connect(tmp_path / "old.db").execute("SELECT id, work FROM pairs"))
    assert works == {"pair-1": fingerprint(Prompt("What is it?"), "A red dog."), "pair-2": None}


def test_an_old_and_a_new_database_end_with_the_same_schema(tmp_path):
    write_oldest(tmp_path / "old.db")
    for name in ("old.db", "new.db"):
        Store(tmp_path / name)
    assert schema(tmp_path / "old.db") == schema(tmp_path / "new.db")


def test_a_step_that_fails_leaves_the_schema_before_it(tmp_path, monkeypatch):
    def broken(connection):
        connection.execute("CREATE TABLE half (x)")
        raise OSError("disk full")

    path = tmp_path / "old.db"
    write_oldest(path)
    before = schema(path)
    with monkeypatch.context() as context:
        context.setattr(migrations, "MIGRATIONS", (MIGRATIONS[0], broken))
        with pytest.raises(OSError):
            Store(path)
    assert schema(path) == before
    assert Store(path).find_pairs().total == 1


def test_a_database_of_a_newer_version_is_refused(tmp_path):
    Store(tmp_path / "new.db")
    with sqlite3.connect(tmp_path / "new.db") as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(InvalidData, match="newer version"):
        Store(tmp_path / "new.db")


def test_nothing_heavy_is_imported():
    code = (
        "import sys, rlhfv.corrections.store, rlhfv.corrections.exchange\n"
        "heavy = {'torch', 'transformers', 'gradio', 'huggingface_hub', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=migrations.__file__.split("rlhfv")[0])
