"""The places of a copy: what was written is there, what was taken out is not, and a public one is refused."""

import pytest

from rlhfv.errors import InvalidData
from rlhfv.publishing.hub import Hub, HubBusy, HubRefused
from rlhfv.publishing.places import BucketPlace, DatasetPlace, FolderPlace
from rlhfv.publishing.token import Token


@pytest.fixture(params=["folder", "bucket", "dataset"])
def open_place(request, tmp_path):
    """`open_place()` opens the same place again and again, as each start does."""
    if request.param == "folder":
        return lambda: FolderPlace(tmp_path / "place")
    hub, connect = request.getfixturevalue("hub"), request.getfixturevalue("connect")
    token = hub.user("ann")
    connect(token)
    kind = BucketPlace if request.param == "bucket" else DatasetPlace
    return lambda: kind(Hub(Token(token), hub.endpoint), "ann/kept")


def test_a_place_keeps_what_it_was_given(open_place, tmp_path):
    place = open_place()
    place.prepare()
    assert place.names("log/") == {} == place.names("images/")
    (tmp_path / "a.png").write_bytes(b"\x89PNG" + bytes(range(256)))
    place.write({"log/1/claim": b"claimed\n"})
    place.write({"images/a.png": tmp_path / "a.png", "log/1/2.part": b"\x1f\x8b" + b"0" * 4000})
    again = open_place()
    again.prepare()
    assert again.names("log/") == {"log/1/claim": 8, "log/1/2.part": 4002}
    assert again.names("images/") == {"images/a.png": 260}
    again.fetch(["images/a.png", "log/1/2.part"], tmp_path / "out")
    assert (tmp_path / "out/images/a.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    assert (tmp_path / "out/log/1/2.part").read_bytes() == b"\x1f\x8b" + b"0" * 4000
    place.write({"log/1/3.part": b"3"}, ["images/a.png", "log/1/2.part"])
    place.forget()
    assert place.names("log/") == {"log/1/claim": 8, "log/1/3.part": 1} and place.names("images/") == {}
    place.write({})


def test_what_was_taken_out_of_a_data_set_is_in_no_commit(hub, connect):
    token = hub.user("ann")
    connect(token)
    place = DatasetPlace(Hub(Token(token), hub.endpoint), "ann/kept")
    place.prepare()
    place.write({"log/1/1.whole": b"a secret of somebody"})
    place.write({"log/1/2.whole": b"without it"}, ["log/1/1.whole"])
    assert hub.find("a secret", history=True)
    place.forget()
    assert hub.find("a secret", history=True) == [] and hub.find("without it")
    assert hub.repo("ann/kept").private


@pytest.mark.parametrize("kind", [BucketPlace, DatasetPlace])
def test_a_public_place_is_refused_and_so_is_one_of_somebody_else(hub, connect, kind):
    ann, bob = hub.user("ann"), hub.user("bob")
    api = connect(ann)
    if kind is BucketPlace:
        api.create_bucket("ann/open", private=False)
    else:
        api.create_repo("ann/open", repo_type="dataset", private=False)
    with pytest.raises(InvalidData, match="ann/open is public"):
        kind(Hub(Token(ann), hub.endpoint), "ann/open").prepare()
    with pytest.raises(HubRefused):
        kind(Hub(Token(bob), hub.endpoint), "ann/other").prepare()


def test_a_data_set_that_holds_other_things_is_left_alone(hub, connect):
    token = hub.user("ann")
    connect(token).create_repo("ann/pairs", repo_type="dataset", private=True)
    hub.commit_as("ann", "ann/pairs", {"data/train-00000.parquet": b"x"})
    with pytest.raises(InvalidData, match="holds something else, such as data/train"):
        DatasetPlace(Hub(Token(token), hub.endpoint), "ann/pairs").prepare()


def test_a_hub_that_is_away_is_busy_and_no_error_of_the_caller(hub, connect):
    token = hub.user("ann")
    connect(token)
    place = BucketPlace(Hub(Token(token), hub.endpoint), "ann/kept")
    place.prepare()
    hub.fail("POST .*/batch", status=503, times=None)
    hub.stop()
    with pytest.raises(HubBusy):
        place.names("log/")
    hub.start()
    hub.heal()


def test_pictures_are_handed_over_by_their_paths(open_place, tmp_path, monkeypatch):
    """Fifty of them at a time may be more than the memory holds."""
    place = open_place()
    place.prepare()
    (tmp_path / "a.png").write_bytes(b"\x89PNG" + bytes(range(256)))
    read, do = [], type(tmp_path).read_bytes
    monkeypatch.setattr(type(tmp_path), "read_bytes", lambda path: (read.append(path), do(path))[1])
    place.write({"images/a.png": tmp_path / "a.png"})
    assert tmp_path / "a.png" not in read
    assert place.names("images/") == {"images/a.png": 260}
