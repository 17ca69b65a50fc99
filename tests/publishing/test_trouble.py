"""What breaks between here and the Hub, and what somebody changes there by hand."""

import threading
import time

import httpx2
import pytest
from huggingface_hub.utils import _http

from rlhfv.corrections.published import LeaseLost, Waiting
from rlhfv.publishing import hub as hub_module
from rlhfv.publishing.hub import Hub, HubBusy, HubMoved, HubRefused
from rlhfv.publishing.pusher import TRIES, HandEdited, hold_lease
from rlhfv.publishing.token import SignInNeeded, Token
from tests.publishing.conftest import REPO
from tests.publishing.test_push import answers, remote_rows

SHARD = "data/train-00000.parquet"
COMMIT = r"POST .*/commit/"


@pytest.fixture
def settled(hub, bench, push, tmp_path):
    """Remote equals local and nothing waits; gives the number of commits that the studio made."""

    def settled():
        push(bench)
        assert bench.published.waiting(REPO).total == 0
        assert answers(remote_rows(hub, tmp_path)) == {pair.id: pair.chosen for pair in bench.store.all_pairs()}
        return sum(commit.title.startswith(("Pairs", "Begin")) for commit in hub.commits(REPO))

    return settled


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500, "times": 3},
        {"status": 409},
        {"drop": "before"},
        {"drop": "after"},
        {"drop": "reply"},
    ],
    ids=str,
)
def test_a_broken_commit_is_made_once(hub, bench, push, settled, waits, fault):
    bench.add(1)
    push(bench)
    bench.add(2)
    hub.fail(COMMIT, **fault)
    pushed = push(bench)
    assert pushed.added == 1 and len(waits) == fault.get("times", 1)
    assert pushed.landed == (fault.get("drop") in ("after", "reply"))
    assert settled() == 2


def test_other_broken_requests(hub, bench, settled):
    bench.add(1)
    for route in ("POST .*/preupload/", "GET /api/datasets/ann/pairs$", "POST /api/repos/create"):
        for fault in ({"status": 502}, {"drop": "reply"}, {"drop": "before"}):
            hub.fail(route, **fault)
    assert settled() == 1


@pytest.mark.parametrize("drop", ["during", "reply"])
def test_broken_uploads(hub, bench, settled, transport, drop):
    bench.add(1)
    hub.fail("PUT /lfs-storage/" if transport == "lfs" else "GET .*/xet-write-token/", drop=drop)
    assert settled() == 1


def test_the_hub_says_how_long_to_wait(hub, bench, push, waits):
    bench.add(1)
    push(bench)
    bench.add(2)
    hub.fail(COMMIT, status=429, headers={"Retry-After": "17"})
    hub.fail(COMMIT, status=429, headers={"RateLimit": '"api";r=0;t=55'})
    push(bench)
    assert waits == [17, 55]
    bench.add(3)
    hub.fail(COMMIT, status=429, headers={"Retry-After": "4000"})
    with pytest.raises(HubBusy, match="in 4000 seconds") as error:
        push(bench)
    assert error.value.wait == 4000 and len(waits) == 2
    assert bench.published.waiting(REPO) == Waiting(added=1)


def test_after_many_tries_it_gives_up_and_loses_nothing(hub, bench, push, settled, waits):
    bench.add(1)
    hub.fail("GET /api/datasets", status=503, times=None)
    with pytest.raises(HubBusy, match="kept"):
        push(bench)
    assert len(waits) == TRIES - 1 and bench.published.waiting(REPO).added == 1
    hub.heal()
    assert settled() == 1


def test_no_hub_at_all(hub, bench, push, settled):
    bench.add(1)
    hub.stop()
    with pytest.raises(HubBusy):
        push(bench)
    hub.start()
    assert settled() == 1


def test_a_silent_hub_holds_nobody(hub, bench, push, settled, monkeypatch):
    bench.add(1)
    push(bench)
    bench.add(2)
    monkeypatch.setattr(hub_module, "SECONDS", 1)
    _http.close_session()  # the next request makes a client, with the shorter time
    hub.fail(COMMIT, delay=2)
    began = time.monotonic()
    pushed = push(bench)
    assert time.monotonic() - began < 20
    assert pushed.added == 1 and _http.get_session().timeout == httpx2.Timeout(1, connect=10)
    time.sleep(2)  # the late one comes through, or is refused
    assert settled() == 2
    _http.close_session()


# ---- rights


def test_no_token_is_nobodys_token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "m" * 34)
    for value in (None, "", "  ", True, False):
        with pytest.raises(SignInNeeded, match="Sign in to continue"):
            Token(value)
    assert "hf_" not in repr(Token("hf_" + "m" * 34))
    for value in (None, True, "hf_" + "m" * 34):
        with pytest.raises(TypeError):
            Hub(value)


@pytest.mark.parametrize(
    ("transport", "scopes", "named"),
    [
        ("lfs", "read", "'repo.write'"),
        ("xet", "read", "'repo.write'"),
        ("lfs", {"ann": ["repo.content.read"]}, "'repo.write'"),
        ("lfs", {}, "create repositories"),
    ],
    indirect=["transport"],
)
def test_a_missing_right_is_named(hub, bench, push, ann, waits, scopes, named, transport):
    bench.add(1)
    if scopes:
        push(bench, Token(hub.user("ann")))
        bench.add(2)
    with pytest.raises(HubRefused) as error:
        push(bench, Token(hub.user("ann", scopes)))
    assert named in str(error.value) and "403" in error.value.what
    assert waits == [] and bench.published.waiting(REPO).added == 1
    push(bench, ann)


def test_a_revoked_token(hub, bench, push):
    bench.add(1)
    secret = hub.user("ann")
    push(bench, Token(secret))
    hub.revoke(secret)
    bench.add(2)
    with pytest.raises(HubRefused, match="401"):
        push(bench, Token(secret))


def test_a_repository_that_is_gone_is_not_made_anew(hub, bench, push, ann):
    from huggingface_hub import HfApi

    bench.add(1)
    push(bench)
    HfApi(hub.endpoint, ann.secret).delete_repo(REPO, repo_type="dataset")
    bench.add(2)
    with pytest.raises(HubRefused, match="no ann/pairs any longer"):
        push(bench)
    assert push(bench, repo="ann/anew").added == 2


def test_errors_hold_no_token(hub, bench, push):
    secret = hub.user("ann")
    bench.add(1)
    hub.fail("GET /api/datasets", status=403, message=f"you sent Bearer {secret}")
    with pytest.raises(HubRefused) as error:
        push(bench, Token(secret))
    assert secret not in str(error.value) and "…" in str(error.value)
    assert error.value.__cause__ is None and error.value.__context__ is None
    hub.people._tokens.pop(secret)


def test_a_name_that_is_none(bench, push):
    from rlhfv.errors import InvalidData

    for name in ("pairs", "a/b/c", "ann/../x", "ann/pairs\n", "", "ann/--x", "ann pairs/x"):
        with pytest.raises(InvalidData, match="owner/name"):
            push(bench, repo=name)


# ---- other hands


def test_other_files_may_change(hub, bench, push, settled):
    bench.add(1)
    push(bench)
    hub.commit_as("bob", REPO, {"notes.txt": b"Read me.", "data/figures.csv": b"1,2"})
    bench.add(2)
    assert settled() == 2
    assert hub.file(REPO, "notes.txt") == b"Read me."


def test_the_owners_words_in_the_card_stay(hub, bench, push, settled):
    bench.add(1)
    push(bench)
    card = hub.file(REPO, "README.md").decode()
    card = card.replace("<!-- Written", "My own words.\n\n<!-- Written").replace("license:", "language: en\nlicense:")
    hub.commit_as("bob", REPO, {"README.md": card.encode()})
    bench.add(2)
    settled()
    written = hub.file(REPO, "README.md").decode()
    assert "My own words." in written and "language: en" in written and "Preference pairs | 2 |" in written


def test_somebody_commits_at_the_same_moment(hub, bench, push, settled, waits):
    bench.add(1)
    push(bench)
    bench.add(2)
    hub.fail("POST .*/preupload/", delay=0.5)

    def meddle():
        while not any(request.fault == "delay" for request in hub.requests):
            time.sleep(0.01)
        hub.commit_as("bob", REPO, {"notes.txt": b"Quick."})

    thread = threading.Thread(target=meddle)
    thread.start()
    push(bench)
    thread.join()
    assert len(waits) == 1
    assert [commit.author for commit in hub.commits(REPO)][:2] == ["ann", "bob"]
    assert settled() == 2


@pytest.mark.parametrize("change", ["edit", "delete", "add"])
def test_tables_changed_by_hand_are_never_overwritten(hub, bench, push, change):
    bench.add(1)
    push(bench)
    path = "data/train-00007.parquet" if change == "add" else SHARD
    foreign = hub.commit_as("bob", REPO, {path: None if change == "delete" else b"PAR1 mine"})
    bench.add(2)
    with pytest.raises(HandEdited, match=path):
        push(bench)
    assert hub.commits(REPO)[0].oid == foreign and bench.published.waiting(REPO).added == 1
    with pytest.raises(HandEdited):
        push(bench, as_pull_request=True)


def test_rows_of_another_studio_are_never_overwritten(hub, bench, other, push, pull, tmp_path):
    bench.add(1)
    push(bench)
    other.add(2)
    with pytest.raises(HandEdited, match="not pushed from here"):
        push(other)
    assert pull(other).new == 1
    assert push(other).added == 1
    assert set(remote_rows(hub, tmp_path)) == {"pair-1", "pair-2"}
    bench.add(3)
    with pytest.raises(HandEdited):
        push(bench)
    assert pull(bench).new == 1
    push(bench)
    assert set(remote_rows(hub, tmp_path)) == {"pair-1", "pair-2", "pair-3"}


# ---- one at a time


def test_one_pusher_a_repository(bench, push):
    bench.add(1)
    with hold_lease(bench.published, REPO, 30), pytest.raises(LeaseLost, match="Another process"):
        push(bench)
    assert push(bench).added == 1


def test_a_lease_expires_is_renewed_and_is_needed_to_record(bench):
    from dataclasses import replace

    published = bench.published
    assert published.take_lease(REPO, "dead", 0.05)
    time.sleep(0.1)
    with hold_lease(published, REPO, 0.3) as holder:
        time.sleep(0.8)
        assert not published.take_lease(REPO, "other", 1)
        published.record(REPO, holder, replace(published.remote(REPO), head="x"))
        with pytest.raises(LeaseLost):
            published.record(REPO, "other", replace(published.remote(REPO), head="y"))
    assert published.remote(REPO).head == "x"
    assert published.take_lease(REPO, "other", 1)


# ---- pull requests


def test_a_pull_request_waits_until_it_is_merged(hub, bench, push, ann, settled, tmp_path):
    from huggingface_hub import HfApi

    bench.add(1)
    push(bench)
    bench.add(2)
    head = hub.commits(REPO)[0].oid
    proposed = push(bench, as_pull_request=True)
    assert proposed.url.endswith(f"{REPO}/discussions/1") and hub.commits(REPO)[0].oid == head
    assert bench.published.waiting(REPO).added == 1
    assert set(remote_rows(hub, tmp_path, revision="refs/pr/1")) == {"pair-1", "pair-2"}
    assert push(bench, as_pull_request=True).url == proposed.url and len(hub.repo(REPO).discussions) == 1
    HfApi(hub.endpoint, ann.secret).merge_pull_request(REPO, 1, repo_type="dataset")
    bench.add(3)
    merged = push(bench)
    assert (merged.added, merged.landed) == (2, True)
    settled()


def test_a_reader_may_propose(hub, bench, other, push, pull):
    bench.add(1)
    push(bench, private=False)
    bob = Token(hub.user("bob"))
    pull(other, bob)
    other.add(2)
    with pytest.raises(HubRefused):
        push(other, bob)
    assert push(other, bob, as_pull_request=True).url


def test_a_lost_answer_makes_no_second_pull_request(hub, bench, push):
    bench.add(1)
    push(bench)
    bench.add(2)
    hub.fail(COMMIT, drop="reply")
    url = push(bench, as_pull_request=True).url
    assert url and len(hub.repo(REPO).discussions) == 1


def test_an_overtaken_head_is_tried_again(hub, bench, push, waits):
    bench.add(1)
    push(bench)
    bench.add(2)
    hub.fail(COMMIT, status=412, times=None)
    with pytest.raises(HubMoved):
        push(bench)
    assert len(waits) == TRIES - 1


# ---- out for good


def test_remove_everywhere(hub, bench, pusher, push, pull, tmp_path):
    bench.add(1, 2)
    bench.judge("j1")
    push(bench)
    text = bench.store.pair("pair-1").chosen
    report = pusher(bench).remove_everywhere(REPO, ["pair-1", "j1", "unknown"])
    assert report.rows == 2 and "earlier commits" in report.unreached[0]
    assert set(remote_rows(hub, tmp_path)) == {"pair-2"} and remote_rows(hub, tmp_path, part="judgements") == {}
    assert bench.published.waiting(REPO).total == 0 and bench.published.unpublishable() == {"withheld for good": 1}
    assert pull(bench).new == 0
    assert hub.find(text.encode(), history=True) and not hub.find(text.encode())


@pytest.mark.parametrize("fault", [None, {"drop": "reply"}], ids=str)
def test_remove_with_the_history(hub, bench, pusher, push, transport, fault):
    bench.add(1, 2)
    push(bench)
    text = bench.store.pair("pair-1").chosen
    if fault:
        hub.fail("POST .*/super-squash/", **fault)
    report = pusher(bench).remove_everywhere(REPO, ["pair-1"], forget_history=True)
    assert not hub.find(text.encode(), history=True) and len(hub.commits(REPO)) == 1
    assert report.commit == hub.commits(REPO)[0].oid
    bench.add(3)
    assert push(bench).added == 1


def test_what_is_kept_tells_a_hub(hub, bench, ann):
    assert Hub(ann, hub.endpoint).head("ann/nothing") is None
