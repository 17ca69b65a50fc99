"""A Space on the Hub: made, told what it needs, brought up to date, copied."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, SpaceHardware, Volume
from huggingface_hub.errors import BucketNotFoundError, HfHubHTTPError, RepositoryNotFoundError

from rlhfv.errors import InvalidData, StudioError
from rlhfv.publishing.hub import Hub

Answer = TypeVar("Answer")

ZERO_GPU = "zero-a10g"
MOUNT = "/data"
ADMIN = "create and change Spaces there (role 'write', or permission 'repo.write' for that namespace)"
REFUSALS = {
    400: ("That is not what the Hub takes.", "Change what it names, then run this again."),
    401: (
        "The Hub does not know this token any longer.",
        "Run `hf auth login`, or put a valid token into HF_TOKEN.",
    ),
    402: (
        "It needs a paid plan or credit.",
        f"A free account may host two Spaces on ZeroGPU: add --hardware {ZERO_GPU}. Or subscribe to PRO, or add a "
        "payment method in the billing settings.",
    ),
    403: (
        f"This token may not {ADMIN}.",
        "Name a namespace of yours with --to, or take a token that may: https://huggingface.co/settings/tokens.",
    ),
    404: (
        "There is no such Space, or this token may not see it.",
        "Check the name, and whose token this is: `hf auth whoami`.",
    ),
    409: ("The name is taken.", "Choose another with --to, or delete what is there."),
    412: ("Somebody else changed this Space at the same moment.", "Run this again: it looks anew."),
}
"""Status of a reply → what it means here, and what to do."""


@dataclass(frozen=True)
class Wanted:
    """What the Space shall have beside its files. `hardware` and `bucket` are left as they are when empty."""

    variables: dict[str, str]
    secrets: dict[str, str]
    hardware: str = ""
    bucket: str = ""


def attempt(hub: Hub, doing: str, act: Callable[[HfApi], Answer]) -> Answer:
    """What `act` gets; what a Space alone can be refused for is told here, all else as the project tells it."""

    def act_or_tell(api: HfApi) -> Answer:
        try:
            return act(api)
        except HfHubHTTPError as error:
            status = 404 if isinstance(error, RepositoryNotFoundError) else error.response.status_code
            if status not in REFUSALS:
                raise
            said = hub.scrub(error.server_message or str(error).splitlines()[0])
        why, fix = REFUSALS[status]
        raise StudioError(f"{doing} did not work ({status}).", f"{why} The Hub says: {said}", fix)

    return hub.ask(doing, ADMIN, act_or_tell)


def check_hardware(hub: Hub, hardware: str) -> None:
    """Raises `InvalidData` for a flavor that neither the Hub nor its client knows, before anything is made."""
    offered = attempt(hub, "The list of hardware", lambda api: api.list_spaces_hardware())
    prices = {one.name: f"{one.name} (${one.unit_cost_usd * 60:.2f}/h)" for one in offered}
    known = {flavor.value: flavor.value for flavor in SpaceHardware} | prices
    if hardware not in known:
        raise InvalidData(
            f"There is no hardware {hardware!r} for Spaces.",
            f"The Hub offers {', '.join(prices.values())}, and ZeroGPU as {ZERO_GPU}.",
            "Name one of these with --hardware.",
        )


def make_bucket(hub: Hub, bucket: str, make: bool = True) -> None:
    """Sees to it that there is this bucket, unless not to `make` it. Raises `InvalidData` for one that is public."""

    def make_and_look(api: HfApi) -> bool:
        if make:
            api.create_bucket(bucket, private=True, exist_ok=True)
        try:
            return api.bucket_info(bucket).private
        except BucketNotFoundError:
            if make:
                raise
            return True

    if not attempt(hub, f"The bucket {bucket}", make_and_look):
        raise InvalidData(
            f"The bucket {bucket} is public.",
            "The copy of the studio in it holds everybody's corrections and the key that signs the visitors' cookies.",
            "Make it private in its settings on the Hub, or name another with --bucket.",
        )


def read_variables(hub: Hub, repo: str) -> dict[str, str]:
    known = attempt(hub, f"The look at the variables of {repo}", lambda api: api.get_space_variables(repo))
    return {name: variable.value for name, variable in known.items()}


def create(hub: Hub, repo: str, wanted: Wanted, private: bool, says: Callable) -> None:
    """An empty Space with all that it is told."""
    if wanted.bucket:
        make_bucket(hub, wanted.bucket)
    attempt(
        hub,
        f"The creation of the Space {repo}",
        lambda api: api.create_repo(
            repo, repo_type="space", space_sdk="gradio", private=private, **_as_arguments(wanted)
        ),
    )
    says(f"created    {repo}, {_visibility(private)}, on {wanted.hardware or 'CPU Basic'}")
    tell_wanted(wanted, says)


def duplicate(hub: Hub, source: str, repo: str, wanted: Wanted, private: bool, says: Callable) -> None:
    """A copy of somebody's Space: files and variables come along, secrets do not."""
    if wanted.hardware:
        check_hardware(hub, wanted.hardware)
    if wanted.bucket:
        make_bucket(hub, wanted.bucket)
    made = attempt(
        hub,
        f"The duplication of {source} as {repo}",
        lambda api: api.duplicate_repo(source, repo, repo_type="space", private=private, **_as_arguments(wanted)),
    )
    says(f"duplicated {source} as {repo}, {_visibility(private)}: {made}")
    tell_wanted(wanted, says)


def adjust(hub: Hub, repo: str, wanted: Wanted, dry: bool, says: Callable) -> bool:
    """Brings what a Space that is there is told to what is wanted. True if there was anything to do."""
    runtime = attempt(hub, f"The look at {repo}", lambda api: api.get_space_runtime(repo))
    known = read_variables(hub, repo)
    variables = {name: value for name, value in wanted.variables.items() if known.get(name) != value}
    others = [volume for volume in runtime.volumes or [] if volume.mount_path != MOUNT]
    mounted = [volume.source for volume in runtime.volumes or [] if volume.mount_path == MOUNT]
    bucket = wanted.bucket if wanted.bucket and mounted != [wanted.bucket] else ""
    if wanted.bucket:
        make_bucket(hub, wanted.bucket, make=bool(bucket) and not dry)
    steps: list[tuple[str, Callable[[HfApi], object]]] = []
    for name, value in variables.items():
        steps.append((f"The variable {name}", lambda api, n=name, v=value: api.add_space_variable(repo, n, v)))
    for name, value in wanted.secrets.items():
        steps.append((f"The secret {name}", lambda api, n=name, v=value: api.add_space_secret(repo, n, v)))
    if bucket:
        volumes = [*others, _mount(bucket)]
        steps.append((f"The volume {MOUNT}", lambda api: api.set_space_volumes(repo, volumes)))
    if hardware := wanted.hardware if wanted.hardware != (runtime.requested_hardware or runtime.hardware) else "":
        steps.append((f"The hardware {hardware}", lambda api: api.request_space_hardware(repo, hardware)))
    for doing, act in [] if dry else steps:
        attempt(hub, doing, act)
    tell_wanted(Wanted(variables, wanted.secrets, bucket=bucket), says)
    if hardware:
        says(f"hardware   {hardware}, was {runtime.requested_hardware or runtime.hardware}")
    return bool(steps)


def commit(hub: Hub, repo: str, head: str, added: dict[str, bytes], deleted: list[str], message: str) -> str:
    """One commit on top of `head`; gives its address."""
    operations = [
        *(CommitOperationAdd(path, data) for path, data in added.items()),
        *(CommitOperationDelete(path) for path in deleted),
    ]
    made = attempt(
        hub,
        f"The push to {repo}",
        lambda api: api.create_commit(repo, operations, commit_message=message, repo_type="space", parent_commit=head),
    )
    return made.commit_url


def tell_wanted(wanted: Wanted, says: Callable) -> None:
    for name, value in wanted.variables.items():
        says(f"variable   {name}={value}")
    for name in wanted.secrets:
        says(f"secret     {name}, from the environment here")
    if wanted.bucket:
        says(f"bucket     {wanted.bucket} at {MOUNT}")


def _as_arguments(wanted: Wanted) -> dict:
    """How the Hub's client takes what a new Space shall have."""

    def as_pairs(values: dict[str, str]) -> list[dict[str, str]] | None:
        return [{"key": key, "value": value} for key, value in values.items()] or None

    return {
        "space_hardware": wanted.hardware or None,
        "space_secrets": as_pairs(wanted.secrets),
        "space_variables": as_pairs(wanted.variables),
        "space_volumes": [_mount(wanted.bucket)] if wanted.bucket else None,
    }


def _mount(bucket: str) -> Volume:
    return Volume(type="bucket", source=bucket, mount_path=MOUNT)


def _visibility(private: bool) -> str:
    return "private" if private else "public"
