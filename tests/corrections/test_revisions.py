"""History: undo, delete and restore only ever add revisions."""

import pytest

from rlhfv.errors import NotFound


def test_undo_delete_and_restore_only_add_revisions(saved):
    store, pair = saved
    assert store.undo(pair.id, "ann").pair.chosen == "There is a red spoon on the table."
    assert store.undo(pair.id, "ann").pair.chosen == "There is a spoon on the table."
    assert store.delete(pair.id, "bob").pair is None
    assert store.find_pairs("spoon").total == 0
    with pytest.raises(NotFound):
        store.pair(pair.id)
    with pytest.raises(NotFound):
        store.delete(pair.id, "bob")
    assert store.undo(pair.id, "ann").pair.revision == 6
    assert store.restore(pair.id, 1, "eve").pair.chosen == "There is a red spoon on the table."
    with pytest.raises(NotFound):
        store.restore(pair.id, 5, "eve")
    for number in (0, 99, -1):
        with pytest.raises(NotFound):
            store.restore(pair.id, number, "eve")
    actions = [(r.number, r.action, r.annotator) for r in store.history(pair.id)]
    assert actions == [
        (1, "saved", "ann"),
        (2, "saved", "ann"),
        (3, "restored", "ann"),
        (4, "restored", "ann"),
        (5, "deleted", "bob"),
        (6, "restored", "ann"),
        (7, "restored", "eve"),
    ]
    assert store.pair(pair.id).revision == 7
    assert store.find_pairs("red spoon").total == 1


def test_undoing_the_first_save_deletes(store, make_answer, make_pair, make_judgement):
    store.add_answer(make_answer())
    pair = store.save(make_judgement("j", "answer-1"), make_pair(make_answer(), "No.")).pair
    assert store.undo(pair.id, "ann").action == "deleted"
    assert store.undo(pair.id, "ann").pair.chosen == "No."
