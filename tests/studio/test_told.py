"""What the page says of an act that the copy does not have yet: a restart would take it back."""

import pytest

from rlhfv.publishing.places import FolderPlace
from rlhfv.services.durable import Durable
from tests.studio.conftest import texts
from tests.studio.test_pairs_loop import NO_FILTERS, agree, answer, document  # noqa: F401

LATER = "On this machine only: the copy is not made yet."


@pytest.fixture
def late(services, monkeypatch, tmp_path):
    """From `late()` on no copy is made in time."""

    def late():
        monkeypatch.setattr(services.durable, "_place", FolderPlace(tmp_path))
        monkeypatch.setattr(Durable, "confirm", lambda self: "the copy is not made yet.")

    return late


def test_judgements_and_terms_say_what_is_not_copied_yet(page, ada, answer, late):  # noqa: F811
    agree(page, ada, answer)
    late()
    for event, *values in (("nothing-wrong",), ("skip", "not sure")):
        shown = page.fire(event, "click", ada, document(answer), *values)
        assert LATER in texts(shown["correct-message"])
        shown = page.fire(
            "correct-message", "select", ada, document(answer), data={"act": "reopen", "ref": answer.answer_id}
        )
        assert LATER in texts(shown["correct-message"])
    shown = page.fire("terms-agree", "click", ada, document(answer), [], 3, "Ada", "cc0-1.0", False, "")
    assert LATER in texts(shown["correct-message"])
    shown = page.fire("left-column", "select", ada, data={"act": "faithful", "ref": answer.answer_id})
    assert LATER in texts(shown["votes"])


def test_a_public_link_that_is_withdrawn_says_that_it_may_come_back(page, services, ada, answer, late):  # noqa: F811
    link = services.sharing.publish(ada, services.sharing.comparison(ada).mark)
    quiet = page.fire("share", "select", ada, data={"act": "withdraw", "ref": link})
    assert quiet["problem"] == "" and quiet["links"] == []
    link = services.sharing.publish(ada, services.sharing.comparison(ada).mark)
    late()
    shown = page.fire("share", "select", ada, data={"act": "withdraw", "ref": link})
    assert shown["problem"] == f"The link is withdrawn. {LATER}" and shown["links"] == []


def test_a_file_that_was_imported_says_what_is_not_copied_yet(page, services, ada, answer, late, tmp_path):  # noqa: F811
    agree(page, ada, answer)
    services.corrections.export_to(ada, tmp_path / "out", "jsonl")
    late()
    (file,) = (tmp_path / "out").glob("*.jsonl")
    shown = page.fire("import-pairs", "upload", ada, str(file), *NO_FILTERS)[-1]
    assert LATER in texts(shown["pairs-files-status"])


def test_the_name_in_published_data_says_what_is_not_copied_yet(page, ada, answer, late):  # noqa: F811
    agree(page, ada, answer)
    for wanted in (True, False):
        assert LATER not in texts(page.fire("publish-named", "input", ada, wanted, "", None)["publish-message"])
    late()
    assert LATER in texts(page.fire("publish-named", "input", ada, False, "", None)["publish-message"])
