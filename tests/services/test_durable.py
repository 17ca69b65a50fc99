"""The copy that outlives the disk: what "saved" means, and that an empty disk gets everything back."""

import gzip
import shutil
import threading
import time
import uuid

import pytest

from rlhfv.corrections import mounts
from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.images import IMAGE_NAME
from rlhfv.errors import InvalidData, StoreUnavailable
from rlhfv.publishing import places
from rlhfv.publishing.hub import HubRefused
from rlhfv.publishing.places import BucketPlace, DatasetPlace, FolderPlace
from rlhfv.services import build_services
from rlhfv.services import durable as module
from rlhfv.services.actor import Actor
from rlhfv.services.durable import Durable
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings, Space

ADA = Actor("a" * 32)
OWNER = Actor("o" * 32)
TEXT = "There is a red fork on the table."


class Studio:
    """A studio on a disk of its own whose copy lies at `place`; `correct` is what a visitor does."""

    def __init__(self, folder, place, **settings):
        self.folder, self.count = folder, 0
        settings = {"single_user": False, "space": Space("ann/studio", "ann")} | settings
        self.services = build_services(Settings(data_dir=folder, durable=place, **settings))
        self.durable, self.store = self.services.durable, self.services.store

    def start(self):
        (self.folder / "visitors.key").write_bytes(b"k" * 32)
        self.durable.start()
        return self

    def answer(self, who=ADA, picture=None):
        self.count += 1
        shelf = self.services.corrections.shelf
        images = (shelf.intake(picture).name,) if picture else ()
        answer = Answer(
            uuid.uuid4().hex,
            Prompt("What is on the table?", images),
            TEXT,
            ModelIdentity("scripted", "0" * 40),
            Sampling(),
            who.visitor,
            "2026-11-22T10:00:00+00:00",
        )
        self.store.add_answer(answer)
        return answer

    def correct(self, word="spoon", who=ADA, picture=None, answer=None):
        if (house := self.services.corrections.consent.missing(who)) is not None:
            self.services.corrections.consent.agree(who, house.version)
        if self.services.corrections.terms(who) is None:
            self.services.corrections.set_terms(who, Terms("cc0-1.0", True, "Ada"))
        answer = answer or self.answer(who, picture)
        return self.services.corrections.save(who, answer.id, TEXT, [Edit(15, 19, word, "object")])

    def pairs(self):
        return {pair.id: pair.chosen for pair in self.store.all_pairs()}


@pytest.fixture
def open_studio(tmp_path, monkeypatch):
    """`open_studio(name)` is a studio on the disk of that name; the same folder keeps the copies of all."""
    opened = []
    (tmp_path / "mounts").write_text(f"hf-mount {tmp_path}/bucket fuse rw 0 0\n", encoding="utf-8")
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(places, "MOUNT_SETTLES", 0.0)

    def open_studio(name, place=tmp_path / "bucket", start=True, **settings):
        opened.append(Studio(tmp_path / name, place, **settings))
        return opened[-1].start() if start else opened[-1]

    monkeypatch.setattr(module, "SECONDS_TO_CONFIRM", 5.0)
    yield open_studio
    for studio in opened:
        studio.durable.close()


@pytest.fixture
def tired(monkeypatch):
    """While it is set, every call of a folder fails."""
    away = threading.Event()

    def tire(do):
        def tired(*given):
            if away.is_set():
                raise OSError("the network is gone")
            return do(*given)

        return tired

    for name in ("prepare", "names", "fetch", "write"):
        monkeypatch.setattr(FolderPlace, name, tire(getattr(FolderPlace, name)))
    return away


def _until(reached, seconds=20):
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.02)


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
    _until(lambda: studio.durable.confirm(10) == "")
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
    _until(lambda: studio.durable.confirm(10) == "")
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


# ---- a restart on an empty disk


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


# ---- two at a time, and what is not ours


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
    _until(lambda: len(list(logs.rglob("*.whole"))) == 1)
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


def test_nobody_else_on_the_machine_can_read_the_copy(open_studio, tmp_path, picture):
    (tmp_path / "bucket/studio").mkdir(parents=True)
    one = open_studio("one")
    one.correct("spoon", picture=picture)
    top = tmp_path / "bucket/studio"
    assert top.stat().st_mode & 0o077 == 0
    assert [file for file in top.rglob("*") if file.is_file() and file.stat().st_mode & 0o077] == []


def test_a_part_that_is_not_whole_was_never_confirmed(open_studio, tmp_path):
    one = open_studio("one")
    one.correct("spoon")
    one.durable.close()
    (log,) = (tmp_path / "bucket/studio/log").iterdir()
    (log / "00000099.part").write_bytes(gzip.compress(b"half")[:10])
    assert len(open_studio("two").pairs()) == 1


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
    _until(lambda: one.durable.confirm(10) == "")
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
    _until(lambda: one.durable.confirm(20) == "")


def test_a_token_that_may_not_is_told_at_the_start(hub, connect, tmp_path):
    connect(hub.user("ann", "read"))
    with pytest.raises(HubRefused):
        Studio(tmp_path / "one", "hf://buckets/ann/kept")


def test_places_of_settings(hub, connect, tmp_path):
    connect(hub.user("ann"))
    for text, kind in (("hf://buckets/a/b", BucketPlace), ("hf://datasets/a/b", DatasetPlace)):
        place = Durable(Settings(data_dir=tmp_path, durable=text))._place
        assert isinstance(place, kind) and place.title.endswith(" a/b")
