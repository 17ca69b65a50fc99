"""Every endpoint of the app, called by raw HTTP: what changes something is refused to whoever lacks the right."""

import json
import re
import sqlite3
import urllib.request
from types import SimpleNamespace

import pytest

from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import Edit
from rlhfv.services import build_services
from rlhfv.services.actor import RIGHTS, local_actor
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings
from rlhfv.studio import app
from rlhfv.studio.endpoints import EVENTS, PUBLIC, describe_route, is_closed
from rlhfv.studio.visitor import COOKIE, read_key, sign
from tests.apps import free_port
from tests.services.fakes import ScriptedModel
from tests.studio.raw import PICTURE, Caller, events

# What a visitor chose on the page, where one choice leads to another call than the next.
CHOICES = {
    "chat_strip_action": (("fresh", ""), ("remove", "a.png")),
    "chat_suggest": (("", "0"),),
    "chat_vote": (("", "left"),),
    "correct_act": (("next", ""), ("reopen", "answer-1"), ("resubmit", "PAIR"), ("undo", "PAIR")),
    "pairs_act": (("delete", "PAIR"), ("undelete", "PAIR"), ("restore", "PAIR:1"), ("ask-erase", "PAIR")),
    "share_act": (("publish", "agreed"), ("withdraw", "link")),
    "welcome_act": (("ask", "0"), ("try", "")),
    "guide_act": (("begin", ""), ("again", ""), ("train", ""), ("close", "")),
    "train_act": (("resume", "run"), ("stop", "run"), ("delete", "run"), ("duplicate", "run")),
    # The other answers count only after the question, which the server remembers.
    "train_answer": (("anyway", "run"), ("wait", "run")),
    "evaluate_act": (("resume", "run"), ("stop", "run"), ("delete", "run")),
    "judged_act": (("ask", ""), ("stop", "")),
    "benchmarks_act": (("ask", ""), ("delete", "set"), ("keep", "")),
    "evaluate_answer_room": (("anyway", ""), ("anyway", "run")),
}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """A running app with a pair, and `studio.rights`, which whoever asks has at that moment."""
    rights = set(RIGHTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rlhfv.studio.app.stranger_rights", lambda settings: rights)
        folder = tmp_path_factory.mktemp("endpoints")
        services = build_services(Settings(data_dir=folder, single_user=False, public_hosts=("studio.example",)))
        services.host._model = ScriptedModel(delay=0.0)
        who = local_actor()
        services.corrections.set_terms(who, Terms(consent=True))
        image = services.corrections.shelf.intake(PICTURE)
        services.store.add_answer(
            Answer(
                "answer-1",
                Prompt("?", (image.name,)),
                "A red dog.",
                ModelIdentity("m", "1"),
                Sampling(),
                "local",
                "2026",
            )
        )
        saved = services.corrections.save(who, "answer-1", "A red dog.", [Edit(2, 5, "blue", "attribute")])
        demo, port = app.build_app(services), free_port()
        app.launch(services, demo, prevent_thread_lock=True, server_port=port, quiet=True)
        address = f"http://127.0.0.1:{port}/"
        caller = Caller(demo, address, read_key(folder))
        yield SimpleNamespace(
            demo=demo,
            rights=rights,
            caller=caller,
            folder=folder,
            pair=saved.pair_id,
            address=address,
            host=services.host,
        )
        caller.close()


def routes_of(routes) -> list[str]:
    found = []
    for route in routes:
        found += [route.path] if hasattr(route, "path") else routes_of(route.original_router.routes)
    return found


def test_every_endpoint_is_classified(studio):
    """Prints the table: pytest -s tests/studio/test_endpoints.py -k classified"""
    found = events(studio.demo)
    print(f"\n{'event':34} {'API':8} {'right':9} what")
    for name in sorted(found):
        told = EVENTS.get(name)
        what = "unknown" if told is None else "changes" if told.changes else "shows"
        print(f"{name:34} {found[name][1].api_visibility:8} {(told.right if told else '?') or '-':9} {what}")
    paths = sorted({path.rstrip("/") or "/" for path in routes_of(studio.demo.app.routes)})
    print(f"\n{'path':74} who")
    for path in paths:
        print(f"{path:74} {describe_route(path) or 'unknown'}")
    on_spaces = {"wiring_show_person"}
    assert found.keys() | on_spaces == EVENTS.keys(), "an endpoint is not classified, or is not there any longer"
    reachable = {name for name, (_, function) in found.items() if function.api_visibility != "private"}
    assert reachable == set(PUBLIC), "for programs there is the API and nothing else"
    assert [path for path in paths if not describe_route(path)] == []


def kept(folder) -> tuple:
    """All rows of the store, and all files beside it."""
    with sqlite3.connect(folder / "studio.sqlite3") as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    return rows, {
        str(path) for path in folder.rglob("*") if path.is_file() and not re.search("sqlite3|^lock$", path.name)
    }


@pytest.mark.parametrize("right", sorted({each.right for each in EVENTS.values() if each.changes}))
def test_what_changes_something_is_refused_without_the_right(studio, right):
    calls = [
        (name, {"act": act, "ref": ref.replace("PAIR", studio.pair), "index": 0, "value": None, "selected": True})
        for name, endpoint in EVENTS.items()
        if endpoint.changes and endpoint.right == right
        for act, ref in CHOICES.get(name, (("x", studio.pair),))
    ]
    before = kept(studio.folder)
    studio.rights.discard(right)
    try:
        answers = studio.caller.call_all(calls)
    finally:
        studio.rights.add(right)
    # The Publish tab says it once for all of it.
    signs = (f"needs the right '{right}'", "Your visit may not send any")
    allowed = [
        f"{name} {data['act']}: {told}"
        for (name, data), told in zip(calls, answers, strict=True)
        if not any(sign in told.replace("&#x27;", "'") for sign in signs)
    ]
    assert not allowed, "\n".join(allowed)
    rows, files = kept(studio.folder)
    assert {name for name in rows if rows[name] != before[0][name]} == set() and files - before[1] == set()


def test_what_the_page_does_not_use_is_closed(studio):
    mcp = ("gradio_api/mcp", "gradio_api/mcp/sse", "gradio_api/mcp/schema")
    for path in ("gradio_api/vibe-code", "gradio_api/deep_link", "monitoring", "openapi.json", *mcp):
        assert is_closed(f"/{path}")
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(studio.address + path)
        assert error.value.code == 404
    with urllib.request.urlopen(studio.address + "config") as answer:
        assert answer.status == 200 and json.load(answer)["mcp_server"] is False
    assert studio.demo.mcp_server_obj is None


def test_programs_are_told_of_the_public_api_alone(studio):
    with urllib.request.urlopen(studio.address + "gradio_api/info") as answer:
        told = json.load(answer)
    assert told["named_endpoints"].keys() == {f"/{name}" for name in PUBLIC} and told["unnamed_endpoints"] == {}
    assert all(told["named_endpoints"][f"/{name}"]["description"] for name in PUBLIC)


@pytest.mark.parametrize("host", ["", "studio.example"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_page_of_another_site_gets_nothing_and_changes_nothing(studio, origin, host):
    """With the visitor's cookie and the right kind of body, as a page in the same browser could send it."""
    number = studio.caller.events["chat_start_over"][0]
    cookie = f"{COOKIE}={sign('e' * 32, studio.caller.key)}"
    foreign = {"origin": origin, "cookie": cookie, "content-type": "application/json"}
    foreign |= {"host": host} if host else {}
    body = json.dumps({"data": [], "fn_index": number, "session_hash": "x", "trigger_id": 1}).encode()
    before = kept(studio.folder)
    for path in ("queue/join", "call/chat", "call/chat_start_over", "cancel", "reset", "upload"):
        request = urllib.request.Request(f"{studio.address}gradio_api/{path}", body, foreign)
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request)
        assert error.value.code == 403 and "access-control-allow-origin" not in error.value.headers, path
    for path in ("config", "gradio_api/info", "gradio_api/heartbeat/x", ""):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(urllib.request.Request(studio.address + path, headers=foreign))
        assert error.value.code == 403 and "access-control-allow-origin" not in error.value.headers, path
    asks = foreign | {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    request = urllib.request.Request(f"{studio.address}gradio_api/queue/join", headers=asks, method="OPTIONS")
    with urllib.request.urlopen(request) as answer:
        assert "access-control-allow-origin" not in answer.headers, "the browser is not told to go on"
    assert kept(studio.folder) == before
    own = f"http://{host or studio.address.split('/')[2]}"
    with urllib.request.urlopen(urllib.request.Request(studio.address + "config", headers=foreign | {"origin": own})):
        pass


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_a_form_on_another_site_starts_nothing(studio, kind):
    """In a frame the cookie goes along with requests of other sites, and forms need no leave to be sent."""
    body = b'{"data": [], "fn_index": 0, "session_hash": "x"}'
    for path in ("gradio_api/queue/join", "gradio_api/call/chat_start_over", "gradio_api/cancel", "gradio_api/reset"):
        request = urllib.request.Request(studio.address + path, body, {"content-type": kind})
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request)
        assert error.value.code == 422, path
