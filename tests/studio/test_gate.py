"""Requests of other sites' pages, and by which network visitors are counted."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rlhfv.services.limits import DEEDS, Limits
from rlhfv.studio.gate import PLACE, UPLOAD, Gate, is_local, network, worth
from rlhfv.studio.visitor import VisitorCookie, actor

KEY = b"k" * 32


def client(limits: Limits | None = None, **options) -> TestClient:
    def who(request):
        return JSONResponse([actor(request).visitor, actor(request).place])

    limits = limits or Limits()
    return TestClient(
        Starlette(
            routes=[Route("/", who, methods=["GET", "POST"]), Route(UPLOAD, who, methods=["POST"])],
            middleware=[Middleware(Gate, key=KEY, limits=limits, **options), Middleware(VisitorCookie, key=KEY)],
        ),
        base_url="https://lab.example",
    )


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, True),
        ({"origin": "https://lab.example"}, True),
        ({"origin": "https://LAB.example:443"}, True),
        ({"origin": "https://ann-studio.hf.space"}, True),
        ({"origin": "https://lab.example", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "https://lab.example", "host": "127.0.0.1:7860", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "https://lab.example.evil.example"}, False),
        ({"origin": "https://lab.example:8443"}, False),
        ({"origin": "https://evil.example", "x-forwarded-host": "evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://[not an address"}, False),
        ({"origin": ""}, False),
        ({"origin": "https://other.lab.example", "sec-fetch-site": "same-site"}, False),
        ({"origin": "https://lab.example", "sec-fetch-site": "cross-site"}, False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_only_the_studios_own_page_is_answered(headers, own, method):
    answer = client(hosts=("ann-studio.hf.space",)).request(method, "/", headers=headers)
    assert answer.status_code == (200 if own else 403)
    if not own:
        assert "another site" in answer.json()["detail"] and "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("forwarded", "told"),
    [
        ("", ""),
        ("8.8.4.4", "8.8.4.4"),
        ("1.1.1.1, 8.8.4.4", "8.8.4.4"),
        ("1.1.1.1, 8.8.4.4, 10.0.0.7", "8.8.4.4"),
        ("10.0.0.8, 10.0.0.7", "10.0.0.7"),
        ("8.8.4.4:5123", "8.8.4.4"),
        ('"[2a00:1450:4001:81b::200e]:443"', "2a00:1450:4001:81b::/64"),
        ("2a00:1450:4001:81b:1:2:3:4", "2a00:1450:4001:81b::/64"),
        ("::ffff:8.8.4.4", "8.8.4.4"),
        ("what, unknown, <script>", ""),
    ],
)
def test_the_network_is_the_one_that_the_proxy_saw(forwarded, told):
    assert network(forwarded) == told


def test_a_place_is_known_only_where_limits_hold_and_no_address_can_be_read_off():
    seen = {"x-forwarded-for": "1.1.1.1, 8.8.4.4"}
    assert client(trusted=True).get("/", headers=seen).json()[1] == ""
    limited = client(Limits(5, 50), trusted=True)
    (_, here), (_, again) = (limited.get("/", headers=seen).json() for _ in range(2))
    assert here == again and len(here) == 16 and "8" not in {here} and "8.8.4.4" not in here
    assert limited.get("/", headers={"x-forwarded-for": "8.8.8.8"}).json()[1] != here
    forged = limited.get("/", headers=seen | {PLACE: "somewhere"}).json()[1]
    assert forged == here, "what a client says of it itself counts nothing"


def test_where_no_proxy_is_trusted_the_address_of_the_connection_counts():
    limited = client(Limits(5, 50))
    places = {limited.get("/", headers={"x-forwarded-for": f"8.8.4.{n}"}).json()[1] for n in range(3)}
    assert len(places) <= 1


def test_files_are_counted_by_network_before_they_are_read():
    limits = Limits(1, 0)
    limited, most = client(limits, trusted=True), int(DEEDS["upload"][0])
    here = {"x-forwarded-for": "8.8.4.4"}
    codes = [limited.post(UPLOAD, headers=here).status_code for _ in range(most + 2)]
    assert codes == [200] * most + [429] * 2
    refused = limited.post(UPLOAD, headers=here)
    assert "Wait" in refused.text and int(refused.headers["retry-after"]) > 0
    assert limited.post(UPLOAD, headers={"x-forwarded-for": "8.8.8.8"}).status_code == 200


def test_a_large_file_is_worth_several_small_ones():
    limits = Limits(2, 0)
    limited, here = client(limits, trusted=True), {"x-forwarded-for": "8.8.4.4"}
    assert limited.post(UPLOAD, headers=here, content=b"x" * 10_000_001).status_code == 200
    codes = [limited.post(UPLOAD, headers=here, content=b"x").status_code for _ in range(4)]
    assert codes == [200] * 3 + [429], "three of six were gone"
    assert (worth("12"), worth("25000000"), worth(""), worth("-1")) == (1, 6, 100, 100)


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost:7860", True),
        ("LOCALHOST.", True),
        ("127.0.0.1:7860", True),
        ("[::1]:7860", True),
        ("studio.lab.org", True),
        ("studio.lab.org:8443", True),
        ("evil.example:7860", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("studio.lab.org@evil.example", False),
        ("[", False),
        ("", False),
    ],
)
def test_a_site_whose_name_is_pointed_at_this_machine_gets_nothing(host, answered):
    """DNS rebinding: its page is then of the same site as what it asks."""
    here = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    for method in ("GET", "POST"):
        answer = client(hosts=("studio.lab.org",), local=True).request(method, "/", headers=here)
        assert answer.status_code == (200 if answered else 421)
        assert answered or ("--public-host" in answer.text and "set-cookie" not in answer.headers)
    if host:
        assert client().get("/", headers={"host": "evil.example"}).status_code == 200, "served to a network"


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("10.0.0.7", False)],
)
def test_what_only_this_machine_reaches(address, local):
    assert is_local(address) is local
