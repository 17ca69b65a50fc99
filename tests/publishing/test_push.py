"""Create, push, edit, delete, pull, against a Hub, with the real client on both transports."""

import pytest

from rlhfv.corrections.published import Waiting
from rlhfv.publishing.shards import read_shard
from tests.publishing.conftest import REPO


def remote_rows(hub, tmp_path, repo=REPO, part="data", revision="main") -> dict[str, dict]:
    """The rows on the Hub by id; fails when one stands there twice."""
    rows = {}
    for path in hub.paths(repo, revision):
        if path.startswith(f"{part}/train-"):
            file = tmp_path / "read.parquet"
            file.write_bytes(hub.file(repo, path, revision))
            for row in read_shard(file):
                assert row["id"] not in rows, f"{row['id']} stands twice"
                rows[row["id"]] = row
    return rows


def answers(rows: dict[str, dict]) -> dict[str, str]:
    return {id: row["chosen"][0]["content"] for id, row in rows.items()}


def test_the_whole_way(hub, bench, other, push, pull, transport, tmp_path, waits):
    bench.add(1, 2, 3)
    bench.judge("j1")
    assert bench.published.waiting(REPO) == Waiting(added=3, judgements=1)
    first = push(bench)
    assert (first.added, first.judgements, first.changed) == (3, 1, 0)
    assert hub.repo(REPO).private
    assert bench.published.waiting(REPO).total == 0
    assert set(hub.paths(REPO)) == {
        ".gitattributes",
        "README.md",
        "data/train-00000.parquet",
        "judgements/train-00000.parquet",
    }
    sent = len(hub.requests_to("/commit/"))
    again = push(bench)
    assert again.commit == first.commit and again.added == 0
    assert len(hub.requests_to("/commit/")) == sent

    bench.add(2, colour="green")
    bench.store.delete("pair-1", "Ann Lee")
    bench.add(4)
    assert bench.published.waiting(REPO) == Waiting(added=1, changed=1, removed=1)
    second = push(bench)
    assert (second.added, second.changed, second.removed) == (1, 1, 1)
    assert hub.commits(REPO)[0].oid == second.commit and hub.commits(REPO)[0].parents == (first.commit,)
    rows = remote_rows(hub, tmp_path)
    assert answers(rows) == {pair.id: pair.chosen for pair in bench.store.all_pairs()}
    assert list(rows) == sorted(rows)
    assert rows["pair-2"]["revision"] == 2

    pulled = pull(other)
    assert (pulled.new, pulled.judgements, pulled.problems) == (3, 1, ())
    assert other.published.waiting(REPO).total == 0
    for pair in bench.store.all_pairs():
        found = other.store.pair(pair.id)
        assert (found.chosen, found.edits, found.prompt, found.revision) == (
            *(pair.chosen, pair.edits, pair.prompt, pair.revision),
        )
        for name in pair.prompt.images:
            assert other.shelf.path(name).read_bytes() == bench.shelf.path(name).read_bytes()
    assert push(other).commit == second.commit
    assert waits == []


def test_an_emptied_shard_stays(hub, bench, other, push, pull, tmp_path):
    bench.add(1)
    push(bench)
    bench.store.delete("pair-1", "Ann Lee")
    push(bench)
    assert "data/train-00000.parquet" in hub.paths(REPO) and remote_rows(hub, tmp_path) == {}
    assert pull(other).new == 0
    bench.store.undo("pair-1", "Ann Lee")
    push(bench)
    assert set(remote_rows(hub, tmp_path)) == {"pair-1"}


def test_an_empty_store_makes_an_empty_data_set(hub, bench, push):
    assert push(bench).added == 0
    assert "data/train-00000.parquet" in hub.paths(REPO)


def test_public_only_when_asked(hub, bench, push):
    bench.add(1)
    push(bench, repo="ann/open", private=False)
    assert not hub.repo("ann/open").private


@pytest.mark.parametrize("private", [True, False])
def test_an_existing_repository_stays_as_visible_as_it_is(hub, bench, push, ann, private):
    from huggingface_hub import HfApi

    HfApi(hub.endpoint, ann.secret).create_repo(REPO, repo_type="dataset", private=private)
    bench.add(1)
    push(bench, private=not private)
    assert hub.repo(REPO).private is private


def test_a_pair_keeps_its_shard_and_others_stay_untouched(hub, bench, push, monkeypatch):
    monkeypatch.setattr("rlhfv.corrections.published.SHARD_ROWS", 3)
    bench.add(*range(8))
    push(bench)
    shards = [f"data/train-{number:05}.parquet" for number in range(3)]
    before = [hub.file(REPO, path) for path in shards]
    bench.add(4, colour="green")
    bench.store.delete("pair-7", "Ann Lee")
    push(bench)
    after = [hub.file(REPO, path) for path in shards]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]
    bench.store.undo("pair-7", "Ann Lee")
    bench.add(4)
    push(bench)
    bench.add(9)
    push(bench)
    assert hub.paths(REPO) == [".gitattributes", "README.md", *shards, "judgements/train-00000.parquet"]


def test_rows_that_wait_for_review_stay_as_they_were_accepted(hub, bench, push, tmp_path):
    bench.add(1, 2)
    push(bench)
    bench.add(1, 3, colour="green")
    with bench.published._transaction() as connection:
        connection.execute("UPDATE pairs SET state = 'submitted' WHERE id IN ('pair-1', 'pair-3')")
    bench.add(2, colour="green")
    push(bench)
    assert [row["revision"] for row in remote_rows(hub, tmp_path).values()] == [1, 2]
    with bench.published._transaction() as connection:
        connection.execute("UPDATE pairs SET state = 'accepted' WHERE id = 'pair-1'")
        connection.execute("UPDATE pairs SET state = 'superseded' WHERE id = 'pair-2'")
    push(bench)
    assert {id: row["revision"] for id, row in remote_rows(hub, tmp_path).items()} == {"pair-1": 2}


def test_without_consent_or_licence_nothing_is_published(hub, bench, push, tmp_path):
    bench.add(1)
    bench.add(2, consent=False)
    bench.add(3, licence="not to be published")
    bench.add(4, licence="")
    bench.judge("j1", consent=False)
    bench.judge("j2", licence="")
    assert bench.published.waiting(REPO) == Waiting(added=1)
    assert bench.published.unpublishable() == {
        "no consent to publication": 1,
        "not to be published": 1,
        "no licence": 1,
    }
    push(bench)
    assert set(remote_rows(hub, tmp_path)) == {"pair-1"}
    assert remote_rows(hub, tmp_path, part="judgements") == {}
    bench.add(1, consent=False)
    assert push(bench).removed == 1
    assert remote_rows(hub, tmp_path) == {}


def test_names_are_pseudonyms_until_somebody_agrees(hub, bench, other, push, pull, tmp_path):
    bench.add(1, annotator="Ann Lee")
    bench.add(2, annotator="oracle")
    bench.add(3, annotator="")
    bench.judge("j1", annotator="Ann Lee")
    push(bench)
    shown = {id: row["provenance"]["annotator"] for id, row in remote_rows(hub, tmp_path).items()}
    assert shown["pair-2"] == "oracle" and shown["pair-3"] == "" and shown["pair-1"].startswith("annotator-")
    assert not hub.find("Ann Lee", history=True)
    assert remote_rows(hub, tmp_path, part="judgements")["j1"]["annotator"] == shown["pair-1"]
    bench.add(4, annotator="Ann Lee")
    push(bench)
    assert remote_rows(hub, tmp_path)["pair-4"]["provenance"]["annotator"] == shown["pair-1"]
    assert pull(bench).changed == 0
    pull(other)
    assert other.store.pair("pair-1").provenance.annotator == shown["pair-1"]
    assert push(other).changed == 0
    bench.published.set_named("Ann Lee", True)
    assert push(bench).changed == 2
    assert remote_rows(hub, tmp_path)["pair-1"]["provenance"]["annotator"] == "Ann Lee"
    bench.published.set_named("Ann Lee", False)
    push(bench)
    assert not hub.find("Ann Lee")


def test_a_missing_picture_leaves_its_pair_out_and_says_so(hub, bench, push, tmp_path):
    bench.add(1, 2)
    bench.shelf.path(bench.store.pair("pair-1").prompt.images[0]).unlink()
    pushed = push(bench)
    assert pushed.added == 1 and set(remote_rows(hub, tmp_path)) == {"pair-2"}
    ((id, reason),) = pushed.left_out
    assert id == "pair-1" and "picture" in reason
    assert bench.published.waiting(REPO).added == 1


def test_a_row_is_never_lost_with_its_picture(hub, bench, push, pull, tmp_path):
    from rlhfv.errors import InvalidData

    bench.add(1, 2)
    push(bench)
    bench.shelf.path(bench.store.pair("pair-1").prompt.images[0]).unlink()
    bench.add(2, colour="green")
    with pytest.raises(InvalidData, match="leaving it out would lose it"):
        push(bench)
    pull(bench)
    push(bench)
    assert answers(remote_rows(hub, tmp_path))["pair-2"].startswith("A green")


def test_progress_is_told(bench, push):
    bench.add(1)
    told = []
    push(bench, on_progress=lambda *step: told.append(step))
    stages = [stage for stage, _, _ in told]
    assert stages[0] == "creating the repository" and "building shards" in stages and stages[-1] == "done"


def test_judgements_follow_the_last_word(hub, bench, push, tmp_path):
    from dataclasses import replace

    first = bench.judge("j1", "skipped")
    bench.judge("j2", "tie", answers=2)
    push(bench)
    assert set(remote_rows(hub, tmp_path, part="judgements")) == {"j1", "j2"}
    bench.store.save(replace(first, id="j3", outcome="faithful"))
    push(bench)
    assert set(remote_rows(hub, tmp_path, part="judgements")) == {"j3", "j2"}
