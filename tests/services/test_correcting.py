import threading

import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.errors import InvalidCorrection, InvalidData, NotFound
from rlhfv.services import Actor, build_services
from rlhfv.services.terms import Terms, TermsMissing
from rlhfv.settings import Settings


@pytest.fixture
def answered(services, ada, picture):
    """Two stored answers of Ada's."""
    services.chat.set_images(ada, (services.chat.add_image(ada, picture).name,))
    *_, state = services.chat.ask(ada, "What is it?", threading.Event())
    return services, state.turns[0].left.answer_id, state.turns[0].right.answer_id


AGREED = Terms("cc-by-4.0", True, "Ada")


def test_an_answer_becomes_a_pair(answered, ada):
    services, first, _ = answered
    opened = services.corrections.open(ada, first)
    assert opened.original == "baseline says: What is it? #0" and opened.edits == () and opened.waiting == 2
    services.corrections.set_terms(ada, AGREED)
    edit = Edit(0, 8, "expert", "object")
    saved = services.corrections.save(ada, first, opened.original, [edit], flags=("omission",), active_seconds=3.5)
    pair = services.corrections.pair(ada, saved.pair_id)
    assert pair.chosen == "expert says: What is it? #0" and pair.rejected == opened.original and pair.edits == (edit,)
    assert pair.provenance.annotator == "Ada" and pair.provenance.licence == "cc-by-4.0" and pair.provenance.consent
    again = services.corrections.open(ada, first)
    assert again.edits == (edit,) and again.saved_pair.id == saved.pair_id and again.waiting == 1


def test_a_draft_that_arrives_behind_its_save_is_dropped(answered, ada):
    services, first, _ = answered
    services.corrections.set_terms(ada, AGREED)
    original, edit = services.store.answer(first).text, Edit(0, 8, "expert", "object")
    services.corrections.save(ada, first, original, [edit])
    services.corrections.save_draft(ada, first, [edit])
    assert services.store.draft(ada.visitor, first) is None
    services.corrections.save_draft(ada, first, [Edit(0, 8, "novice", "object")])
    assert services.corrections.open(ada, first).edits[0].replacement == "novice"


def test_the_first_save_asks_for_the_terms_and_keeps_the_draft(answered, ada):
    services, first, _ = answered
    original = services.corrections.open(ada, first).original
    edit = Edit(0, 8, "expert", "object")
    services.corrections.save_draft(ada, first, [edit])
    with pytest.raises(TermsMissing):
        services.corrections.save(ada, first, original, [edit])
    assert services.corrections.open(ada, first).edits == (edit,)
    with pytest.raises(InvalidData):
        services.corrections.set_terms(ada, Terms("all rights reserved"))


def test_saving_again_is_a_revision_that_can_be_restored(answered, ada):
    services, first, _ = answered
    services.corrections.set_terms(ada, AGREED)
    original = services.corrections.open(ada, first).original
    saved = services.corrections.save(ada, first, original, [Edit(0, 8, "expert", "object")])
    later = services.corrections.save(ada, first, original, [Edit(0, 8, "novice", "object")])
    assert later.pair_id == saved.pair_id and later.revision == saved.revision + 1
    services.corrections.delete(ada, saved.pair_id)
    assert services.corrections.find(ada).total == 0
    services.corrections.undelete(ada, saved.pair_id)
    assert services.corrections.pair(ada, saved.pair_id).chosen.startswith("novice")
    services.corrections.restore(ada, saved.pair_id, saved.revision)
    assert services.corrections.pair(ada, saved.pair_id).chosen.startswith("expert")
    actions = [revision.action for revision in services.corrections.history(ada, saved.pair_id)]
    assert sorted(actions) == ["deleted", "restored", "restored", "saved", "saved"]


@pytest.mark.parametrize(
    ("original", "edits"),
    [
        ("another text", [Edit(0, 3, "x", "object")]),
        (None, [Edit(0, 300, "x", "object")]),
        (None, [Edit(-1, 3, "x", "object")]),
        (None, [Edit(0, 3, "x", "forged")]),
        (None, [Edit(0, 8, "baseline", "object")]),
        (None, [Edit(0, 8, "x", "object"), Edit(4, 9, "y", "object")]),
        (None, []),
    ],
)
def test_forged_corrections_are_refused(answered, ada, original, edits):
    services, first, _ = answered
    services.corrections.set_terms(ada, AGREED)
    with pytest.raises(InvalidCorrection):
        services.corrections.save(ada, first, original or services.store.answer(first).text, edits)
    assert services.corrections.find(ada).total == 0


def test_answers_of_others_and_forged_ids_are_refused(answered, ada, bob):
    services, first, _ = answered
    for actor, answer_id in ((bob, first), (ada, "0" * 32), (ada, "../../etc/passwd"), (ada, "")):
        with pytest.raises(NotFound):
            services.corrections.open(actor, answer_id)
        with pytest.raises(NotFound):
            services.corrections.save(actor, answer_id, "x", [Edit(0, 1, "y", "object")])


def test_pairs_are_shared_on_one_persons_machine_only(answered, ada, bob, tmp_path):
    services, first, _ = answered
    services.corrections.set_terms(ada, AGREED)
    original = services.store.answer(first).text
    pair_id = services.corrections.save(ada, first, original, [Edit(0, 8, "expert", "object")]).pair_id
    assert services.corrections.find(bob).total == 1
    public = build_services(Settings(data_dir=tmp_path, model="scripted", single_user=False))
    assert public.corrections.find(ada).total == 1
    assert public.corrections.find(bob).total == 0
    for call in (public.corrections.pair, public.corrections.history, public.corrections.delete):
        with pytest.raises(NotFound):
            call(bob, pair_id)


def test_next_skip_and_faithful_walk_through_the_waiting_answers(answered, ada):
    services, first, second = answered
    seen = services.corrections.open(ada)
    services.corrections.skip(ada, seen.answer_id, "not sure")
    other = services.corrections.open(ada)
    assert {seen.answer_id, other.answer_id} == {first, second}
    services.corrections.faithful(ada, other.answer_id)
    assert services.corrections.open(ada) is None


def test_export_and_import_round_trip(answered, ada, tmp_path):
    services, first, _ = answered
    services.corrections.set_terms(ada, AGREED)
    original = services.store.answer(first).text
    services.corrections.save(ada, first, original, [Edit(0, 8, "expert 🧑‍🔬", "object")])
    folder = tmp_path / "export"
    assert services.corrections.export_to(ada, folder, "jsonl") == 1
    other = build_services(Settings(data_dir=tmp_path / "other", model="scripted"))
    report = other.corrections.import_from(Actor("c" * 32), folder)
    assert (report.pairs, report.changed) == (1, 1)
    [pair] = other.corrections.find(ada).pairs
    assert pair.chosen == "expert 🧑‍🔬 says: What is it? #0"
    assert other.chat.image_path(ada, pair.prompt.images[0]).is_file()


def test_an_import_cannot_revise_the_pairs_of_others(answered, ada, bob, tmp_path):
    services, first, _ = answered
    services.corrections.set_terms(ada, AGREED)
    original = services.store.answer(first).text
    saved = services.corrections.save(ada, first, original, [Edit(0, 8, "expert", "object")])
    services.corrections.export_to(ada, tmp_path / "export", "jsonl")
    public = build_services(Settings(data_dir=tmp_path, model="scripted", single_user=False))
    report = public.corrections.import_from(bob, tmp_path / "export")
    assert report.pairs == 0 and "not one of yours" in str(report.problems[0])
    assert len(public.corrections.history(ada, saved.pair_id)) == 1
