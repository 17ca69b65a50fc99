"""Puts the studio into a Space of yours, or a Space of somebody else's that runs it.

python spaces/deploy.py                       creates <you>/correction-studio, or brings it up to date
python spaces/deploy.py --to lab/studio --hardware l4x1 --bucket lab/kept --flags "--model llava-hf/llava-1.5-7b-hf"
python spaces/deploy.py --from lab/studio     duplicates that Space
python spaces/deploy.py --photos none         without the photographs that its page opens on
python spaces/deploy.py --dry-run             lists the files; with --to also what would change there
python spaces/deploy.py --folder FOLDER       lays the files out, ready for `git push`

The token is that of HF_TOKEN or `hf auth login`. Values of secrets are read from this machine's environment and shown
nowhere.
"""

import argparse
import hashlib
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rlhfv.commands.terminal import count, run, show  # noqa: E402
from rlhfv.errors import InvalidData, StudioError  # noqa: E402
from rlhfv.models.known import find_known  # noqa: E402
from rlhfv.publishing.photographs import DATASET, FOLDER, choose_for_space, read_folder  # noqa: E402
from rlhfv.publishing.space_card import make_card  # noqa: E402
from rlhfv.publishing.token import scrub  # noqa: E402
from rlhfv.settings import DURABLE_VARIABLE, FLAGS_VARIABLE  # noqa: E402

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from rlhfv.publishing.hub import Hub

Answer = TypeVar("Answer")

# A Space wants its card and requirements at the top, in place of the project's own.
AT_THE_TOP = {
    "README.md": "spaces/README.md",
    "requirements.txt": "spaces/requirements.txt",
    "app.py": "app.py",
    "LICENSE": "LICENSE",
}
PACKAGE = "rlhfv"
NAME = "correction-studio"
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


# ---- the files


def list_files() -> dict[str, Path]:
    """Target path in the Space to source path here: the four files at the top and the package without its leavings
    and the pages for people."""
    files = {target: ROOT / source for target, source in AT_THE_TOP.items()}
    for path in sorted((ROOT / PACKAGE).rglob("*")):
        inside = path.relative_to(ROOT)
        left_out = {"docs", "__pycache__"}.intersection(inside.parts) or path.suffix in (".pyc", ".pyi")
        if path.is_file() and not left_out:
            files[inside.as_posix()] = path
    return files


def read_files(flags: str, recorded: dict[str, bytes]) -> dict[str, bytes]:
    """Target path to content, of the files of `list_files` and those that are `recorded`."""
    files = {target: path.read_bytes() for target, path in list_files().items()} | recorded
    return files | {"README.md": make_card(files["README.md"].decode(), spell_out(flags), recorded)}


def spell_out(flags: str) -> str:
    """The flags with a model's short name as what it stands for: the Hub ids of the base, of its aligned adapter and
    of the other models that will stand beside it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--model")
    parser.add_argument("--beside")
    given, others = parser.parse_known_args(shlex.split(flags))
    words: dict[str, None] = {}
    for flag, name in (("--model", given.model), ("--beside", given.beside)):
        known = find_known(name or "")
        short = known is not None and name == known.name
        words |= {f"{flag}={known.source if known else name}": None} if name else {}
        if short and known.aligned:
            words[f"--adapter={known.aligned[0]}"] = None
        counterpart = find_known(known.beside) if short and known.beside else None
        if counterpart and not (flag == "--model" and given.beside) and f"--model={counterpart.source}" not in words:
            words[f"--beside={counterpart.source}"] = None
    return shlex.join([*words, *others])


def lay_out(folder: Path, flags: str = "", recorded: Path | None = None) -> None:
    """Copies the files into an empty `folder`, with the recordings of the folder `recorded`."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InvalidData(
            f"'{folder}' is not an empty folder.", "What is in it would stay among the Space's files.", "Name another."
        )
    for target, data in read_files(flags, read_folder(recorded) if recorded else {}).items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_bytes(data)


def name_content(data: bytes) -> set[str]:
    """How the Hub may name this content: as a large file, or as git does."""
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data)
    return {f"sha256:{hashlib.sha256(data).hexdigest()}", f"git:{blob.hexdigest()}"}


@dataclass(frozen=True)
class Changes:
    """What a commit has to do so that the Space holds the files of `list_files`. What somebody else put beside the
    package stays."""

    new: list[str]
    changed: list[str]
    gone: list[str]

    def __str__(self) -> str:
        parts = [f"{len(self.new)} new", f"{len(self.changed)} changed", f"{len(self.gone)} deleted"]
        return ", ".join(part for part in parts if not part.startswith("0 "))

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.gone)


def compare(files: dict[str, bytes], present: dict[str, list[str]]) -> Changes:
    """`present` is what the Hub says of each file of the Space."""
    return Changes(
        new=[target for target in files if target not in present],
        changed=[
            target
            for target, data in files.items()
            if target in present and not name_content(data) & set(present[target])
        ],
        gone=[path for path in present if path.startswith((f"{PACKAGE}/", f"{FOLDER}/")) and path not in files],
    )


# ---- what a Space is told


@dataclass(frozen=True)
class Wanted:
    """What the Space shall have beside its files. `hardware` and `bucket` are left as they are when empty."""

    variables: dict[str, str]
    secrets: dict[str, str]
    hardware: str = ""
    bucket: str = ""


def needed_secrets(flags: str) -> list[str]:
    """The environment variables with keys or tokens that `app.py` will read with these flags."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--remote-key-env", action="append", default=[])
    parser.add_argument("--publish-to")
    parser.add_argument("--durable")
    parser.add_argument("--model")
    parser.add_argument("--beside")
    known, _ = parser.parse_known_args(shlex.split(flags))
    names = [text.rpartition("=")[2] for text in known.remote_key_env]
    bases = [find_known(name) for name in (known.model, known.beside) if name]
    gated = any(base is not None and base.gated for base in bases)  # its owner's agreement belongs to an account
    on_the_hub = gated or known.publish_to or (known.durable or "").startswith("hf://")
    return [*dict.fromkeys(names), *(["HF_TOKEN"] if on_the_hub else [])]


def durable_of(flags: str) -> str:
    """What `--durable` names among these flags, or ""."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--durable", default="")
    return parser.parse_known_args(shlex.split(flags))[0].durable


def read_wanted(arguments: argparse.Namespace) -> Wanted:
    """Raises `InvalidData` for a secret that is not in the environment here."""
    variables = dict(arguments.variable)
    if arguments.flags is not None:
        variables[FLAGS_VARIABLE] = arguments.flags
    if arguments.bucket:
        variables.setdefault(DURABLE_VARIABLE, MOUNT)
    secrets = {}
    for name, source in arguments.secret:
        secrets[name] = os.environ.get(source, "")
        if not secrets[name]:
            raise InvalidData(
                f"The secret {name} cannot be set.",
                f"There is no variable {source} in the environment here, or it is empty.",
                f"Set it for this command, or name another: --secret {name}=VARIABLE.",
            )
    named = needed_secrets(arguments.flags or "")
    # HF_TOKEN may be the one that deploys, which is more than a Space should hold: it is given by name only.
    secrets |= {name: os.environ[name] for name in named if name != "HF_TOKEN" and os.environ.get(name)} | secrets
    return Wanted(variables, secrets, arguments.hardware or "", arguments.bucket or "")


# ---- what is done on the Hub


def attempt(hub: "Hub", doing: str, act: "Callable[[HfApi], Answer]") -> Answer:
    """What `act` gets; what a Space alone can be refused for is told here, all else as the project tells it."""
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    def act_or_tell(api: "HfApi") -> Answer:
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


def check_hardware(hub: "Hub", hardware: str) -> None:
    """Raises `InvalidData` for a flavor that neither the Hub nor its client knows, before anything is made."""
    from huggingface_hub import SpaceHardware

    offered = attempt(hub, "The list of hardware", lambda api: api.list_spaces_hardware())
    prices = {one.name: f"{one.name} (${one.unit_cost_usd * 60:.2f}/h)" for one in offered}
    known = {flavor.value: flavor.value for flavor in SpaceHardware} | prices
    if hardware not in known:
        raise InvalidData(
            f"There is no hardware {hardware!r} for Spaces.",
            f"The Hub offers {', '.join(prices.values())}, and ZeroGPU as {ZERO_GPU}.",
            "Name one of these with --hardware.",
        )


def check_flags(wanted: Wanted) -> None:
    """Ends the program, with what is wrong, for flags with which the Space's `app.py` would not start."""
    from rlhfv.settings import parse_app_arguments

    given = {name: os.environ.get(name) for name in wanted.secrets}
    os.environ.update(wanted.secrets)
    try:
        parse_app_arguments(shlex.split(wanted.variables.get(FLAGS_VARIABLE, "")))
    finally:
        for name, value in given.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def check_ours(repo: str, present: dict[str, list[str]]) -> None:
    """Raises `InvalidData` for a Space that holds something else: its files would be mixed with these."""
    other = sorted(present.keys() - {".gitattributes", "README.md"})
    if other and f"{PACKAGE}/__init__.py" not in present:
        raise InvalidData(
            f"The name {repo} is taken by another Space.",
            f"It holds {', '.join(other[:3])} and no {PACKAGE}/: this script did not make it, and leaves it alone.",
            "Choose another name with --to.",
        )


def tell_missing(hub: "Hub", repo: str, flags: str, given: dict[str, str], says: Callable) -> None:
    """Names the secrets that the Space's flags need and it does not have; they are never copied with a Space."""
    needed = needed_secrets(flags)
    if not needed:
        return
    there = attempt(hub, f"The look at the secrets of {repo}", lambda api: api.get_space_secrets(repo))
    for name in needed:
        if name not in there and name not in given:
            says(f"missing    secret {name}: python spaces/deploy.py --to {repo} --secret {name}=VARIABLE")


def tell_shared_place(source: str, repo: str, variables: dict[str, str], wanted: Wanted, says: Callable) -> None:
    """Warns of a place of the source's copy that came along: two studios cannot keep their copies in one."""
    place = variables.get(DURABLE_VARIABLE, "")
    if place.startswith("hf://") and DURABLE_VARIABLE not in wanted.variables:
        says(f"warning    {DURABLE_VARIABLE}={place} is where {source} keeps its copy; two Spaces cannot share it:")
        says(f"           python spaces/deploy.py --to {repo} --bucket NS/NAME")
    place = durable_of(variables.get(FLAGS_VARIABLE, ""))
    if place.startswith("hf://") and FLAGS_VARIABLE not in wanted.variables:
        says(f"warning    --durable {place} is where {source} keeps its copy; two Spaces cannot share it:")
        says(f'           python spaces/deploy.py --to {repo} --flags "…" --bucket NS/NAME, without --durable')


def make_volume(bucket: str):
    from huggingface_hub import Volume

    return Volume(type="bucket", source=bucket, mount_path=MOUNT)


def make_bucket(hub: "Hub", bucket: str, make: bool = True) -> None:
    """Sees to it that there is this bucket, unless not to `make` it. Raises `InvalidData` for one that is public."""
    from huggingface_hub.errors import BucketNotFoundError

    def make_and_look(api: "HfApi") -> bool:
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


def as_pairs(values: dict[str, str]) -> list[dict[str, str]] | None:
    return [{"key": key, "value": value} for key, value in values.items()] or None


def create(hub: "Hub", repo: str, wanted: Wanted, private: bool, says: Callable) -> None:
    """An empty Space with all that it is told."""
    if wanted.bucket:
        make_bucket(hub, wanted.bucket)
    attempt(
        hub,
        f"The creation of the Space {repo}",
        lambda api: api.create_repo(
            repo,
            repo_type="space",
            space_sdk="gradio",
            private=private,
            space_hardware=wanted.hardware or None,
            space_secrets=as_pairs(wanted.secrets),
            space_variables=as_pairs(wanted.variables),
            space_volumes=[make_volume(wanted.bucket)] if wanted.bucket else None,
        ),
    )
    says(f"created    {repo}, {'private' if private else 'public'}, on {wanted.hardware or 'CPU Basic'}")
    tell_wanted(wanted, says)


def tell_wanted(wanted: Wanted, says: Callable) -> None:
    for name, value in wanted.variables.items():
        says(f"variable   {name}={value}")
    for name in wanted.secrets:
        says(f"secret     {name}, from the environment here")
    if wanted.bucket:
        says(f"bucket     {wanted.bucket} at {MOUNT}")


def adjust(hub: "Hub", repo: str, wanted: Wanted, dry: bool, says: Callable) -> bool:
    """Brings what a Space that is there is told to what is wanted. True if there was anything to do."""
    runtime = attempt(hub, f"The look at {repo}", lambda api: api.get_space_runtime(repo))
    known = attempt(hub, f"The look at the variables of {repo}", lambda api: api.get_space_variables(repo))
    variables = {
        name: value for name, value in wanted.variables.items() if name not in known or known[name].value != value
    }
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
        volumes = [*others, make_volume(bucket)]
        steps.append((f"The volume {MOUNT}", lambda api: api.set_space_volumes(repo, volumes)))
    if hardware := wanted.hardware if wanted.hardware != (runtime.requested_hardware or runtime.hardware) else "":
        steps.append((f"The hardware {hardware}", lambda api: api.request_space_hardware(repo, hardware)))
    for doing, act in [] if dry else steps:
        attempt(hub, doing, act)
    tell_wanted(Wanted(variables, wanted.secrets, bucket=bucket), says)
    if hardware:
        says(f"hardware   {hardware}, was {runtime.requested_hardware or runtime.hardware}")
    return bool(steps)


def deploy(
    hub: "Hub",
    repo: str,
    wanted: Wanted,
    private: bool,
    dry: bool,
    recorded: Path | None = None,
    photos: str | None = None,
) -> int:
    """Creates the Space `repo` or brings it up to date, with one commit of what differs; `recorded` and `photos` are
    as in `choose_for_space`."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    def says(line: str) -> None:
        show(f"would be: {line}" if dry else line)

    if wanted.hardware:
        check_hardware(hub, wanted.hardware)
    check_flags(wanted)
    head, did = hub.head(repo, "space"), True
    present = hub.files(repo, head, "space") if head else {}
    check_ours(repo, present)
    shown = choose_for_space(hub, repo, head, present, recorded, photos, dry, says)
    if head:
        did = adjust(hub, repo, wanted, dry, says)
    elif dry:
        if wanted.bucket:
            make_bucket(hub, wanted.bucket, make=False)
        says(f"created    {repo}")
        tell_wanted(wanted, says)
    else:
        create(hub, repo, wanted, private, says)
        head = hub.head(repo, "space")
        present = hub.files(repo, head, "space")
    flags = wanted.variables.get(FLAGS_VARIABLE) or (flags_of(hub, repo) if head else "")
    files = read_files(flags, shown)
    changes = compare(files, present)
    if changes and not dry:
        operations = [
            *(CommitOperationAdd(target, files[target]) for target in changes.new + changes.changed),
            *(CommitOperationDelete(path) for path in changes.gone),
        ]
        made = attempt(
            hub,
            f"The push to {repo}",
            lambda api: api.create_commit(
                repo,
                operations,
                commit_message=f"Studio: {changes}",
                repo_type="space",
                parent_commit=head,
            ),
        )
        says(f"committed  {changes} ({count(len(files), 'file')} in all): {made.commit_url}")
    elif changes:
        for word, paths in (("new", changes.new), ("changed", changes.changed), ("deleted", changes.gone)):
            for path in paths:
                says(f"{word:<10} {path}")
    elif not did:
        show(f"Nothing to do: {repo} is up to date.")
    if head:
        tell_missing(hub, repo, flags, wanted.secrets, says)
    return 0


def flags_of(hub: "Hub", repo: str) -> str:
    """What `app.py` is started with in that Space."""
    known = attempt(hub, f"The look at the variables of {repo}", lambda api: api.get_space_variables(repo))
    return known[FLAGS_VARIABLE].value if FLAGS_VARIABLE in known else ""


def duplicate(hub: "Hub", source: str, repo: str, wanted: Wanted, private: bool) -> int:
    """A copy of somebody's Space: files and variables come along, secrets do not."""
    if wanted.hardware:
        check_hardware(hub, wanted.hardware)
    if wanted.bucket:
        make_bucket(hub, wanted.bucket)
    made = attempt(
        hub,
        f"The duplication of {source} as {repo}",
        lambda api: api.duplicate_repo(
            source,
            repo,
            repo_type="space",
            private=private,
            space_hardware=wanted.hardware or None,
            space_secrets=as_pairs(wanted.secrets),
            space_variables=as_pairs(wanted.variables),
            space_volumes=[make_volume(wanted.bucket)] if wanted.bucket else None,
        ),
    )
    show(f"duplicated {source} as {repo}, {'private' if private else 'public'}: {made}")
    tell_wanted(wanted, show)
    known = attempt(hub, f"The look at the variables of {repo}", lambda api: api.get_space_variables(repo))
    flags = known[FLAGS_VARIABLE].value if FLAGS_VARIABLE in known else ""
    tell_missing(hub, repo, flags, wanted.secrets, show)
    tell_shared_place(source, repo, {name: one.value for name, one in known.items()}, wanted, show)
    return 0


# ---- the command


def read_pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name.isidentifier() or not equals:
        raise argparse.ArgumentTypeError("a variable is given as NAME=VALUE")
    if scrub(value) != value:
        raise argparse.ArgumentTypeError(f"{name} holds a token, and everybody reads variables: use --secret {name}")
    return name, value


def read_secret(text: str) -> tuple[str, str]:
    """Name in the Space, name here; the text is never shown: it may be a value by mistake."""
    name, equals, source = text.partition("=")
    if not name.isidentifier() or (equals and not source.isidentifier()) or "hf_" in (name[:3], source[:3]):
        raise argparse.ArgumentTypeError("a secret is given by names only: --secret NAME or NAME=VARIABLE")
    return name, source or name


def main(arguments: argparse.Namespace) -> int:
    if arguments.folder:
        lay_out(arguments.folder, arguments.flags or "", arguments.recorded)
        return 0
    if arguments.dry_run and not arguments.to:
        list_sizes()
        return 0
    from rlhfv.publishing.hub import Hub, require_repo_id
    from rlhfv.services.publishing import read_machine_token

    wanted = read_wanted(arguments)
    hub = Hub(read_machine_token())
    source = require_repo_id(arguments.source) if arguments.source else ""
    person = attempt(hub, "The look at the token", lambda api: api.whoami())["name"]
    repo = require_repo_id(arguments.to or f"{person}/{source.partition('/')[2] or NAME}")
    if source:
        return duplicate(hub, source, repo, wanted, arguments.private)
    photographs = (arguments.recorded, arguments.photos)
    return deploy(hub, repo, wanted, arguments.private, arguments.dry_run, *photographs)


def list_sizes() -> None:
    files = list_files()
    for target, source in files.items():
        show(f"{source.stat().st_size:>10,}  {source.relative_to(ROOT).as_posix():<60} {target}")
    show(f"{sum(source.stat().st_size for source in files.values()):>10,}  bytes in all")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", metavar="NS/NAME", help=f"the Space (default: <you>/{NAME}, or as --from is called)")
    parser.add_argument("--from", dest="source", metavar="NS/NAME", help="duplicate this Space, not these files")
    parser.add_argument("--hardware", help=f"such as {ZERO_GPU} or l4x1; left as it is when not named")
    parser.add_argument(
        "--bucket",
        metavar="NS/NAME",
        help=f"a bucket mounted at {MOUNT}, where what people save outlives a restart; made, private, if need be",
    )
    parser.add_argument("--flags", help=f"what app.py is started with there, as on a command line ({FLAGS_VARIABLE})")
    parser.add_argument("--variable", type=read_pair, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--secret",
        type=read_secret,
        action="append",
        default=[],
        metavar="NAME[=VARIABLE]",
        help="a secret: what the variable NAME, or VARIABLE, holds here; keys that --flags names come by themselves",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--photos",
        metavar="DATASET[@COMMIT]",
        help="where the photographs are from that the page opens on, or none; those of a Space stay when this is left "
        f"out, and a new one gets three of {DATASET}, at the commit that is its newest then",
    )
    shown.add_argument(
        "--recorded", type=Path, metavar="FOLDER", help="open on these: see `python -m rlhfv record --help`"
    )
    parser.add_argument("--private", action="store_true", help="a new Space is for you and your organisation only")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, say what would be done")
    parser.add_argument("--folder", type=Path, help="an empty folder to lay the files out in")
    return parser


if __name__ == "__main__":
    sys.exit(run(lambda: main(make_parser().parse_args())))
