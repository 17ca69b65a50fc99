import os
import stat

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rlhfv.errors import Forbidden
from rlhfv.services.actor import RIGHTS, Actor
from rlhfv.services.people import ROLES, SCRYPT, People
from rlhfv.settings import Settings
from rlhfv.studio.app import stranger_rights
from rlhfv.studio.visitor import COOKIE, HEADER, VisitorCookie, actor, describe, read_key, sign, verify

KEY = b"k" * 32


@pytest.fixture
def client():
    def who(request):
        return PlainTextResponse(actor(request).visitor)

    app = Starlette(routes=[Route("/", who)], middleware=[Middleware(VisitorCookie, key=KEY)])
    return TestClient(app)


def test_a_first_visit_gets_an_id_that_scripts_cannot_read(client):
    answer = client.get("/")
    header = answer.headers["set-cookie"].lower()
    assert "httponly" in header and "samesite=lax" in header and len(answer.text) == 32
    assert client.get("/").text == answer.text, "the second visit is the same visitor's"
    assert "set-cookie" not in client.get("/").headers


@pytest.mark.parametrize(
    "forged", ["a" * 32, "a" * 32 + "." + "0" * 64, "", "é.ü", "x" * 5000, sign("a" * 32, b"other")]
)
def test_a_forged_id_is_refused_and_told_in_the_log(client, forged, caplog):
    answer = client.get("/", headers={"cookie": f"{COOKIE}={forged}".encode("latin-1")})
    assert answer.text != "a" * 32 and len(answer.text) == 32
    assert "set-cookie" in answer.headers
    assert "did not issue" in caplog.text


def test_an_id_in_a_header_of_the_client_counts_nothing(client):
    assert client.get("/", headers={HEADER: describe(Actor("a" * 32))}).text != "a" * 32


def test_only_a_genuine_signature_is_accepted():
    assert verify(sign("abc", KEY), KEY) == "abc"
    assert verify(sign("abc", KEY).replace("a", "b", 1), KEY) is None
    assert verify(None, KEY) is None and verify("abc", KEY) is None


def test_the_key_is_made_once_and_read_by_its_owner_only(tmp_path):
    key = read_key(tmp_path)
    assert len(key) == 32 and read_key(tmp_path) == key
    assert os.listdir(tmp_path) == ["visitors.key"]
    assert stat.S_IMODE((tmp_path / "visitors.key").stat().st_mode) == 0o600


def test_a_request_that_bypassed_the_server_is_forbidden():
    class Bare:
        headers = {}

    with pytest.raises(Forbidden):
        actor(Bare())


class TestTeam:
    """Requests to a studio where people sign in, as Gradio keeps its list of those who did."""

    @pytest.fixture
    def people(self, tmp_path, monkeypatch):
        monkeypatch.setitem(SCRYPT, "n", 2)
        people = People(tmp_path / "users.json")
        people.add("Ann Ö", "annotator", "four words are long")
        return people

    @pytest.fixture
    def client(self, people):
        def who(request):
            found = actor(request)
            return JSONResponse([found.visitor, found.name, sorted(found.rights)])

        app = Starlette(
            routes=[Route("/", who)],
            middleware=[Middleware(VisitorCookie, key=KEY, rights=frozenset(), people=people)],
        )
        app.tokens, app.cookie_id = {"token-1": "Ann Ö"}, "x"
        return TestClient(app)

    def test_whoever_did_not_sign_in_may_do_nothing(self, client):
        forged = {"cookie": "access-token-x=token-2", HEADER: describe(Actor("a" * 32, rights=RIGHTS))}
        for headers in ({}, forged):
            visitor, name, rights = client.get("/", headers=headers).json()
            assert (name, rights) == ("", []) and visitor != "a" * 32

    @pytest.mark.parametrize("kind", ["access-token-x", "access-token-unsecure-x"])
    def test_a_role_is_asked_at_every_request(self, client, people, kind):
        headers = {"cookie": f"{kind}=token-1"}
        visitor, name, rights = client.get("/", headers=headers).json()
        assert (name, rights) == ("Ann Ö", sorted(ROLES["annotator"]))
        assert visitor == people.user("Ann Ö").visitor, "drafts follow the person, not the browser"
        people.disable("Ann Ö")
        assert client.get("/", headers=headers).json()[1:] == ["", []]

    def test_a_new_password_ends_the_sessions_that_are_open(self, client, people):
        def name(session: str) -> str:
            return client.get("/", headers={"cookie": f"access-token-x={session}"}).json()[1]

        assert name("token-1") == "Ann Ö"
        people.reset("Ann Ö", "another four words")
        assert name("token-1") == ""
        client.app.tokens["token-2"] = "Ann Ö"
        assert (name("token-1"), name("token-2")) == ("", "Ann Ö")


def test_strangers_may_do_all_only_on_a_machine_of_one_person(tmp_path):
    alone = stranger_rights(Settings(data_dir=tmp_path))
    public = stranger_rights(Settings(data_dir=tmp_path, single_user=False))
    team = stranger_rights(Settings(data_dir=tmp_path, single_user=False, team=True))
    assert alone == RIGHTS and not team
    assert "chat" in public and not public & {"manage", "publish", "review", "annotate"}
