"""The Publish tab, event by event, against a Hub of our own."""

import shutil
import threading
import time
from dataclasses import replace
from importlib import resources

import gradio as gr
import pytest

from rlhfv.errors import InvalidData
from rlhfv.publishing.shards import shard_path
from rlhfv.publishing.token import Token
from rlhfv.services.people import REVIEWER, VISITOR
from rlhfv.services.terms import Terms
from rlhfv.studio.jobs import Jobs
from tests.browser.invented_runs import make_finished
from tests.publishing.conftest import Bench
from tests.studio.conftest import texts as raw_texts

REPO = "ann/pairs"
NOWHERE = ("", None)


@pytest.fixture
def bench(services):
    """Pairs in the data folder of the studio."""
    return Bench(services.settings.data_dir)


@pytest.fixture
def ann(hub):
    return hub.user("ann")


@pytest.fixture
def tab(page, services, hub, connect):
    connect()
    services.publishing.endpoint = hub.endpoint
    return page


def texts(nodes) -> str:
    return " ".join(raw_texts(nodes).split())


def look(page, who, repo=""):
    return page.fire("tab-publish", "select", who, repo, None)


def timer(update) -> bool:
    (found,) = [value for part, value in update.items() if isinstance(part, gr.Timer)]
    return found["active"]


def wait(page, who, update, repo=REPO):
    """The tab once nothing is at work there."""
    until = time.monotonic() + 30
    while timer(update):
        assert time.monotonic() < until, "still at work"
        time.sleep(0.05)
        update = look(page, who, repo)
    return update


def sign_in(page, who, secret):
    return page.fire("hub-sign-in-with", "click", who, secret, *NOWHERE)


def push(page, who, repo=REPO, public=False, propose=False):
    return wait(page, who, page.fire("publish-push", "click", who, public, propose, repo, None), repo)


def test_a_newcomer_learns_what_publishing_is(tab, ada):
    shown = look(tab, ada)
    assert "Nothing to publish yet" in texts(shown["publish-status"])
    assert "Sign in to continue" in texts(shown["hub-session"])
    assert shown["publish"]["visible"] and not timer(shown) and not shown["publish-adapter"]["visible"]


def test_what_waits_and_what_stays_here_and_why(tab, ada, bench):
    bench.add(1, 2)
    bench.add(3, consent=False)
    bench.add(4, licence="not to be published")
    shown = look(tab, ada)
    said = texts(shown["publish-status"])
    assert "2 to add" in said and "No data set yet" in said
    assert "no consent to publication Whoever made them can agree" in said and "They train here" in said
    assert "2 rows wait until then" in texts(shown["hub-session"])


def test_sign_in_push_edit_push_and_sign_out(tab, ada, bench, hub, ann):
    bench.add(1, 2)
    shown = sign_in(tab, ada, f" {ann}\n")
    assert shown["hub-token"] == "" and not shown["hub-sign-in"]["visible"] and ann not in str(shown)
    assert "Signed in as ann" in texts(shown["hub-session"])
    shown = push(tab, ada)
    head = hub.commits(REPO)[0].oid
    assert "Pushed: 2 added" in texts(shown["publish-message"]) and hub.repo(REPO).private
    assert f"{hub.endpoint}/datasets/{REPO}/commit/{head}" in str(shown["publish-message"])
    assert "Nothing. What is published is what is here" in texts(shown["publish-status"])
    bench.add(1, colour="green")
    assert "1 changed" in texts(look(tab, ada, REPO)["publish-status"])
    assert "Pushed: 1 changed" in texts(push(tab, ada)["publish-message"])
    shown = tab.fire("hub-session", "select", ada, REPO, None, data={"act": "sign-out", "ref": ""})
    assert "Sign in to continue" in texts(shown["hub-session"]) and shown["hub-sign-in"]["visible"]
    bench.add(3)
    shown = push(tab, ada)
    assert "You are not signed in to the Hub" in texts(shown["publish-message"])
    assert "1 to add" in texts(shown["publish-status"])
    assert hub.leaks == []


def test_a_token_that_the_hub_does_not_know_signs_nobody_in(tab, ada):
    for secret in ("hf_" + "x" * 34, "", "  "):
        shown = sign_in(tab, ada, secret)
        assert shown["publish-message"][0][1]["role"] == "alert" and shown["hub-token"] == ""
        assert shown["hub-sign-in"]["visible"] and "x" * 34 not in str(shown)


def test_a_missing_scope_is_named(tab, ada, bench, hub):
    bench.add(1)
    sign_in(tab, ada, hub.user("ann", "read"))
    shown = push(tab, ada)
    assert "repo.write" in texts(shown["publish-message"]) and "1 to add" in texts(shown["publish-status"])


def test_a_pull_request_is_shown_until_it_is_merged(tab, ada, bench, hub, ann):
    bench.add(1)
    sign_in(tab, ada, ann)
    push(tab, ada)
    bench.add(2)
    shown = push(tab, ada, propose=True)
    assert "Proposed: 1 added" in texts(shown["publish-message"])
    assert "A pull request is open" in texts(shown["publish-status"])
    assert "1 to add" in texts(shown["publish-status"])


def test_public_only_when_it_was_ticked(tab, ada, bench, hub, ann):
    bench.add(1)
    sign_in(tab, ada, ann)
    push(tab, ada, "ann/open", public=True)
    assert not hub.repo("ann/open").private


def test_the_machines_token_is_for_its_owner(tab, ada, bench, hub, ann, monkeypatch, services):
    monkeypatch.setenv("HF_TOKEN", ann)
    shown = tab.fire("hub-sign-in-machine", "click", ada, *NOWHERE)
    assert "the owner of this machine" in texts(shown["hub-session"])
    services.publishing.sign_out(ada)
    services.publishing.settings = replace(services.settings, single_user=False)
    assert look(tab, ada)["hub-sign-in-machine"]["visible"] is False
    shown = tab.fire("hub-sign-in-machine", "click", ada, *NOWHERE)
    assert "does not know who its owner is" in texts(shown["publish-message"])
    assert services.publishing.signed_in_as(ada) is None


def test_pull_takes_rows_in_and_tells_conflicts_and_problems(tab, ada, bench, hub, ann, tmp_path, pusher_to_hub):
    other = Bench(tmp_path / "other")
    other.add(1, 2)
    pusher_to_hub(other)
    sign_in(tab, ada, ann)
    shown = wait(tab, ada, tab.fire("publish-pull", "click", ada, REPO, None))
    assert "Pulled: 2 new" in texts(shown["publish-message"]) and bench.store.has_pair("pair-2")
    other.add(1, colour="green")
    pusher_to_hub(other)
    bench.add(1, colour="yellow")
    shown = wait(tab, ada, tab.fire("publish-pull", "click", ada, REPO, None))
    assert "1 pair changed on both sides" in texts(shown["publish-message"])
    hub.commit_as("ann", REPO, {shard_path("pairs", 0): b"broken"})
    shown = wait(tab, ada, tab.fire("publish-pull", "click", ada, REPO, None))
    assert "could not be taken" in texts(shown["publish-message"])


@pytest.fixture
def pusher_to_hub(hub, ann):
    from rlhfv.publishing.hub import Hub
    from rlhfv.publishing.pusher import Pusher

    def push(bench):
        work = bench.folder / "publishing"
        Pusher(bench.published, bench.shelf, work, Hub(Token(ann), hub.endpoint)).push(REPO)

    return push


def test_what_visitors_and_reviewers_see(tab, ada, bench, hub):
    bench.add(1)

    visitor, reviewer = replace(ada, rights=VISITOR), replace(ada, rights=REVIEWER)
    shown = look(tab, visitor)
    assert shown["publish"]["visible"] is False and "for reviewers" in texts(shown["publish-refused"])
    assert "publish-status" not in shown
    assert "publish-status" not in tab.fire("publish-push", "click", visitor, False, False, REPO, None)
    assert hub.requests_to("/api/datasets") == []
    shown = look(tab, reviewer)
    assert shown["publish"]["visible"] and "to add" in texts(shown["publish-status"])
    assert shown["publish-pull"]["visible"] is False and "up to its owner" in texts(shown["publish-pulling"])
    assert shown["hub-sign-in-machine"]["visible"] is False and shown["publish-adapter"]["visible"] is False
    refused = wait(tab, reviewer, tab.fire("publish-pull", "click", reviewer, REPO, None))
    assert "needs the right 'manage'" in texts(refused["publish-message"])


def test_the_name_is_shown_only_when_its_owner_says_so(tab, ada, services):
    assert look(tab, ada)["publish-named"]["visible"] is False
    services.corrections.set_terms(ada, Terms(consent=True, annotator="Ada <b>"))
    shown = look(tab, ada)
    assert shown["publish-named"] == {"value": False, "visible": True}
    assert "Ada <b>" in texts(shown["publish-name"]) and "annotator-" in texts(shown["publish-name"])
    shown = tab.fire("publish-named", "input", ada, True, *NOWHERE)
    assert shown["publish-named"]["value"] is True and "annotator-" not in texts(shown["publish-name"])
    shown = tab.fire("publish-named", "input", ada, False, *NOWHERE)
    assert shown["publish-named"]["value"] is False


def test_the_adapter_of_a_finished_run_is_pushed(tab, ada, services, hub, ann):
    folder = make_finished(services.settings.data_dir, "first")
    shutil.copytree(resources.files("rlhfv.models.demo").joinpath("adapter"), folder.adapter)
    sign_in(tab, ada, ann)
    shown = look(tab, ada)
    assert shown["adapter-run"]["value"] == folder.id and "not published yet" in texts(shown["adapter-status"])
    begun = tab.fire("adapter-push", "click", ada, "ann/adapter", False, "", folder.id)
    shown = wait(tab, ada, begun, "")
    head = hub.commits("ann/adapter", repo_type="model")[0].oid
    assert head[:10] in texts(shown["publish-message"]) and head[:10] in texts(shown["adapter-status"])
    assert shown["adapter-repo"] == "ann/adapter"
    assert f"{hub.endpoint}/ann/adapter/commit/{head}" in str(shown["adapter-status"])


def test_one_job_a_visitor_which_outlives_the_page(tab, ada, bob, services, monkeypatch):
    go = threading.Event()

    def slow(who, repo, private, propose, tell):
        tell("building shards", 1, 3)
        go.wait(20)
        raise InvalidData("It broke.", "It had to.", "Mend it.")

    monkeypatch.setattr(services.publishing, "push", slow)
    shown = tab.fire("publish-push", "click", ada, False, False, REPO, None)
    assert timer(shown) and "Building shards: 1 of 3" in texts(shown["publish-message"])
    again = tab.fire("publish-push", "click", ada, False, False, REPO, None)
    assert "at work here already" in texts(again["publish-message"]) and timer(again)
    assert texts(look(tab, bob)["publish-message"]) == ""
    assert "Building shards" in texts(look(tab, ada)["publish-message"]), "another page of the same visitor"
    go.set()
    assert "It broke. It had to. Mend it." in texts(wait(tab, ada, look(tab, ada))["publish-message"])


def test_what_was_left_out_and_what_troubles_the_pusher_of_this_machine(tab, ada, bench, hub, ann, services):
    bench.add(1, 2)
    services.publishing.published.withhold(["pair-1"])
    bench.shelf.path(bench.store.pair("pair-2").prompt.images[0]).unlink()
    sign_in(tab, ada, ann)
    said = texts(push(tab, ada)["publish-status"])
    assert "left 1 row out, and why pair-2 : its picture" in said and "withheld for good" in said
    services.publishing.settings = replace(services.settings, publish_to=REPO)
    services.publishing._trouble = "The Hub is busy <b>."
    said = texts(look(tab, ada)["publish-status"])
    assert f"keeps {REPO} up to date by itself" in said and "It could not: The Hub is busy <b>." in said


def test_jobs_are_forgotten_only_when_they_ended():
    jobs, go = Jobs(), threading.Event()
    job = jobs.begin("ann", "push", lambda tell: go.wait(20))
    jobs.clear("ann")
    assert jobs.of("ann") is job and job.running
    go.set()
    job.wait(20)
    jobs.clear("ann")
    assert jobs.of("ann") is None and job.result is True
