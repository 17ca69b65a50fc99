"""What a copy of the store holds, and that a store made of copies is the same one."""

import json
import sqlite3

import pytest

from rlhfv.corrections.changes import Changes, read_copy, rebuild, write_copy
from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.erasing import Eraser
from rlhfv.corrections.reviews import Person
from rlhfv.corrections.store import Store
from rlhfv.corrections.tasks import NewTask
from rlhfv.errors import InvalidData

NOT_COPIED = ("changes", "drafts", "conversations", "leases", "sqlite_sequence")


@pytest.fixture
def changes(store):
    changes = Changes(store.path)
    changes.watch()
    return changes


def sent(copy):
    return read_copy(list(write_copy(copy)))


def rows_of(path):
    """Every row of every table, the search index's own included."""
    connection = sqlite3.connect(path)
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    tables = [name for (name,) in names if name not in NOT_COPIED and not name.startswith("pair_search_")]
    return {name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}").fetchall())) for name in tables}


def work(store, make_answer, make_pair, make_judgement):
    """Something of everything that people do."""
    for number in range(4):
        answer = make_answer(f"a{number}", images=(f"{number}" * 64 + ".png",))
        store.add_answer(answer)
        store.save(make_judgement(f"j{number}", answer.id), make_pair(answer, f"There are {number} spoons there."))
        yield
    store.save(make_judgement("again", "a0"), make_pair(store.answer("a0"), "There is a spoon on the table."))
    yield
    first, second, third, _ = [pair.id for pair in store.all_pairs()]
    store.undo(first, "ann")
    store.delete(second, "ann")
    yield
    store.restore(second, 1, "bob")
    store.save(make_judgement("fine", "a3", outcome="faithful"))
    yield
    store.remember("terms:visitor-1", {"licence": "cc0-1.0", "consent": True, "annotator": "ann"})
    store.remember("shared/x", {"image": "f" * 64 + ".jpg"})
    store.forget("shared/x")
    store.add_tasks([NewTask(Prompt("How many forks?", ("e" * 64 + ".png",)), source="demo:1")])
    yield
    store.review(third, "withdrawn", Person("r" * 32, "rita"))
    yield


def test_copies_laid_over_one_another_are_the_store(store, changes, tmp_path, make_answer, make_pair, make_judgement):
    copies = [sent(changes.read_all())]
    for _ in work(store, make_answer, make_pair, make_judgement):
        copy = changes.read()
        assert copy and copy.through == changes.newest()
        copies.append(sent(copy))
        changes.forget(copy.through)
        assert not changes.read() and changes.newest() == 0
    rebuild(tmp_path / "new.db", copies)
    rebuild(tmp_path / "newer.db", [*copies[:3], sent(changes.read_all())])
    Store(tmp_path / "new.db")
    assert rows_of(tmp_path / "new.db") == rows_of(store.path)
    Store(tmp_path / "newer.db")
    assert rows_of(tmp_path / "newer.db") == rows_of(store.path)
    assert Store(tmp_path / "new.db").find_pairs("spoons").total == store.find_pairs("spoons").total == 3


def test_a_row_that_changes_while_it_is_copied_waits_again(store, changes):
    store.remember("terms:x", 1)
    copy = changes.read()
    store.remember("terms:x", 2)
    changes.forget(copy.through)
    assert changes.read().rows == {"memory": [('["terms:x"]', {"key": "terms:x", "value": "2"})]}


def test_what_was_not_judged_and_chats_stay_here(store, changes, make_answer, make_judgement):
    store.add_answer(make_answer("a"))
    store.save_draft("visitor-1", "a", {"edits": []})
    store.save_conversation("visitor-1", {"turns": []})
    store.remember("hints:a", [1])
    assert not changes.read()
    assert "answers" not in changes.read_all().rows or changes.read_all().rows["answers"] == []
    store.save(make_judgement("j", "a", outcome="faithful"))
    assert {"answers", "judged", "judgements"} == changes.read().rows.keys()


def test_what_another_process_changes_is_noted(store, changes):
    other = sqlite3.connect(store.path)
    other.execute("INSERT OR IGNORE INTO memory VALUES ('a', '1')")
    other.commit()
    first = changes.newest()
    other.execute("INSERT OR REPLACE INTO memory VALUES ('a', '2')")
    other.execute("INSERT OR IGNORE INTO memory VALUES ('b', '2')")
    other.commit()
    assert changes.newest() > first
    assert [row["value"] for _, row in changes.read().rows["memory"]] == ["2", "2"]


def test_what_was_erased_is_in_no_later_copy_and_earlier_ones_are_named(saved, tmp_path):
    store, pair = saved
    changes = Changes(store.path)
    changes.watch()
    copies = [sent(changes.read_all())]
    eraser = Eraser(store.path)
    eraser.erase(eraser.find([pair.id]))
    copy = changes.read()
    assert copy.erased
    assert "spoon" not in json.dumps(list(write_copy(copy))) + json.dumps(list(write_copy(changes.read_all())))
    rebuild(tmp_path / "new.db", [*copies, sent(copy)])
    assert list(Store(tmp_path / "new.db").all_pairs()) == [] and Store(tmp_path / "new.db").judgements() == []
    changes.forget(copy.through)
    assert not changes.read()


def test_a_copy_of_an_older_schema_is_brought_up_and_of_a_newer_one_refused(saved, tmp_path):
    store, pair = saved
    changes = Changes(store.path)
    changes.watch()
    lines = list(write_copy(changes.read_all()))
    # As the first version of the store would have written it: without what came later.
    old = [json.dumps({"v": 1, "schema": 1, "whole": True})]
    columns = {"pairs": ("seq", "id", "revision", "deleted", "visitor", "annotator", "model")}
    columns["judgements"] = ("seq", "id", "annotator", "outcome", "created", "document", "pair", "revision")
    for line in lines[1:]:
        part, key, row = json.loads(line)
        if part in ("answers", "judged", "judgements", "pairs", "revisions"):
            kept = {name: value for name, value in row.items() if name in columns.get(part, row)}
            old.append(json.dumps([part, key, kept]))
    rebuild(tmp_path / "new.db", [read_copy(old)])
    new = Store(tmp_path / "new.db")
    assert new.pair(pair.id) == pair and new.find_pairs("spoon").total == 1
    with pytest.raises(InvalidData, match="newer version"):
        rebuild(tmp_path / "newest.db", [read_copy([json.dumps({"v": 1, "schema": 99, "whole": True})])])
    assert not (tmp_path / "newest.db").exists()
