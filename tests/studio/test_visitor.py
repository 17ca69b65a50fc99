import os
import stat

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rlhfv.errors import Forbidden
from rlhfv.studio.visitor import COOKIE, VisitorCookie, actor, read_key, sign, verify

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
    assert client.get("/", headers={"x-rlhfv-visitor": "a" * 32}).text != "a" * 32


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
