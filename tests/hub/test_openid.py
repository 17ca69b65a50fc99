"""The provider as an app meets it: consent, codes, tokens with scopes and an end."""

import base64
import re
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from tests.hub.people import AppToken

REDIRECT = "http://127.0.0.1:1/login/callback"


@pytest.fixture
def app(hub):
    """An app, and Ann who has signed in to the Hub."""
    hub.user("ann")
    hub.openid.person = "ann"
    return hub.openid.app(REDIRECT)


def ask(hub, app, **changed) -> httpx2.Response:
    query = {
        "response_type": "code",
        "client_id": app["OAUTH_CLIENT_ID"],
        "redirect_uri": f"{REDIRECT}?_target_url=%2F",
        "scope": app["OAUTH_SCOPES"],
        "state": "s",
        "nonce": "n",
    }
    return httpx2.get(f"{hub.endpoint}/oauth/authorize?{urlencode(query | changed)}")


def decide(hub, page: httpx2.Response, decision: str) -> dict[str, str]:
    """What the app hears."""
    name = re.search('name="request" value="([^"]+)"', page.text)[1]
    answer = httpx2.post(f"{hub.endpoint}/oauth/authorize", data={"request": name, "decision": decision})
    assert answer.status_code == 303
    return {key: texts[0] for key, texts in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def redeem(hub, app, code: str, secret: str = "") -> httpx2.Response:
    basic = f"{app['OAUTH_CLIENT_ID']}:{secret or app['OAUTH_CLIENT_SECRET']}"
    given = {"grant_type": "authorization_code", "code": code, "redirect_uri": f"{REDIRECT}?_target_url=%2F"}
    headers = {"Authorization": f"Basic {base64.b64encode(basic.encode()).decode()}"}
    return httpx2.post(f"{hub.endpoint}/oauth/token", data=given, headers=headers)


def test_consent_gives_a_token_once(hub, app):
    page = ask(hub, app)
    assert "contribute-repos" in page.text
    heard = decide(hub, page, "allow")
    assert heard.keys() == {"_target_url", "code", "state"}
    assert redeem(hub, app, heard["code"], "wrong").status_code == 401
    token = redeem(hub, app, heard["code"]).json()
    assert token["scope"] == app["OAUTH_SCOPES"] and token["expires_in"] == hub.openid.seconds
    assert redeem(hub, app, heard["code"]).status_code == 400, "a code is good for once"
    said = httpx2.get(f"{hub.endpoint}/oauth/userinfo", headers={"Authorization": f"Bearer {token['access_token']}"})
    assert said.json()["preferred_username"] == "ann"


def test_a_refusal_gives_none(hub, app):
    assert decide(hub, ask(hub, app), "refuse")["error"] == "access_denied" and hub.openid.issued == []


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "x"},
        {"redirect_uri": "http://evil.example/"},
        {"scope": "openid manage-repos"},
        {"scope": "profile"},
    ],
)
def test_an_app_gets_only_what_it_was_registered_for(hub, app, changed):
    assert ask(hub, app, **changed).status_code == 400


def test_scopes(hub, connect):
    connect()
    hub.user("ann")

    def client(scopes: str, app: str = "app", seconds: float = 60) -> HfApi:
        token = hub.people.issue(AppToken("ann", app, frozenset(scopes.split()), time.time() + seconds))
        return HfApi(endpoint=hub.endpoint, token=token)

    def status(call, *given, **named) -> int:
        with pytest.raises(HfHubHTTPError) as error:
            call(*given, **named)
        return error.value.response.status_code

    contributor = client("openid contribute-repos")
    contributor.create_repo("ann/made", private=True)
    assert contributor.model_info("ann/made").private
    assert client("openid contribute-repos").model_info("ann/made").private, "another visit, the same app"
    for scopes, app in (("openid profile", "app"), ("openid contribute-repos", "other")):
        assert status(client(scopes, app).model_info, "ann/made") == 404
    assert client("openid read-repos", "other").model_info("ann/made").private
    assert status(client("openid").create_repo, "ann/more") == 403
    assert status(contributor.create_repo, "lab/more") == 403
    assert status(lambda: [*contributor.list_jobs(namespace="ann")]) == 403
    assert list(client("openid jobs").list_jobs(namespace="ann")) == []
    assert status(client("openid manage-repos", seconds=-1).whoami) == 401
