"""`runs pack|send|offers|work|queue` and `train --backend`: a run goes away and comes back, in one terminal each."""

import json
import sys

import pytest

from rlhfv.runs import hub_jobs, leash
from tests.runs.hub_worker import command
from tests.runs.test_hub_runs import ROOT, SCRIPT, wait_until

REPO = "ann/runs"


@pytest.fixture
def ann(hub, connect):
    token = hub.user("ann")
    connect(token)
    return token


@pytest.fixture
def small(scripted, worker, monkeypatch):
    """The trainer of a worker in this process."""

    def choose(kind):
        monkeypatch.setattr(leash, "build_command", lambda _, folder, config=None: command(kind, folder))

    choose("quick")
    return choose


@pytest.fixture
def train(say, data, small):
    def train(*words):
        say("pairs", "import", data)
        code, out, err = say("train", "--backend", REPO, "--detach", *words)
        assert code == 0, err
        return out.strip()

    return train


def test_a_run_is_packed_and_trained_elsewhere(say, data, small, tmp_path):
    say("pairs", "import", data)
    run_id = say("train", "--json")[1]
    run_id = json.loads(run_id)["id"]
    code, out, err = say("runs", "pack", run_id, tmp_path / "bundle")
    assert code == 0 and "pip install -r bundle/requirements.txt" in err, err
    code, _, err = say("runs", "work", out.strip())
    assert code == 0 and f"{run_id}: done" in err and "loss" in err
    assert (tmp_path / "bundle" / "runs" / run_id / "adapter" / "adapter_config.json").exists()
    assert say("runs", "pack", run_id, tmp_path / "bundle")[0] == 2
    assert say("runs", "work", tmp_path / "export")[0] == 2
    small("error")
    say("runs", "pack", run_id, tmp_path / "again")
    code, _, err = say("runs", "work", tmp_path / "again")
    assert code == 1 and "The rate is 5." in err


def test_a_run_goes_to_a_worker_and_comes_back(say, hub, ann, train):
    run_id = train("--title", "away")
    shown = json.loads(say("runs", "show", run_id, "--json")[1])
    assert shown["state"] == "queued" and shown["remote"]["repo"] == REPO
    code, _, err = say("runs", "work", REPO, "--once", "--name", "box")
    assert code == 0 and f"{run_id}: done" in err and "takes runs from ann/runs" in err, err
    _, out, err = say("runs", "queue", REPO)
    assert "done" in out and "box: " in out and "1 run, 1 worker" in err
    assert "away: done" in say("runs", "follow", run_id)[2]
    done = json.loads(say("runs", "show", run_id, "--json")[1])
    assert done["state"] == "done" and done["has_adapter"] and done["step"] == 4
    assert done["remote"]["worker"] == "box" and done["results"] == {"figures": {"steps": 4}}
    assert say("runs", "resume", run_id)[0] == 2
    assert hub.leaks == [] and hub.find(ann, history=True) == []


def test_a_run_is_stopped_and_resumed_where_it_is(say, hub, ann, train):
    run_id = train()
    assert json.loads(say("runs", "stop", run_id, "--json")[1])["state"] == "stopped"
    assert json.loads(say("runs", "resume", run_id, "--detach", "--json")[1])["state"] == "queued"
    say("runs", "work", REPO, "--once")
    assert "done" in say("runs", "follow", run_id)[2]


def test_an_error_elsewhere_is_told_here(say, hub, ann, train, small):
    small("error")
    run_id = train()
    assert say("runs", "work", REPO, "--once")[0] == 1
    code, _, err = say("runs", "follow", run_id)
    assert code == 1 and "The rate is 5. Lower it." in err


def test_without_a_token_nothing_is_frozen(say, hub, connect, data, small):
    connect()
    say("pairs", "import", data)
    code, _, err = say("train", "--backend", REPO)
    assert code == 2 and "There is no token." in err
    assert json.loads(say("runs", "list", "--json")[1]) == []


def test_what_is_erased_leaves_the_repository_too(say, hub, ann, train, monkeypatch):
    run_id = train()
    pair = json.loads(say("pairs", "list", "--json")[1])["pairs"][0]["id"]
    assert pair in str(hub.file(REPO, f"runs/{run_id}/pairs.jsonl", repo_type="model"))
    code, _, err = say("erase", pair, "--yes")
    assert code == 2 and "queued and learns from" in err
    say("runs", "stop", run_id)
    monkeypatch.delenv("HF_TOKEN")
    code, out, _ = say("erase", pair, "--yes")
    assert code == 1 and f"Still in {REPO}: where a run there holds it: sign in" in out
    monkeypatch.setenv("HF_TOKEN", ann)
    code, out, _ = say("erase", "--waiting")
    assert code == 0 and f"Erased in {REPO}." in out and f"earlier commits of {REPO}" in out
    assert pair not in str(hub.file(REPO, f"runs/{run_id}/pairs.jsonl", repo_type="model"))
    assert say("erase", "--waiting")[1].strip() == "Nothing to erase."
    code, _, err = say("erase", pair, "--waiting")
    assert code == 2 and "named beside --waiting" in err


def test_a_run_goes_to_a_job_and_comes_back(say, hub, ann, train, monkeypatch):
    inside = f'PYTHONPATH={ROOT} exec {sys.executable} {SCRIPT} quick "$0" work box 600 "$4"'
    monkeypatch.setattr(hub_jobs, "_COMMAND", inside)
    monkeypatch.setattr("rlhfv.services.backends.Backends._operations", lambda *_: (65e12 * 1500, 0.5))
    assert say("train", "--backend", REPO, "--flavor", "h9000", "--detach")[0] == 2
    assert json.loads(say("runs", "list", "--json")[1]) == [], "nothing is left of what could not be sent"
    run_id = train("--flavor", "t4-small")
    [job] = hub.jobs.all
    assert job.spec["flavor"] == "t4-small" and job.spec["timeoutSeconds"] == 2 * (3000 + 300)
    _, out, _ = say("runs", "offers", run_id, REPO)
    assert "t4-small" in out and "about 55 minutes, $0.37; at most $0.73 in 110 minutes" in out
    wait_until(lambda: job.stage == "COMPLETED")
    assert "done" in say("runs", "follow", run_id)[2]
    assert json.loads(say("runs", "show", run_id, "--json")[1])["remote"]["job"] == job.id
