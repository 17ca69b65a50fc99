"""The copy that outlives the disk: what "saved" means, and who may write it."""

import shutil
import threading
import time

import pytest

from rlhfv.corrections.images import IMAGE_NAME
from rlhfv.publishing import places
from rlhfv.publishing.hub import HubRefused
from rlhfv.publishing.places import BucketPlace, DatasetPlace, FolderPlace
from rlhfv.services import durable as module
from rlhfv.services.actor import Actor
from rlhfv.services.durable import Durable
from rlhfv.settings import Settings
from tests.services.copied_studio import ADA, OWNER, Studio, wait_until

# ---- what "saved" means


def test_on_a_machine_of_ones_own_the_disk_is_enough(tmp_path):
    studio = Studio(tmp_path / "data", None, space=None, single_user=True)
    assert studio.correct().message == "Saved: 1 correction, revision 1."
    assert studio.durable.keeps == ""


def test_a_space_without_a_place_never_says_saved(tmp_path):
    said = Studio(tmp_path / "data", None).correct().message
    assert said.startswith("On this machine only: 1 correction, revision 1.") and "Saved" not in said
    assert "when the Space restarts" in said


def test_a_folder_of_a_space_that_is_no_bucket_never_says_saved(tmp_path):
    """As in a Space that was duplicated: it has the variable and no bucket."""
    studio = Studio(tmp_path / "data", tmp_path / "folder").start()
    said = studio.correct().message
    assert said.startswith("On this machine only") and "no mounted bucket" in said
    studio.durable.close()
    assert Studio(tmp_path / "laptop", tmp_path / "other", space=None).start().correct().message.startswith("Saved")


def test_saved_is_said_when_the_copy_is_there(open_studio, tmp_path):
    studio = open_studio("one")
    assert studio.correct().message.startswith("Saved: 1 correction")
    shutil.rmtree(tmp_path / "one")
    assert len(open_studio("two").pairs()) == 1


def test_a_place_that_is_away_keeps_nobody_waiting_long_and_the_copy_follows(open_studio, tired, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_TO_CONFIRM", 0.3)
    studio = open_studio("one")
    assert studio.correct("cup").message.startswith("Saved")
    tired.set()
    begun = time.monotonic()
    said = studio.correct("spoon").message
    assert time.monotonic() - begun < 3
    assert said.startswith("On this machine only: 1 correction") and "tried again by itself" in said
    assert len(studio.pairs()) == 2
    tired.clear()
    wait_until(lambda: studio.durable.confirm(10) == "")
    assert studio.correct("knife").message.startswith("Saved")


def test_a_place_that_answers_late_holds_up_nobody(open_studio, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_TO_CONFIRM", 0.3)
    studio = open_studio("one")
    assert studio.durable.confirm(5) == ""
    held, do = threading.Event(), FolderPlace.write
    monkeypatch.setattr(FolderPlace, "write", lambda self, *given: (held.wait(20), do(self, *given)))
    begun = time.monotonic()
    assert studio.correct().message.startswith("On this machine only")
    assert time.monotonic() - begun < 3
    begun = time.monotonic()
    assert studio.durable.confirm(30).startswith("The copy in")
    assert time.monotonic() - begun < 3, "nobody waits long once somebody has"
    held.set()
    wait_until(lambda: studio.durable.confirm(10) == "")
    assert studio.correct("cup").message.startswith("Saved")


def test_an_erasure_that_looks_whether_it_is_done_says_nothing_about_the_place(open_studio, monkeypatch):
    one = open_studio("one")
    secret = one.correct("secretword")
    do = FolderPlace.write
    monkeypatch.setattr(FolderPlace, "write", lambda self, *given: (time.sleep(0.6), do(self, *given)))
    erasing = threading.Thread(target=one.services.erasing.erase, args=(OWNER, [secret.pair_id]))
    erasing.start()
    time.sleep(0.3)
    said = one.correct("cup").message
    erasing.join()
    assert said.startswith("Saved")


def test_the_end_is_tried_until_there_is_no_time_left(open_studio, tired):
    one = open_studio("one")
    assert one.correct("cup").message.startswith("Saved")
    tired.set()
    one.services.corrections.skip(ADA, one.answer().id, "unclear")
    threading.Timer(0.7, tired.clear).start()
    one.durable.close()
    assert len(open_studio("two").store.judgements()) == len(one.store.judgements()) > 0


def test_an_erasure_that_the_copy_does_not_have_yet_says_what_a_restart_does(open_studio, tired, monkeypatch):
    monkeypatch.setattr(Durable.confirm_erased, "__defaults__", (0.1,))
    one = open_studio("one")
    secret = one.correct("secretword")
    tired.set()
    unreached = one.services.erasing.erase(OWNER, [secret.pair_id]).unreached
    assert any("comes back: erase it again" in place for place in unreached)
    tired.clear()


def test_savers_who_come_together_share_a_copy(open_studio, monkeypatch):
    studio, do, written = open_studio("one"), FolderPlace.write, []
    assert studio.durable.confirm(5) == ""

    def slow(self, files, gone=()):
        time.sleep(0.2)
        written.append(files)
        return do(self, files, gone)

    monkeypatch.setattr(FolderPlace, "write", slow)
    said = []
    people = [Actor(f"{number:032x}") for number in range(12)]
    threads = [threading.Thread(target=lambda who=who: said.append(studio.correct(who=who).message)) for who in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 12 and all(one.startswith("Saved") for one in said)
    assert len(written) < 9


# ---- two at a time


def test_whoever_is_replaced_says_so_and_the_next_has_all_that_was_confirmed(open_studio):
    one = open_studio("one")
    one.correct("spoon")
    two = open_studio("two")
    assert two.durable.confirm(5) == ""
    said = one.correct("late").message
    assert said.startswith("On this machine only") and "Another app has taken over" in said
    assert one.correct("later").message.startswith("On this machine only")
    assert two.correct("cup").message.startswith("Saved")
    assert sorted(open_studio("three").pairs().values()) == sorted(two.pairs().values())
    assert len(two.pairs()) == 2


def test_a_claim_alone_stops_the_one_before(open_studio, tmp_path):
    """The successor reads what was confirmed before its claim, so nothing may be confirmed after it."""
    one = open_studio("one")
    one.correct("spoon")
    two = Durable(Settings(data_dir=tmp_path / "two", durable=tmp_path / "bucket"))
    two._claim()
    assert one.correct("late").message.startswith("On this machine only")
    assert two._read_log()
    assert len(open_studio("two").pairs()) == 2, "what was not confirmed may be there, what was has to be"


def test_a_mounted_bucket_is_given_time_before_it_is_read(open_studio, monkeypatch, tmp_path):
    """Two mounts see each other late: what the one before confirms until it sees the claim has to be found."""
    one = open_studio("one")
    one.correct("spoon")
    monkeypatch.setattr(places, "MOUNT_SETTLES", 1.0)
    monkeypatch.setattr(one.durable, "_logs", lambda: {})
    read = []
    starting = threading.Thread(target=lambda: read.append(open_studio("two", start=False)))
    starting.start()
    while len(list((tmp_path / "bucket").rglob("claim"))) < 2:
        time.sleep(0.01)
    assert one.correct("late").message.startswith("Saved")
    starting.join()
    assert read[0].pairs() == one.pairs() and len(one.pairs()) == 2


def test_nobody_else_on_the_machine_can_read_the_copy(open_studio, tmp_path, picture):
    (tmp_path / "bucket/studio").mkdir(parents=True)
    one = open_studio("one")
    one.correct("spoon", picture=picture)
    top = tmp_path / "bucket/studio"
    assert top.stat().st_mode & 0o077 == 0
    assert [file for file in top.rglob("*") if file.is_file() and file.stat().st_mode & 0o077] == []


# ---- the Hub


@pytest.mark.parametrize("kind", ["buckets", "datasets"])
def test_the_hub_keeps_it(hub, connect, open_studio, kind, picture):
    token = hub.user("ann")
    connect(token)
    place = f"hf://{kind}/ann/kept"
    one = open_studio("one", place)
    kept = one.correct("spoon", picture=picture)
    assert kept.message.startswith("Saved"), kept.message
    hub.fail("POST .*/(batch|commit/)", drop="reply")
    assert one.correct("cup").message.startswith(("Saved", "On this machine only"))
    wait_until(lambda: one.durable.confirm(10) == "")
    one.durable.close()
    two = open_studio("two", place)
    assert two.pairs() == one.pairs() and len(two.pairs()) == 2
    (name,) = two.store.pair(kept.pair_id).prompt.images
    assert IMAGE_NAME.fullmatch(name) and two.services.corrections.shelf.path(name).is_file()
    two.durable.close()
    assert hub.leaks == []


def test_a_hub_that_went_away_is_waited_for_and_not_by_people(hub, connect, open_studio, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_TO_CONFIRM", 0.5)
    connect(hub.user("ann"))
    one = open_studio("one", "hf://buckets/ann/kept")
    assert one.durable.confirm(10) == ""
    hub.stop()
    begun = time.monotonic()
    assert one.correct("spoon").message.startswith("On this machine only")
    assert time.monotonic() - begun < 3
    hub.start()
    wait_until(lambda: one.durable.confirm(20) == "")


def test_a_token_that_may_not_is_told_at_the_start(hub, connect, tmp_path):
    connect(hub.user("ann", "read"))
    with pytest.raises(HubRefused):
        Studio(tmp_path / "one", "hf://buckets/ann/kept")


def test_places_of_settings(hub, connect, tmp_path):
    connect(hub.user("ann"))
    for text, kind in (("hf://buckets/a/b", BucketPlace), ("hf://datasets/a/b", DatasetPlace)):
        place = Durable(Settings(data_dir=tmp_path, durable=text))._place
        assert isinstance(place, kind) and place.title.endswith(" a/b")
