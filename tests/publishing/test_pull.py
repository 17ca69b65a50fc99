"""Both sides change: what a pull joins, what it refuses, and that nothing is lost on the way."""

import pytest

from rlhfv.errors import NotFound
from rlhfv.publishing.pusher import HandEdited
from rlhfv.publishing.schema import FEATURES
from rlhfv.publishing.shards import read_shard, write_shard
from tests.publishing.conftest import REPO
from tests.publishing.test_push import answers, remote_rows

SHARD = "data/train-00000.parquet"


@pytest.fixture
def edit_there(hub, tmp_path):
    """`edit_there(change)` lets Bob rewrite the rows of the first shard by hand: `change(rows)` gives the new ones."""

    def edit(change, path=SHARD, part="pairs"):
        file = tmp_path / "by_hand.parquet"
        file.write_bytes(hub.file(REPO, path))
        rows = change(list(read_shard(file)))
        write_shard(file, rows, FEATURES[part])
        return hub.commit_as("bob", REPO, {path: file.read_bytes()})

    return edit


def recolour(id: str, colour: str):
    """Bob gives a pair another colour, text and span alike."""

    def change(rows):
        for row in rows:
            if row["id"] == id:
                (segment,) = row["segments"]
                end = segment["chosen_start"] + len(colour)
                text = row["chosen"][0]["content"]
                row["chosen"][0]["content"] = text[: segment["chosen_start"]] + colour + text[segment["chosen_end"] :]
                segment.update(chosen_text=colour, chosen_end=end)
        return rows

    return change


def settled(hub, bench, tmp_path):
    assert bench.published.waiting(REPO).total == 0
    assert answers(remote_rows(hub, tmp_path)) == {pair.id: pair.chosen for pair in bench.store.all_pairs()}


def test_a_change_by_hand_becomes_a_revision(hub, bench, push, pull, edit_there, tmp_path):
    bench.add(1, 2)
    push(bench)
    edit_there(recolour("pair-1", "teal"))
    with pytest.raises(HandEdited):
        push(bench)
    pulled = pull(bench)
    assert (pulled.changed, pulled.new, pulled.conflicts, pulled.removed) == (1, 0, 0, 0)
    assert bench.store.pair("pair-1").chosen.startswith("A teal")
    assert [one.pair.edits[0].replacement for one in bench.store.history("pair-1")] == ["blue", "teal"]
    settled(hub, bench, tmp_path)
    assert bench.store.undo("pair-1", "Ann Lee").pair.chosen.startswith("A blue")
    push(bench)
    settled(hub, bench, tmp_path)


def test_what_changed_only_here_still_waits(hub, bench, push, pull, edit_there, tmp_path):
    bench.add(1, 2, 3)
    push(bench)
    edit_there(recolour("pair-1", "teal"))
    bench.add(2, colour="green")
    bench.store.delete("pair-3", "Ann Lee")
    bench.add(4)
    pulled = pull(bench)
    assert (pulled.changed, pulled.conflicts) == (1, 0)
    pushed = push(bench)
    assert (pushed.added, pushed.changed, pushed.removed) == (1, 1, 1)
    settled(hub, bench, tmp_path)


def test_when_both_changed_a_row_both_are_kept(hub, bench, push, pull, edit_there, tmp_path):
    bench.add(1, 2)
    push(bench)
    edit_there(lambda rows: recolour("pair-2", "pink")(recolour("pair-1", "teal")(rows)))
    bench.add(1, colour="green")
    bench.store.delete("pair-2", "Ann Lee")
    pulled = pull(bench)
    assert (pulled.conflicts, pulled.changed) == (2, 0)
    history = [one.pair and one.pair.edits[0].replacement for one in bench.store.history("pair-1")]
    assert history == ["blue", "green", "teal", "green"]
    history = [one.pair and one.pair.edits[0].replacement for one in bench.store.history("pair-2")]
    assert history == ["blue", None, "pink", None]
    assert pull(bench).conflicts == 0 and len(bench.store.history("pair-1")) == 4
    pushed = push(bench)
    assert (pushed.changed, pushed.removed) == (1, 1)
    settled(hub, bench, tmp_path)


def test_rows_added_and_taken_out_by_hand(hub, bench, push, pull, edit_there, tmp_path):
    bench.add(1, 2, 3)
    bench.judge("j1")
    bench.judge("j2")
    push(bench)

    def change(rows):
        kept = [row for row in rows if row["id"] == "pair-3"]
        return [*kept, {**kept[0], "id": "by-hand", "revision": None, "updated_at": None}]

    edit_there(change)
    edit_there(lambda rows: rows[:1], "judgements/train-00000.parquet", "judgements")
    bench.add(2, colour="green")
    pulled = pull(bench)
    assert (pulled.new, pulled.removed) == (1, 2)
    assert {pair.id for pair in bench.store.all_pairs()} == {"pair-2", "pair-3", "by-hand"}
    push(bench)
    settled(hub, bench, tmp_path)
    assert set(remote_rows(hub, tmp_path, part="judgements")) == {"j1"}


def test_broken_rows_are_named_and_block_the_push(hub, bench, other, push, pull, edit_there, tmp_path):
    bench.add(1, 2, 3)
    push(bench)

    def change(rows):
        rows[0]["chosen"] = []
        return [*rows, {**rows[1]}]

    edit_there(change)
    pulled = pull(other)
    assert pulled.new == 2
    assert [(problem.row, problem.file) for problem in pulled.problems] == [(1, SHARD), (4, SHARD)]
    with pytest.raises(HandEdited):
        push(other)
    edit_there(lambda rows: rows[1:3])
    assert pull(other).problems == ()
    push(other)
    settled(hub, other, tmp_path)


@pytest.mark.parametrize("path", ["data/train-extra.parquet", "data/train-00001.parquet"])
def test_a_file_that_is_no_shard(hub, bench, push, pull, path):
    bench.add(1)
    push(bench)
    hub.commit_as("bob", REPO, {path: b"PAR1 no parquet"})
    (problem,) = pull(bench).problems
    assert path.rpartition("/")[2] in str(problem)
    with pytest.raises(HandEdited):
        push(bench)


def test_a_pull_survives_faults(hub, bench, other, push, pull, transport, waits, tmp_path):
    bench.add(1, 2)
    push(bench)
    for drop in ("before", "after", "reply"):
        hub.fail("GET /api/datasets/ann/pairs$", drop=drop)
        hub.fail("HEAD .*/resolve/", drop=drop)
        hub.fail("GET .*/resolve/" if transport == "lfs" else "GET .*/xet-read-token/", drop=drop)
    hub.fail("GET .*/tree/", status=503, times=9)
    assert pull(other).new == 2
    settled(hub, other, tmp_path)


def test_nothing_there(hub, bench, pull):
    with pytest.raises(NotFound, match="no data set"):
        pull(bench)


def test_a_strangers_private_data_set_is_not_seen(hub, bench, other, push, pull):
    from rlhfv.publishing.token import Token

    bench.add(1)
    push(bench)
    with pytest.raises(NotFound):
        pull(other, Token(hub.user("eve")))


def test_pictures_are_cleaned_on_the_way_in(hub, bench, other, push, pull, edit_there):
    import io

    from PIL import Image

    def change(rows):
        buffer = io.BytesIO()
        picture = Image.open(io.BytesIO(rows[0]["images"][0]["bytes"]))
        exif = Image.Exif()
        exif[0x010E] = "GPS of my house"
        picture.save(buffer, "JPEG", exif=exif)
        rows[0]["images"] = [{"bytes": buffer.getvalue(), "path": "house.jpg"}]
        return rows

    bench.add(1)
    push(bench)
    edit_there(change)
    pull(other)
    (name,) = other.store.pair("pair-1").prompt.images
    assert b"my house" not in other.shelf.path(name).read_bytes()
