"""Who may publish, with whose token, and that no token shows anywhere."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from rlhfv import cli
from rlhfv.corrections.edits import Edit
from rlhfv.errors import Forbidden, NotFound
from rlhfv.publishing.token import SignInNeeded
from rlhfv.services import Actor, build_services, local_actor
from rlhfv.services.publishing import BackgroundPusher
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings
from tests.apps import ROOT

REPO = "ann/pairs"


@pytest.fixture
def machine_token(hub):
    """The token of the machine's owner, who is Ann."""
    return hub.user("ann")


@pytest.fixture
def studio(tmp_path, connect):
    """Services whose Hub is the test's; nobody is signed in, also not the machine."""
    connect(None)
    return build_services(Settings(data_dir=tmp_path / "data"))


@pytest.fixture
def save(studio, picture):
    """Saves one correction of the local person."""

    def save(number: int = 1, **terms):
        from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling

        actor = local_actor()
        studio.corrections.set_terms(actor, Terms(**{"consent": True, "annotator": "Ann Lee"} | terms))
        image = studio.corrections.shelf.intake(picture)
        prompt = Prompt(f"What is it, number {number}?", (image.name,))
        answer = Answer(f"a{number}", prompt, "A red dog.", ModelIdentity("m", "1"), Sampling(), "local", "2026")
        studio.store.add_answer(answer)
        return studio.corrections.save(actor, answer.id, answer.text, [Edit(2, 5, "blue", "attribute")]).pair_id

    return save


@pytest.fixture
def told(capfd, caplog, tmp_path):
    """Everything that was printed last, logged, or written to the studio's folder."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "httpcore2")  # its trace shows what the server sends, and here that is the token

    def told() -> bytes:
        out, err = capfd.readouterr()
        files = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
        return b"\n".join([out.encode(), err.encode(), caplog.text.encode(), *files])

    return told


def test_without_a_token_what_waits_stays(hub, studio, save, machine_token, monkeypatch):
    save()
    monkeypatch.setenv("HF_TOKEN", machine_token)  # that there is one does not give it to anybody
    for act in (
        lambda actor: studio.publishing.push(actor, REPO),
        lambda actor: studio.publishing.remove_everywhere(actor, REPO, ["x"]),
    ):
        with pytest.raises(SignInNeeded, match="Sign in to continue"):
            act(local_actor())
    assert studio.publishing.status(local_actor()).waiting.added == 1 and hub.requests == []


def test_what_is_public_is_pulled_as_nobody(hub, studio, save, machine_token, monkeypatch, tmp_path):
    save()
    studio.publishing.sign_in(local_actor(), machine_token)
    studio.publishing.push(local_actor(), REPO)
    studio.publishing.push(local_actor(), "ann/open", private=False)
    monkeypatch.setenv("HF_TOKEN", machine_token)
    fresh = build_services(Settings(data_dir=tmp_path / "fresh"))
    asked = len(hub.requests)
    assert fresh.publishing.pull(local_actor(), "ann/open").new == 1
    with pytest.raises(NotFound, match="private"):
        fresh.publishing.pull(local_actor(), REPO)
    assert {request.person for request in hub.requests[asked:]} == {None}, "the machine's token was used"


def test_a_token_serves_its_visitor_until_sign_out(hub, studio, save, machine_token):
    save()
    ann, bob = Actor("a" * 32), Actor("b" * 32)
    studio.publishing.sign_in(ann, machine_token, "ann")
    assert studio.publishing.signed_in_as(ann) == "ann" and studio.publishing.signed_in_as(bob) is None
    with pytest.raises(SignInNeeded):
        studio.publishing.push(bob, REPO)
    assert studio.publishing.push(ann, REPO).added == 1
    status = studio.publishing.status(ann)
    assert (status.repo, status.waiting.total, status.commit) == (REPO, 0, hub.commits(REPO)[0].oid)
    studio.publishing.sign_out(ann)
    with pytest.raises(SignInNeeded):
        studio.publishing.push(ann, REPO)
    studio.publishing.sign_in(ann, machine_token, seconds=-1)
    with pytest.raises(SignInNeeded):
        studio.publishing.push(ann, REPO)
    for secret in (None, "", " "):
        with pytest.raises(SignInNeeded):
            studio.publishing.sign_in(ann, secret)


def test_rights(studio):
    visitor = Actor("v", rights=frozenset({"chat", "correct"}))
    reviewer = Actor("r", rights=frozenset({"chat", "correct", "annotate", "review", "publish"}))
    publishing = studio.publishing
    studio.publishing.sign_in(visitor, "hf_" + "v" * 20)
    for act in (
        lambda: publishing.push(visitor, REPO),
        lambda: publishing.status(visitor),
        lambda: publishing.pull(reviewer, REPO),
        lambda: publishing.remove_everywhere(reviewer, REPO, []),
        lambda: publishing.sign_in_as_owner(reviewer),
        lambda: publishing.push_adapter(visitor, "run", "ann/adapter"),
    ):
        with pytest.raises(Forbidden):
            act()
    assert publishing.status(reviewer).repo == ""


def test_what_is_not_published_and_why(studio, save):
    save(1, consent=False)
    save(2, licence="not to be published")
    status = studio.publishing.status(local_actor())
    assert status.waiting.total == 0
    assert status.unpublishable == {"no consent to publication": 1, "not to be published": 1}


def test_a_name_is_published_only_when_its_bearer_agrees(hub, studio, save, machine_token):
    save()
    studio.publishing.sign_in(local_actor(), machine_token)
    studio.publishing.push(local_actor(), REPO)
    assert not hub.find("Ann Lee")
    studio.publishing.set_named(local_actor(), True)
    studio.publishing.push(local_actor(), REPO)
    assert hub.find("Ann Lee")


def test_nobody_agrees_for_somebody_else_of_the_same_name(studio, save):
    save()
    studio.publishing.settings = replace(studio.settings, single_user=False)
    stranger = Actor("s" * 32)
    studio.corrections.set_terms(stranger, Terms(annotator="Ann Lee"))
    with pytest.raises(Forbidden, match="somebody else"):
        studio.publishing.set_named(stranger, True)
    studio.publishing.set_named(local_actor(), True)


def test_the_owner_may_use_the_machines_token(studio, save, machine_token, monkeypatch):
    save()
    with pytest.raises(SignInNeeded, match="HF_TOKEN"):
        studio.publishing.sign_in_as_owner(local_actor())
    monkeypatch.setenv("HF_TOKEN", machine_token)
    studio.publishing.sign_in_as_owner(local_actor())
    assert studio.publishing.push(local_actor(), REPO).added == 1


def test_only_the_owners_pusher_works_in_the_background(hub, studio, save, machine_token, monkeypatch):
    assert studio.publishing.start_background() is None
    save()
    studio.publishing.settings = replace(studio.settings, publish_to=REPO)
    visitor = Actor("v" * 32)
    studio.publishing.sign_in(visitor, machine_token)
    pusher = BackgroundPusher(studio.publishing, REPO, 0.05).start()
    try:
        _until(lambda: "HF_TOKEN" in studio.publishing.status(visitor).trouble)
        assert hub.requests == [], "a visitor's token was used"
        revoked = hub.user("ann")
        hub.revoke(revoked)
        monkeypatch.setenv("HF_TOKEN", revoked)
        _until(lambda: "401" in studio.publishing.status(visitor).trouble)
        asked = len(hub.requests)
        time.sleep(0.3)
        assert len(hub.requests) == asked, "a refused token was tried again"
        monkeypatch.setenv("HF_TOKEN", machine_token)
        _until(lambda: studio.publishing.status(visitor).waiting.total == 0)
        _until(lambda: studio.publishing.status(visitor).trouble == "")
        save(2)
        _until(lambda: len(hub.commits(REPO)) == 3)
    finally:
        pusher.close()


def _until(reached, seconds: float = 30):
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_last_push_comes_with_the_end(hub, studio, save, machine_token, tmp_path):
    save()
    code = (
        "import sys, time; from pathlib import Path\n"
        "from rlhfv.services import build_services; from rlhfv.settings import Settings\n"
        f"services = build_services(Settings(data_dir=Path(sys.argv[1]), publish_to={REPO!r}))\n"
        "services.publishing.start_background()\n"
        "while 'rlhfv.publishing.pusher' not in sys.modules: time.sleep(0.05)\n"
        "time.sleep(0.5); print('ready', flush=True); time.sleep(60)"
    )
    environment = hub.environment(machine_token, tmp_path / "home")
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
    assert studio.publishing.status(local_actor(), REPO).waiting.total == 0


# ---- the command line


@pytest.fixture
def say(studio, tmp_path, capfd):
    """`say("push", REPO)` runs a verb of `publish`: exit code, stdout, stderr."""

    def run(*words):
        capfd.readouterr()
        code = cli.main(["publish", *words, "--data-dir", str(tmp_path / "data")])
        return code, *capfd.readouterr()

    return run


def test_the_whole_way_on_the_command_line(hub, say, save, machine_token, monkeypatch, tmp_path):
    save()
    code, out, err = say("push", REPO)
    assert code == 2 and "There is no token" in err and out == ""
    monkeypatch.setenv("MY_TOKEN", machine_token)
    code, out, err = say("push", REPO, "--token-env", "MY_TOKEN")
    assert code == 0 and out.startswith("1 added; ann/pairs is at ") and "building shards" in err + "building shards"
    code, out, err = say("push", REPO, "--token-env", "MY_TOKEN", "--json")
    assert json.loads(out)["commit"] == hub.commits(REPO)[0].oid
    save(2)
    code, out, err = say("status", "--json")
    assert json.loads(out)["waiting"] == {"added": 1, "changed": 0, "removed": 0, "judgements": 0}
    code, out, err = say("push", REPO, "--token-env", "MY_TOKEN", "--pull-request")
    assert "/discussions/1" in out
    code, out, err = say("status")
    assert "1 to add" in out and "/discussions/1" in out
    fresh = ["--token-env", "MY_TOKEN", "--data-dir", str(tmp_path / "fresh"), "--json"]
    assert cli.main(["publish", "pull", REPO, *fresh]) == 0
    code, out, err = say("push", "pairs", "--token-env", "MY_TOKEN")
    assert code == 2 and "owner/name" in err


def test_public_and_login(hub, say, save, machine_token, monkeypatch):
    save()
    monkeypatch.setenv("HF_TOKEN", machine_token)
    assert say("push", REPO, "--login", "--public")[0] == 0
    assert not hub.repo(REPO).private


def test_a_pull_with_problems_says_so(hub, say, save, machine_token, monkeypatch):
    save()
    monkeypatch.setenv("HF_TOKEN", machine_token)
    say("push", REPO)
    hub.commit_as("bob", REPO, {"data/train-00000.parquet": b"PAR1 broken"})
    code, _, err = say("pull", REPO)
    assert code == 1 and "train-00000.parquet" in err
    code, _, err = say("push", REPO)
    assert code == 2 and "Pull first" in err


# ---- adapters


def test_an_adapter_is_linked_to_the_data_it_came_from(hub, studio, save, machine_token, say, monkeypatch):
    from rlhfv.ddpo.card import write_card
    from rlhfv.ddpo.config import RECIPES

    actor = local_actor()
    pair = studio.store.pair(save())
    folder = studio.training.local.folder / "run-1"
    (folder / "adapter").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"v": 1, "kind": "training", "title": "Mine", "created": "2026"}))
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    base = {"name": "demo", "revision": "d" * 64}
    write_card(folder / "adapter", "run-1", base, RECIPES["demo"], [pair.to_row()], 0, {"loss": 0.1})
    studio.publishing.sign_in(actor, machine_token)
    assert studio.publishing.pushed_adapter(actor, "run-1") is None
    studio.publishing.push_adapter(actor, "run-1", "ann/adapter")
    assert "dataset" not in json.loads(hub.file("ann/adapter", "rlhfv.json", repo_type="model"))
    data = studio.publishing.push(actor, REPO)
    pushed = studio.publishing.push_adapter(actor, "run-1", "ann/adapter")
    linked = json.loads(hub.file("ann/adapter", "rlhfv.json", repo_type="model"))["dataset"]
    assert linked == {"repo": REPO, "commit": data.commit}
    assert studio.publishing.pushed_adapter(actor, "run-1") == pushed
    assert not hub.find("Ann Lee", history=True)
    monkeypatch.setenv("HF_TOKEN", machine_token)
    code, out, _ = say("adapter", "run-1", "ann/adapter", "--json")
    assert code == 0 and json.loads(out) == {"repo": "ann/adapter", "commit": pushed.commit}


# ---- no token anywhere


def test_no_token_shows_anywhere(hub, studio, save, machine_token, say, told, monkeypatch, tmp_path):
    actor = local_actor()
    save()
    secret = hub.user("eve")
    monkeypatch.setenv("HF_TOKEN", machine_token)
    studio.publishing.sign_in(actor, machine_token, "ann")
    hub.fail("POST .*/commit/", status=500, message=f"Authorization: Bearer {machine_token}", times=1)
    monkeypatch.setattr("rlhfv.publishing.pusher.TRIES", 1)
    errors = []
    for act in (
        lambda: studio.publishing.push(actor, REPO),
        lambda: studio.publishing.push(Actor("e"), REPO),
    ):
        with pytest.raises(Exception) as error:
            act()
        errors.append(repr(error.getrepr(style="long", showlocals=False)) + str(error.value))
    studio.publishing.push(actor, REPO)
    studio.publishing.sign_in(Actor("e"), secret)
    with pytest.raises(Exception) as error:
        studio.publishing.push(Actor("e"), REPO)
    errors.append(str(error.value) + repr(vars(studio.publishing)) + str(vars(error.value)))
    errors += [str(say(*words)) for words in (("push", REPO), ("status", "--json"))]
    studio.publishing.settings = replace(studio.settings, publish_to=REPO)
    studio.publishing.push_as_owner(REPO)
    everything = told() + "\n".join(errors).encode()
    for token in (machine_token, secret):
        assert token.encode() not in everything
        assert not hub.find(token, history=True)
    assert hub.leaks == []
    assert os.environ["HF_TOKEN"] == machine_token
