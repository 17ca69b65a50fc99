"""The choice of a place to train: what is asked before a run leaves, and what the answers do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rlhfv.ddpo.config import RECIPES
from rlhfv.errors import InvalidData
from rlhfv.publishing.hub import HubRefused
from rlhfv.run_folder import RunFolder
from rlhfv.runs.hub_jobs import Flavor, JobEstimate
from rlhfv.runs.hub_runs import HubWorker
from rlhfv.services.backends import JobOffer, Place, Plan
from rlhfv.studio import backends, backends_view, runs_view
from tests.studio.conftest import texts
from tests.studio.test_chat_tab import acts
from tests.studio.test_runs_loop import RUN, form_names

OFFER = JobOffer(Flavor("l4x1", "1x Nvidia L4", 0.8, 121e12), JobEstimate(1800.0, 3600, 0.4, 0.8))
AWAY = replace(RUN, remote={"repo": "ann/runs", "state": "running", "worker": "", "seen": "", "job": "j", "error": ""})


class Away:
    """Keeps what was asked of the service of backends."""

    def __init__(self):
        self.plan_made, self.planned, self.started, self.resumed = Plan(0), [], [], []

    def plan(self, who, repo, config, copy_of="", job=False):
        self.planned.append((repo, config, copy_of, job))
        return self.plan_made

    def start(self, who, config, place, title="", copy_of=""):
        self.started.append((place, config, title, copy_of))
        return RUN

    def resume(self, who, run_id, flavor="", timeout=None, image=None):
        self.resumed.append((run_id, flavor, timeout, image))
        return RUN

    def offers(self, who, repo, run_id):
        return [OFFER]

    def trouble(self, who, run_id):
        return "The Hub was away."


@pytest.fixture
def away(services, monkeypatch):
    away = Away()
    for name in ("plan", "start", "resume", "offers", "trouble"):
        monkeypatch.setattr(services.backends, name, getattr(away, name))
    return away


class Form:
    """The form of a page as it stands, beside the state that the page keeps of its last question."""

    def __init__(self, page, who, *place, copy_of="", **settings):
        self.page, self.who, self.place, self.copy_of, self.about = page, who, place, copy_of, ()
        self.values = {name: RECIPES["demo"].to_dict()[name] for name in form_names(page)} | settings

    def given(self):
        return (*self.place, self.copy_of, "mine", "demo", *self.values.values(), "first")

    def start(self):
        return self._last(self.page.fire("start-run", "click", self.who, None, *self.given()))

    def resume(self):
        data = {"act": "resume", "ref": RUN.id}
        return self._last(self.page.fire("run-heading", "select", self.who, [], None, *self.place, data=data))

    def answer(self, act, ref=""):
        data = {"act": act, "ref": ref}
        shown = self.page.fire("train-message", "select", self.who, None, self.about, *self.given(), data=data)
        return self._last(shown)

    def _last(self, shown):
        state = self.page.events["train-message", "select"][0].inputs[1]
        self.about = next((each[state] for each in reversed(shown) if state in each), self.about)
        return shown[-1]["train-message"]


CONFIG = RECIPES["demo"]


def test_a_run_without_a_base_of_its_own_is_sent_at_once(page, ada, away):
    Form(page, ada, "worker", " ann/runs ", None, "").start()
    assert away.planned == [("ann/runs", CONFIG, "", False)]
    assert away.started == [(Place("ann/runs"), CONFIG, "mine", "")]


def test_the_base_leaves_only_after_the_answer(page, ada, away):
    form = Form(page, ada, "worker", "ann/runs", None, "")
    away.plan_made = Plan(13_200_000_000)
    asked = form.start()
    assert "13.2 GB" in texts(asked) and "ann/runs" in texts(asked) and away.started == []
    assert [act for act, _ in acts(asked)] == ["send+base", "cancel"]
    assert form.answer("cancel") == [] and away.started == []
    form.answer("send+base")
    assert away.started == [(Place("ann/runs", with_base=True), CONFIG, "mine", "")]


def test_a_job_is_started_on_the_machine_that_was_chosen(page, ada, away):
    form = Form(page, ada, "job", "ann/runs", 90, " me/image ", copy_of="run-0", beta=0.25)
    config = replace(CONFIG, beta=0.25)
    away.plan_made = Plan(0, (OFFER,))
    asked = form.start()
    assert "ann pays" in texts(asked) and "$0.80 an hour" in texts(asked)
    assert "about 30 min, $0.40 · at most $1.20 in 90 min" in texts(asked)
    assert list(acts(asked)) == [("job", "l4x1 "), ("cancel", "")] and away.started == []
    form.answer("job", "l4x1 ")
    assert away.planned == [("ann/runs", config, "run-0", True)]
    assert away.started == [(Place("ann/runs", "l4x1", 5400, "me/image"), config, "mine", "run-0")]
    away.plan_made = Plan(5_000_000, (OFFER,))
    assert next(acts(form.start())) == ("job+base", "l4x1 ")


@pytest.mark.parametrize(
    "change",
    [
        {"place": ("job", "ann/others", 90, "")},
        {"place": ("job", "ann/runs", 900, "")},
        {"place": ("job", "ann/runs", 90, "me/image")},
        {"place": ("worker", "ann/runs", 90, "")},
        {"copy_of": "run-0"},
        {"values": "epochs"},
    ],
    ids=str,
)
@pytest.mark.parametrize("act", ["job", "job+base", "send+base", "anyway"])
def test_an_answer_counts_for_the_form_that_was_asked_about(page, ada, away, change, act):
    form = Form(page, ada, "job", "ann/runs", 90, "")
    away.plan_made = Plan(0, (OFFER,))
    form.start()
    if "values" in change:
        form.values["epochs"] = 50
    else:
        [(part, value)] = change.items()
        setattr(form, part, value)
    told = form.answer(act, "l4x1 " if act.startswith("job") else "")
    assert "The form was changed after the question." in texts(told) and away.started == []


def test_a_job_that_goes_on_asks_for_its_machine_again(page, ada, away, services, monkeypatch):
    stopped = replace(AWAY, state="stopped", remote={**AWAY.remote, "reserved": True, "timeout": 7200, "image": "i"})
    monkeypatch.setattr(services.training, "run", lambda who, run_id: stopped)
    form = Form(page, ada, "here", "", 5, "hidden")
    asked = form.resume()
    assert next(acts(asked)) == ("job", f"l4x1 {RUN.id}") and away.resumed == []
    assert "at most $1.60 in 120 min" in texts(asked)
    form.answer("job", f"l4x1 {RUN.id}")
    assert away.resumed == [(RUN.id, "l4x1", None, None)], "which keeps what it was started with"
    form = Form(page, ada, "job", "", 90, " me/image ")
    assert "at most $1.20 in 90 min" in texts(form.resume())
    form.answer("job", f"l4x1 {RUN.id}")
    assert away.resumed[1:] == [(RUN.id, "l4x1", 5400, "me/image")]
    form.place = ("job", "", 900, " me/image ")
    assert "was changed" in texts(form.answer("job", f"l4x1 {RUN.id}")) and len(away.resumed) == 2


def test_what_stands_on_the_hub_is_named_before_and_after_the_deletion(page, ada, away, services, monkeypatch):
    done = replace(AWAY, state="done", remote={**AWAY.remote, "state": "done"})
    monkeypatch.setattr(services.training, "run", lambda who, run_id: done)
    monkeypatch.setattr(services.training, "delete", lambda who, run_id: None)
    told = "What stands in ann/runs stays there; delete it on the Hub."
    assert told in texts(runs_view.confirm_delete(done)) and "stays there" not in texts(runs_view.confirm_delete(RUN))
    data = {"act": "delete", "ref": RUN.id}
    shown = page.fire("run-heading", "select", ada, [], None, "here", "", None, "", data=data)[-1]
    assert told in texts(shown["train-message"])


def test_what_asks_the_hub_does_not_hold_up_the_reads(page):
    of_hub = [("train-where", "input"), ("start-run", "click"), ("train-message", "select"), ("run-heading", "select")]
    of_hub += [("away-repo", "blur"), ("away-sign-in-with", "click"), ("away-sign-in-machine", "click")]
    for event in of_hub:
        assert page.events[event][0].concurrency_id == "hub", event
    assert page.events["train-runs", "select"][0].concurrency_id == "read"


def test_what_goes_wrong_is_told_in_three_parts(page, ada, away, services, monkeypatch):
    def refuse(*_, **__):
        raise HubRefused("The start did not work (403).", "It lacks job.write.", "Sign in with one that may.")

    monkeypatch.setattr(services.backends, "plan", refuse)
    told = texts(Form(page, ada, "job", "ann/runs", None, "").start())
    assert "(403)" in told and "job.write" in told and "Sign in with one that may." in told
    monkeypatch.undo()
    told = texts(Form(page, ada, "worker", "ann/runs", None, "").start())
    assert "You are not signed in to the Hub." in told


@pytest.mark.parametrize("minutes", [-1, 0.2, 1e6])
def test_a_timeout_that_cannot_be_is_refused(minutes):
    assert backends._seconds(0) is None
    with pytest.raises(InvalidData, match="timeout"):
        backends._seconds(minutes)


def test_machines_are_told_with_what_they_have_and_when_they_were_seen():
    now = datetime.now(UTC)
    found = [
        HubWorker("box", {"gpus": ["NVIDIA L4, 24 GB"] * 2}, now - timedelta(minutes=5)),
        HubWorker("desk", {"cpus": 8, "memory": 32e9}, now, "run of May"),
    ]
    said = texts(backends_view.machines(found, "ann/runs"))
    assert "box 2 x NVIDIA L4, 24 GB seen 5 min ago" in said
    assert "desk 8 CPUs, 32 GB at work on “run of May”, seen just now" in said
    assert "python -m rlhfv runs work ann/runs" in said
    assert "No machine has taken runs from here yet" in texts(backends_view.machines([], "ann/runs"))


def test_who_is_not_signed_in_is_told_to_sign_in(page, ada, away, services, monkeypatch):
    run = replace(AWAY, config={"training": RECIPES["demo"].to_dict()})
    monkeypatch.setattr(services.training, "runs", lambda who: [run])
    monkeypatch.setattr(services.training, "events", lambda who, run_id, offset=0: ([], 0))
    monkeypatch.setattr(services.training, "log", lambda who, run_id: [])
    monkeypatch.setattr(services.training, "folder", lambda who, run_id: RunFolder(f"/runs/{run_id}"))

    def look():
        return page.fire("tab-train", "select", ada, "", [], None, "worker", "")

    shown = look()
    assert "Sign in to the Hub to follow it." in texts(shown["run-heading"])
    assert "Sign in to the Hub." in texts(shown["away-session"]) and shown["away-repo"] == "ann/runs"
    services.publishing.sign_in(ada, "hf_" + "x" * 34, "ann")
    shown = look()
    assert "The Hub was away." in texts(shown["run-heading"]) and "Signed in to the Hub as ann" in texts(
        shown["away-session"]
    )
