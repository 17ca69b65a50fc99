"""Spaces beside their files: hardware, variables, secrets, volumes, duplication.

Nothing runs here. Who has no plan may make Spaces on ZeroGPU only, two of them, and gets no paid hardware.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.hub.jobs import HARDWARE as PAID
from tests.hub.repos import as_date
from tests.hub.storage import MAIN, Repo
from tests.hub.wire import REPO, Refusal, Request, Response, reply

ZERO = "zero-a10g"
FREE = "cpu-basic"
HARDWARE = [*PAID, (ZERO, "ZeroGPU", "8 vCPU", "64 GB", None, 0)]
SPACE = REPO.replace("models|datasets|spaces", "spaces")


@dataclass
class Space:
    """What the Hub knows of a Space beside its repository. Of `secrets` it shows the names only."""

    hardware: str = FREE
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(repr=False, default_factory=dict)
    volumes: list[dict] = field(default_factory=list)


class Spaces:
    """`unpaid` are the namespaces without a plan."""

    def __init__(self):
        self.all: dict[str, Space] = {}
        self.unpaid: set[str] = set()
        self.buckets: dict[str, bool] = {}
        self.stored: dict[str, object] = {}

    def prepare(self, hub, id: str, wanted: dict) -> Space:
        """The Space that a request to create or duplicate asks for, or why it is refused."""
        namespace = id.partition("/")[0]
        hardware = wanted.get("hardware") or FREE
        check_hardware(hardware)
        free = [other for other, space in self.all.items() if other.startswith(f"{namespace}/")]
        if namespace in self.unpaid and (hardware != ZERO or len(free) >= 2) and wanted.get("sdk") != "static":
            raise Refusal(402, "A PRO subscription is required to create Gradio and Docker Spaces")
        return Space(
            hardware,
            {pair["key"]: pair["value"] for pair in wanted.get("variables", [])},
            {pair["key"]: pair["value"] for pair in wanted.get("secrets", [])},
            check_volumes(hub, wanted.get("volumes", [])),
        )


def check_hardware(hardware: str) -> None:
    if hardware not in [row[0] for row in HARDWARE]:
        raise Refusal(400, f"Invalid hardware flavor: {hardware}")


def check_volumes(hub, volumes: list[dict]) -> list[dict]:
    for volume in volumes:
        if volume["type"] == "bucket" and volume["source"] not in hub.spaces.buckets:
            raise Refusal(400, f"Bucket not found: {volume['source']}")
    return volumes


def open_space(hub, request: Request, owner: str, name: str, right: str = "write") -> Space:
    repo = hub.open(request, "spaces", owner, name, right)
    return hub.spaces.all.setdefault(repo.id, Space())


def show_secrets(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    space = open_space(hub, request, owner, name)
    return reply({key: {"updatedAt": as_date(datetime.now(UTC))} for key in space.secrets})


def add_secret(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    pair = request.json()
    open_space(hub, request, owner, name).secrets[pair["key"]] = pair["value"]
    return reply({})


def show_variables(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    space = open_space(hub, request, owner, name)
    return reply({key: {"value": value} for key, value in space.variables.items()})


def add_variable(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    pair = request.json()
    open_space(hub, request, owner, name).variables[pair["key"]] = pair["value"]
    return show_variables(hub, request, kind, owner, name)


def show_runtime(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    space = open_space(hub, request, owner, name, "read")
    return reply(
        {
            "stage": "RUNNING",
            "hardware": {"current": space.hardware, "requested": space.hardware},
            "gcTimeout": None,
            "volumes": space.volumes,
        }
    )


def request_hardware(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    space, wanted = open_space(hub, request, owner, name), request.json()["flavor"]
    check_hardware(wanted)
    if owner in hub.spaces.unpaid and wanted not in (FREE, ZERO):
        raise Refusal(402, "Payment method required: add a payment method to upgrade this Space")
    space.hardware = wanted
    return show_runtime(hub, request, kind, owner, name)


def set_volumes(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    open_space(hub, request, owner, name).volumes = check_volumes(hub, request.json()["volumes"])
    return reply({})


def duplicate(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    """Files and variables come along, secrets do not; private unless the request says otherwise."""
    source, wanted = hub.open(request, "spaces", owner, name, "read"), request.json()
    id = wanted["repository"]
    hub.people.check_namespace(request.token, "spaces", id.partition("/")[0])
    with hub.storage.lock:
        if f"spaces/{id}" in hub.storage.repos:
            raise Refusal(409, f"You already created this space repo: {id}", url=f"{hub.endpoint}/spaces/{id}")
        space = hub.spaces.prepare(hub, id, {**wanted, "sdk": source.sdk})
        space.variables = {**hub.spaces.all.setdefault(source.id, Space()).variables, **space.variables}
        private = wanted.get("visibility", "private") == "private"
        made: Repo = hub.storage.create("spaces", id, request.person, private, source.sdk)
        made.large |= source.large
        hub.storage.commit(made, MAIN, source.commit_at("main").files, request.person, f"Duplicate from {source.id}")
        hub.spaces.all[id] = space
    return reply({"url": f"{hub.endpoint}/spaces/{id}", "filesCopyPending": False})


def list_hardware(hub, request: Request) -> Response:
    names = ("name", "prettyName", "cpu", "ram", "accelerator", "unitCostMicroUSD")
    rows = [dict(zip(names, row, strict=True)) for row in HARDWARE if row[0] != ZERO]
    return reply([{**row, "unitCostUSD": row["unitCostMicroUSD"] / 1e6, "unitLabel": "minute"} for row in rows])


ROUTES = [
    ("GET", r"/api/spaces/hardware", list_hardware),
    ("GET", SPACE + r"/secrets", show_secrets),
    ("POST", SPACE + r"/secrets", add_secret),
    ("GET", SPACE + r"/variables", show_variables),
    ("POST", SPACE + r"/variables", add_variable),
    ("GET", SPACE + r"/runtime", show_runtime),
    ("POST", SPACE + r"/hardware", request_hardware),
    ("PUT", SPACE + r"/volumes", set_volumes),
    ("POST", SPACE + r"/duplicate", duplicate),
]
