"""The way to the Hub and back, as the server sees it: what Gradio's own routes do is played here."""

import logging

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rlhfv.services.actor import Actor
from rlhfv.settings import Space
from rlhfv.studio.sign_in import HubSignIn, local_target
from rlhfv.studio.visitor import VisitorCookie, actor

SECRET = "hf_" + "5" * 34


class Accounts:
    """Whoever came back, by visitor."""

    def __init__(self):
        self.here = {}

    def begin(self, visitor, given):
        self.here[visitor] = given["userinfo"]["preferred_username"]

    def actor(self, visitor):
        return Actor(visitor, self.here.get(visitor, ""), frozenset({"chat"}))

    def end(self, visitor):
        self.here.pop(visitor, None)


@pytest.fixture
def client():
    def who(request: Request):
        found = actor(request)
        return JSONResponse([found.visitor, found.name, dict(request.session)])

    def login(request: Request):
        request.session["_state_huggingface_x"] = {"data": "x"}
        return RedirectResponse("https://hub.example/oauth/authorize")

    def callback(request: Request):
        if request.query_params.get("code") == "broken":
            raise RuntimeError(f"the Hub answered with {SECRET}")
        request.session["oauth_info"] = {"access_token": SECRET, "userinfo": {"preferred_username": "ann"}}
        return RedirectResponse("/")

    def logout(request: Request):
        return RedirectResponse("/")

    routes = [
        Route("/", who),
        Route("/login/huggingface", login),
        Route("/login/callback", callback),
        Route("/logout", logout),
    ]
    middleware = [
        Middleware(VisitorCookie, key=b"k" * 32, framed=True),
        Middleware(HubSignIn, accounts=Accounts(), space=Space("lab/studio", "lab", "lab.hf.space", True)),
    ]
    return TestClient(Starlette(routes=routes, middleware=middleware), follow_redirects=False)


def test_whoever_comes_back_is_signed_in_until_they_sign_out(client, caplog):
    caplog.set_level(logging.DEBUG)
    visitor = client.get("/").json()[0]
    client.get("/login/huggingface")
    assert client.get("/login/callback?code=1").headers["location"] == "/"
    assert client.get("/").json() == [visitor, "ann", {}], "the same visitor, and nothing is left of the session"
    assert list(client.cookies) == ["rlhfv_visitor"] and SECRET not in str(client.cookies.jar) + caplog.text
    client.get("/logout")
    assert client.get("/").json() == [visitor, "", {}]


def test_the_state_belongs_to_one_visitor(client):
    client.get("/")
    client.get("/login/huggingface")
    assert "_state_huggingface_x" in client.get("/").json()[2]
    client.cookies.clear()
    assert client.get("/").json()[2] == {}


@pytest.mark.parametrize(
    ("query", "status", "title"),
    [
        ("error=access_denied&error_description=x", 200, "You are not signed in"),
        ("error=server_error", 502, "Signing in did not work"),
        ("code=broken", 502, "Signing in did not work"),
        ("code=1&_nb_redirects=2", 200, "Your browser forgot who you are"),
    ],
)
def test_what_went_wrong_is_told_on_a_page_that_leads_back(client, caplog, query, status, title):
    client.get("/")
    if "_nb" not in query:
        client.get("/login/huggingface")
    answer = client.get(f"/login/callback?{query}&state=x&_target_url=%2F%3Ftab%3Dcorrect%26answer%3Da1")
    assert answer.status_code == status and f"<h1>{title}</h1>" in answer.text
    assert 'href="/?tab=correct&amp;answer=a1"' in answer.text and "nothing is lost" in answer.text
    assert client.get("/").json()[1:] == ["", {}]
    assert SECRET not in answer.text + caplog.text
    if "forgot" in title:
        assert 'href="https://lab.hf.space/?tab=correct&amp;answer=a1" target="_blank"' in answer.text


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("", "/"),
        ("/?tab=publish", "/?tab=publish"),
        ("https://evil.example/x?a=1", "/x?a=1"),
        ("//evil.example", "/"),
        ("////evil.example", "/evil.example"),
        ("/\\evil.example", "/evil.example"),
        ("javascript:alert(1)", "/alert%281%29"),
        ('/x"><script>', "/x%22%3E%3Cscript%3E"),
        ("http://[", "/"),
    ],
)
def test_it_leads_back_to_this_studio_only(given, target):
    assert local_target(given) == target


class TestCookie:
    """For requests from which sites the visitor's cookie is sent."""

    @pytest.mark.parametrize(
        ("framed", "proto", "flags"),
        [
            (True, "https", "SameSite=None; Secure; Partitioned"),
            (True, "http", "SameSite=Lax"),
            (False, "https,http", "SameSite=Lax; Secure"),
            (False, "", "SameSite=Lax"),
        ],
    )
    def test_in_a_frame_it_is_partitioned(self, framed, proto, flags):
        app = Starlette(
            routes=[Route("/", lambda request: JSONResponse(actor(request).visitor))],
            middleware=[Middleware(VisitorCookie, key=b"k" * 32, framed=framed)],
        )
        headers = {"x-forwarded-proto": proto} if proto else {}
        cookie = TestClient(app).get("/", headers=headers).headers["set-cookie"]
        assert cookie.endswith(f"HttpOnly; {flags}")
