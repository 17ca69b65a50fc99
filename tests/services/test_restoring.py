"""An empty disk gets everything back from the copy, and what is torn or another's is never taken for it."""

import gzip
import threading
import time

import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.errors import InvalidData, StoreUnavailable
from rlhfv.services import build_services
from rlhfv.services import durable as module
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings
from tests.services.copied_studio import ADA, OWNER, TEXT, Studio, wait_until


def test_everything_that_matters_comes_back(open_studio, tmp_path, picture):
    one = open_studio("one", single_user=False)
    corrections = one.services.corrections
    kept = one.correct("spoon", picture=picture)
    deleted, undone, gone = (one.correct(word) for word in ("cup", "plate", "knife"))
    corrections.delete(ADA, deleted.pair_id)
    answer = one.answer()
    one.correct("bowl", answer=answer)
    revised = one.correct("glass", answer=answer)
    corrections.undo(ADA, undone.pair_id)
    corrections.delete(ADA, gone.pair_id)
    corrections.undelete(ADA, gone.pair_id)
    corrections.faithful(ADA, one.answer().id)
    one.store.remember("shared/" + "x" * 22, {"image": "", "said": []})
    one.store.remember("shared/" + "y" * 22, {"image": "", "said": []})
    one.store.forget("shared/" + "y" * 22)
    assert one.durable.confirm(5) == ""

    two = open_studio("two")
    assert two.pairs() == one.pairs() and two.pairs().keys() == {kept.pair_id, revised.pair_id, gone.pair_id}
    for id in (kept, deleted, undone, gone, revised):
        assert two.store.history(id.pair_id) == one.store.history(id.pair_id)
    assert two.store.judgements() == one.store.judgements()
    assert two.services.corrections.terms(ADA) == Terms("cc0-1.0", True, "Ada")
    assert two.services.corrections.consent.missing(ADA) is None
    assert two.services.corrections.agreement(ADA, kept.pair_id) == corrections.agreement(ADA, kept.pair_id)
    assert two.store.recall("shared/" + "x" * 22) and two.store.recall("shared/" + "y" * 22) is None
    assert two.store.find_pairs("spoon").total == 1
    (name,) = two.store.pair(kept.pair_id).prompt.images
    assert (
        two.services.corrections.shelf.path(name).read_bytes()
        == one.services.corrections.shelf.path(name).read_bytes()
    )
    assert (tmp_path / "two" / "visitors.key").read_bytes() == b"k" * 32
    assert (tmp_path / "two" / "visitors.key").stat().st_mode & 0o077 == 0
    # And it goes on from there: a third start has what the second one added.
    assert two.correct("pan").message.startswith("Saved")
    assert open_studio("three").pairs() == two.pairs()


def test_a_correction_can_go_on_after_the_restart(open_studio):
    one = open_studio("one")
    answer = one.answer()
    one.correct("spoon", answer=answer)
    two = open_studio("two")
    state = two.services.corrections.open(ADA, answer.id)
    assert state.edits == (Edit(15, 19, "spoon", "object"),) and state.original == TEXT
    assert two.correct("cup", answer=answer).revision == 2


def test_an_erased_correction_does_not_return_and_is_in_no_file_of_the_copy(open_studio, tmp_path, picture):
    one = open_studio("one")
    one.correct("spoon")
    secret = one.correct("secretword", answer=one.answer(picture=picture))
    (name,) = one.store.pair(secret.pair_id).prompt.images
    assert _find(tmp_path / "bucket", b"secretword") and list((tmp_path / "bucket").rglob(name))
    found = one.services.erasing.find(OWNER, [secret.pair_id])
    assert len(found.pairs) == 1
    one.services.erasing.erase(OWNER, [secret.pair_id])
    assert one.durable.confirm(5) == ""
    until = time.monotonic() + 5
    while _find(tmp_path / "bucket", b"secretword") and time.monotonic() < until:
        time.sleep(0.05)
    assert _find(tmp_path / "bucket", b"secretword") == [] and not list((tmp_path / "bucket").rglob(name))
    assert one.correct("bowl").message.startswith("Saved")
    two = open_studio("two")
    assert two.pairs() == one.pairs() and len(two.pairs()) == 2
    assert not two.store.has_pair(secret.pair_id)


def _find(folder, word):
    return [file for file in folder.rglob("*") if file.is_file() and word in _text(file)]


def _text(file):
    data = file.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def test_erased_by_another_process_while_the_app_was_down(open_studio, tmp_path):
    one = open_studio("one")
    secret = one.correct("secretword")
    one.durable.close()
    command_line = build_services(Settings(data_dir=tmp_path / "one"))
    command_line.erasing.erase(OWNER, [secret.pair_id])
    again = open_studio("one")
    assert again.durable.confirm(5) == ""
    again.durable.close()
    assert _find(tmp_path / "bucket", b"secretword") == []
    assert open_studio("two").pairs() == {}


def test_a_long_log_begins_anew(open_studio, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "MOST_PARTS", 3)
    one = open_studio("one")
    for number in range(9):
        one.correct(f"thing{number}")
    one.durable.close()
    assert (
        len(list((tmp_path / "bucket").rglob("*.part"))) <= 4
        and len(list((tmp_path / "bucket").rglob("*.whole"))) == 1
    )
    assert len(open_studio("two").pairs()) == 9


# ---- what others left there, whole or torn


def test_a_start_that_died_before_its_log_began_loses_nothing(open_studio, tmp_path):
    one = open_studio("one")
    one.correct("spoon")
    one.durable.close()
    open_studio("two", start=False)
    three = open_studio("three")
    assert len(three.pairs()) == 1 and three.correct("cup").message.startswith("Saved")
    again = open_studio("one", start=False)
    assert len(again.pairs()) == 1


def test_the_same_disk_goes_on(open_studio):
    one = open_studio("one")
    one.correct("spoon")
    one.durable.close()
    one.correct("cup")
    again = open_studio("one")
    assert again.correct("bowl").message.startswith("Saved")
    assert len(open_studio("two").pairs()) == 3


def test_the_work_of_another_studio_is_not_replaced(open_studio, tmp_path):
    open_studio("one").correct("spoon")
    other = Studio(tmp_path / "other", None)
    other.correct("cup")
    mixed = open_studio("other")
    said = mixed.correct("bowl").message
    assert said.startswith("On this machine only") and "another studio" in said
    assert list(open_studio("two").pairs().values()) == ["There is a red spoon on the table."]


def test_a_place_that_is_away_at_the_start_is_not_overwritten(open_studio, tired, monkeypatch):
    open_studio("one").correct("spoon")
    monkeypatch.setattr(module, "SECONDS_TO_RESTORE", 0.6)
    tired.set()
    two = open_studio("two", space=None)
    assert two.pairs() == {}
    tired.clear()
    said = two.correct("cup").message
    assert said.startswith("On this machine only") and "another studio" in said
    assert list(open_studio("three").pairs().values()) == ["There is a red spoon on the table."]


def test_a_space_waits_for_its_place_and_does_not_start_empty(open_studio, tired, monkeypatch, tmp_path):
    """With a new key of the cookies all visitors would lose their corrections."""
    open_studio("one").correct("spoon")
    monkeypatch.setattr(module, "SECONDS_TO_RESTORE_SPACE", 0.6)
    tired.set()
    with pytest.raises(StoreUnavailable, match=r"not started: the folder .* could not be reached") as refused:
        open_studio("two")
    assert "the network is gone" in refused.value.why and "Restart the Space" in refused.value.fix
    assert list((tmp_path / "two").iterdir()) == [], "neither a store nor a key"
    monkeypatch.setattr(module, "SECONDS_TO_RESTORE_SPACE", 20)
    threading.Timer(0.3, tired.clear).start()
    assert len(open_studio("two", start=False).pairs()) == 1
    assert (tmp_path / "two/visitors.key").read_bytes() == b"k" * 32


def test_a_log_that_cannot_be_read_stops_the_start(open_studio, tmp_path):
    one = open_studio("one")
    one.correct("spoon")
    one.durable.close()
    (whole,) = (tmp_path / "bucket").rglob("*.whole")
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidData, match="cannot be read"):
        open_studio("two")
    assert not (tmp_path / "two" / "studio.sqlite3").exists()
    whole.write_bytes(data)
    assert len(open_studio("three").pairs()) == 1


@pytest.mark.parametrize("left", [0, 7, 60])
def test_a_start_that_was_killed_while_it_wrote_its_log_stops_no_other(open_studio, tmp_path, left):
    """A mounted bucket may keep half of a file whose writer was killed."""
    one = open_studio("one")
    one.correct("spoon")
    one.durable.close()
    logs = tmp_path / "bucket/studio/log"
    (whole,) = logs.rglob("*.whole")
    torn = logs / "000007-0123456789abcdef"
    torn.mkdir()
    (torn / "claim").write_bytes(b"claimed\n")
    (torn / "00000001.whole").write_bytes(whole.read_bytes()[:left])
    two = open_studio("two")
    assert two.pairs() == one.pairs() and len(two.pairs()) == 1
    assert two.correct("cup").message.startswith("Saved")
    wait_until(lambda: len(list(logs.rglob("*.whole"))) == 1)
    assert not list(torn.glob("*.whole")), "the next log takes it away"
    assert len(open_studio("three").pairs()) == 2


def test_a_log_that_was_killed_while_it_began_anew_is_read_from_where_it_began_before(open_studio, tmp_path):
    one = open_studio("one")
    one.correct("spoon")
    one.correct("cup")
    one.durable.close()
    (whole,) = (tmp_path / "bucket").rglob("*.whole")
    torn = whole.with_name("00000090.whole")
    torn.write_bytes(whole.read_bytes()[:50])
    two = open_studio("two")
    assert two.pairs() == one.pairs() and len(two.pairs()) == 2
    assert two.durable.confirm() == ""
    two.durable.close()
    assert not torn.exists()


def test_a_whole_one_that_something_was_written_after_is_never_passed_over(open_studio, tmp_path):
    one = open_studio("one")
    one.correct("spoon")
    one.durable.close()
    (whole,) = (tmp_path / "bucket").rglob("*.whole")
    later = whole.parents[1] / "000009-0123456789abcdef"
    later.mkdir()
    (later / "00000001.whole").write_bytes(whole.read_bytes()[:50])
    (later / "00000002.part").write_bytes(whole.read_bytes())
    with pytest.raises(InvalidData, match=r"00000001\.whole in the folder .* cannot be read"):
        open_studio("two")


def test_a_picture_that_is_torn_at_the_place_is_sent_again(open_studio, tmp_path, picture):
    one = open_studio("one")
    saved = one.correct("spoon", picture=picture)
    one.durable.close()
    (name,) = one.store.pair(saved.pair_id).prompt.images
    there = tmp_path / "bucket/studio/images" / name
    data = there.read_bytes()
    there.write_bytes(data[:20])
    again = open_studio("one")
    assert again.correct("cup").message.startswith("Saved")
    assert there.read_bytes() == data


def test_a_part_that_is_not_whole_was_never_confirmed(open_studio, tmp_path):
    one = open_studio("one")
    one.correct("spoon")
    one.durable.close()
    (log,) = (tmp_path / "bucket/studio/log").iterdir()
    (log / "00000099.part").write_bytes(gzip.compress(b"half")[:10])
    assert len(open_studio("two").pairs()) == 1
