"""From an answer to a pair and what becomes of it, through the events of the Correct and Pairs tabs."""

import json
import zipfile
from dataclasses import replace

import pytest

from rlhfv.errors import NotFound
from rlhfv.publishing.formats import FORMATS
from rlhfv.studio.pairs import DATASETS, EXPORTS
from rlhfv.studio.span_editor import SpanEditor
from tests.studio.conftest import texts

NO_FILTERS = ("", "", "", "", "")


@pytest.fixture
def answer(page, services, ada, picture):
    services.chat.set_images(ada, (services.chat.add_image(ada, picture).name,))
    page.fire("question", "submit", ada, "What is there?", False)
    return services.chat.open(ada).turns[-1].left


def document(answer, **changes):
    fields = {"original": answer.text, "answer_id": answer.answer_id, **changes}
    return SpanEditor.document(
        fields["original"], fields["answer_id"], [{"start": 0, "end": 8, "replacement": "nobody", "kind": "object"}]
    )


def agree(page, who, answer):
    return page.fire("terms-agree", "click", who, document(answer), [], 3, "Ada", "cc-by-4.0", True, "save")


def test_the_first_save_asks_for_terms_and_then_keeps_the_pair(page, services, ada, answer):
    asked = page.fire("editor", "submit", ada, document(answer), ["omission"], 12)
    assert asked["terms"]["visible"] is True and not services.corrections.mine(ada)
    saved = agree(page, ada, answer)
    assert saved["terms"]["visible"] is False and "Saved: 1 correction" in texts(saved["correct-message"])
    [pair] = services.corrections.mine(ada)
    assert pair.chosen.startswith("nobody says") and pair.provenance.annotator == "Ada" and pair.provenance.consent
    again = page.fire("editor", "submit", ada, document(answer), [], 1)
    assert "terms" in again and again["terms"]["visible"] is False, "asked once"


def test_correct_this_opens_the_tab_with_the_answer(page, ada, answer):
    shown = page.fire("left-column", "edit", ada, data={"act": "correct", "ref": answer.answer_id})
    assert shown["tabs"]["selected"] == "correct" and shown["editor"].original == answer.text
    assert shown["correct-picture"]["pictures"][0].startswith("images/")


def test_a_draft_comes_back(page, ada, answer):
    page.fire("editor", "input", ada, document(answer))
    shown = page.fire("left-column", "edit", ada, data={"act": "correct", "ref": answer.answer_id})
    assert [correction.replacement for correction in shown["editor"].corrections] == ["nobody"]


def test_forged_answers_and_originals_are_refused_with_a_reason(page, ada, bob, answer):
    agree(page, ada, answer)
    changed = page.fire("editor", "submit", ada, document(answer, original="baseline lies"), [], 0)
    assert "not the one that was stored" in texts(changed["correct-message"])
    unknown = page.fire("editor", "submit", ada, document(answer, answer_id="forged"), [], 0)
    assert unknown["correct-message"][0][1]["role"] == "alert"


def test_the_next_answer_skipping_and_nothing_wrong(page, services, ada, answer):
    other = services.chat.open(ada).turns[-1].right
    shown = page.fire("next-answer", "click", ada, document(answer))
    assert shown["editor"].answer_id == other.answer_id
    shown = page.fire("skip", "click", ada, document(answer), "not sure")
    assert shown["editor"].answer_id == other.answer_id and "Skipped" in texts(shown["correct-message"])
    shown = page.fire("nothing-wrong", "click", ada, document(other))
    assert "Every answer is judged" in texts(shown["correct-bar"]) and shown["editor"].original == ""


def test_undo_of_a_save_behind_a_deletion_goes_back_to_it(page, services, ada, answer):
    agree(page, ada, answer)
    [pair] = services.corrections.mine(ada)
    services.corrections.delete(ada, pair.id)
    page.fire("editor", "submit", ada, document(answer), [], 1)
    undone = page.fire("correct-message", "select", ada, document(answer), data={"act": "undo", "ref": pair.id})
    assert "deleted" in texts(undone["correct-message"]) and not services.corrections.mine(ada)


def test_undo_history_restore_and_delete(page, services, ada, answer):
    agree(page, ada, answer)
    [pair] = services.corrections.mine(ada)
    history = page.fire("correct-message", "edit", ada, data={"act": "history", "ref": pair.id})
    assert history["tabs"]["selected"] == "pairs" and "1. saved" in texts(history["pair-record"])
    gone = page.fire("pair-heading", "select", ada, 0, *NO_FILTERS, data={"act": "delete", "ref": pair.id})
    assert "deleted" in texts(gone["pairs-status"]) and not services.corrections.mine(ada)
    back = page.fire("pairs-status", "select", ada, 0, *NO_FILTERS, data={"act": "undelete", "ref": pair.id})
    assert services.corrections.mine(ada) and "3. restored" in texts(back["pair-record"])
    undone = page.fire("correct-message", "select", ada, document(answer), data={"act": "undo", "ref": pair.id})
    assert "deleted" in texts(undone["correct-message"]) and not services.corrections.mine(ada)


def test_search_and_filters(page, ada, answer):
    agree(page, ada, answer)
    for filters, found in (
        (("nobody", "", "", "", ""), True),
        (("giraffe", "", "", "", ""), False),
        (("", "object", "corrected", "Ada", ""), True),
        (("", "number", "", "", ""), False),
        (("", "", "", "Bob", ""), False),
    ):
        shown = page.fire("pairs-search", "change", ada, ("before",), *filters)
        assert ("nobody" in texts(shown["pairs-list"])) is found, filters
        assert found or "No pair matches" in texts(shown["pairs-list"])
    assert page.fire("pairs-search", "change", ada, filters, *filters) == {"__type__": "update"}, "shown already"


def test_export_and_import(page, services, ada, answer):
    agree(page, ada, answer)
    last = page.fire("export-pairs", "click", ada, "jsonl")[-1]
    path = last["download-pairs"]["value"]
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        rows = archive.read(next(name for name in names if name.endswith("pairs.jsonl"))).decode().splitlines()
    assert len(rows) == 1 and any("/images/" in name for name in names)
    broken = services.settings.data_dir / "import.jsonl"
    broken.write_text("\n".join(["not json", json.dumps({**json.loads(rows[0]), "id": "another", "images": []})]))
    report = page.fire("import-pairs", "upload", ada, str(broken), *NO_FILTERS)[-1]
    said = texts(report["pairs-files-status"])
    assert "1 pair taken in" in said and "1 row left out" in said and not broken.exists()


def test_every_format_is_offered_and_says_beforehand_what_it_does_not_carry(page, ada, answer):
    agree(page, ada, answer)
    for name in EXPORTS:
        told = texts(page.fire("export-format", "input", ada, name)["export-losses"])
        assert told, name
        made = page.fire("export-pairs", "click", ada, name)[-1]["download-pairs"]["value"]
        assert made.endswith(f"pairs-{name}.zip")
    assert "carries everything" in texts(page.fire("pairs-files", "expand", ada, "jsonl")["export-losses"])
    assert "1 correction:" in texts(page.fire("export-format", "input", ada, "rlaif-v")["export-losses"])
    assert {*FORMATS, DATASETS} == {*EXPORTS}


def test_a_file_of_another_format_is_told_by_its_columns(page, services, ada, answer, tmp_path):
    agree(page, ada, answer)
    services.corrections.export_to(ada, tmp_path / "out", "rlhf-v")
    [file] = (tmp_path / "out").rglob("*.parquet")
    said = texts(page.fire("import-pairs", "upload", ada, str(file), *NO_FILTERS)[-1]["pairs-files-status"])
    assert "1 pair taken in" in said and "Read as rlhf-v" in said
    nothing = tmp_path / "nothing.json"
    nothing.write_text('[{"a": 1}]')
    refused = page.fire("import-pairs", "upload", ada, str(nothing), *NO_FILTERS)[-1]["pairs-files-status"]
    assert refused[0][1]["role"] == "alert" and not nothing.exists()


def test_hostile_text_is_shown_as_it_is(page, ada, answer):
    hostile = "<img src=x onerror=alert(1)> ${x} {{value}} ` \u202e"
    document_ = SpanEditor.document(
        answer.text, answer.answer_id, [{"start": 0, "end": 8, "replacement": hostile, "kind": "object"}]
    )
    page.fire("terms-agree", "click", ada, document_, [], 0, hostile[:60], "cc-by-4.0", False, "save")
    shown = page.fire("pairs-search", "change", ada, ("before",), *NO_FILTERS)
    assert hostile in texts(shown["pairs-list"]) and hostile[:60] in texts(shown["pair-record"])


def test_a_pair_is_erased_after_it_was_asked(page, services, ada, answer):
    agree(page, ada, answer)
    [pair] = services.corrections.mine(ada)
    asked = page.fire("pair-heading", "select", ada, 0, *NO_FILTERS, data={"act": "ask-erase", "ref": pair.id})
    assert "1 pair" in texts(asked["pairs-status"]) and "Nothing brings them back" in texts(asked["pairs-status"])
    assert services.corrections.mine(ada) == [pair], "asking takes nothing away"
    gone = page.fire("pairs-status", "edit", ada, 0, *NO_FILTERS, data={"act": "erase", "ref": pair.id})
    assert "Erased here" in texts(gone[-1]["pairs-status"]) and "backups" in texts(gone[-1]["pairs-status"])
    assert services.corrections.mine(ada) == [] and "No pairs yet." in texts(gone[-1]["pairs-list"])
    with pytest.raises(NotFound):
        services.corrections.history(ada, pair.id)


def test_who_does_not_manage_erases_nothing(page, services, ada, answer):
    agree(page, ada, answer)
    [pair] = services.corrections.mine(ada)
    stranger = replace(ada, rights=ada.rights - {"manage"})
    shown = page.fire("pairs-list", "select", stranger, 0, *NO_FILTERS, data={"act": "open", "ref": pair.id})
    assert "Erase" not in texts(shown["pair-heading"])
    gone = page.fire("pairs-status", "edit", stranger, 0, *NO_FILTERS, data={"act": "erase", "ref": pair.id})
    assert "the right 'manage'" in texts(gone[-1]["pairs-status"]) and services.corrections.mine(ada) == [pair]
