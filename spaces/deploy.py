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

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rlhfv.commands.terminal import count, run, show  # noqa: E402
from rlhfv.errors import InvalidData  # noqa: E402
from rlhfv.models.known import find_known  # noqa: E402
from rlhfv.publishing.hub import Hub, require_repo_id  # noqa: E402
from rlhfv.publishing.photographs import DATASET, FOLDER, choose_for_space, read_folder  # noqa: E402
from rlhfv.publishing.space import (  # noqa: E402
    MOUNT,
    ZERO_GPU,
    Wanted,
    adjust,
    attempt,
    check_hardware,
    commit,
    create,
    duplicate,
    make_bucket,
    read_variables,
    tell_wanted,
)
from rlhfv.publishing.space_card import make_card  # noqa: E402
from rlhfv.publishing.token import scrub  # noqa: E402
from rlhfv.services.publishing import read_machine_token  # noqa: E402
from rlhfv.settings import DURABLE_VARIABLE, FLAGS_VARIABLE, parse_app_arguments  # noqa: E402

# A Space wants its card and requirements at the top, in place of the project's own.
AT_THE_TOP = {
    "README.md": "spaces/README.md",
    "requirements.txt": "spaces/requirements.txt",
    "app.py": "app.py",
    "LICENSE": "LICENSE",
}
PACKAGE = "rlhfv"
NAME = "correction-studio"


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


def read_flags(flags: str) -> argparse.Namespace:
    """Those of the flags that say what `app.py` needs beside its files."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--remote-key-env", action="append", default=[])
    parser.add_argument("--publish-to")
    parser.add_argument("--durable", default="")
    parser.add_argument("--model")
    parser.add_argument("--beside")
    return parser.parse_known_args(shlex.split(flags))[0]


def needed_secrets(flags: str) -> list[str]:
    """The environment variables with keys or tokens that `app.py` will read with these flags."""
    known = read_flags(flags)
    names = [text.rpartition("=")[2] for text in known.remote_key_env]
    bases = [find_known(name) for name in (known.model, known.beside) if name]
    gated = any(base is not None and base.gated for base in bases)  # its owner's agreement belongs to an account
    on_the_hub = gated or known.publish_to or known.durable.startswith("hf://")
    return [*dict.fromkeys(names), *(["HF_TOKEN"] if on_the_hub else [])]


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


def check_flags(wanted: Wanted) -> None:
    """Ends the program, with what is wrong, for flags with which the Space's `app.py` would not start."""
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


def tell_missing(hub: Hub, repo: str, flags: str, given: dict[str, str], says: Callable) -> None:
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
    place = read_flags(variables.get(FLAGS_VARIABLE, "")).durable
    if place.startswith("hf://") and FLAGS_VARIABLE not in wanted.variables:
        says(f"warning    --durable {place} is where {source} keeps its copy; two Spaces cannot share it:")
        says(f'           python spaces/deploy.py --to {repo} --flags "…" --bucket NS/NAME, without --durable')


def deploy(
    hub: Hub,
    repo: str,
    wanted: Wanted,
    private: bool,
    dry: bool,
    recorded: Path | None = None,
    photos: str | None = None,
) -> int:
    """Creates the Space `repo` or brings it up to date, with one commit of what differs; `recorded` and `photos` are
    as in `choose_for_space`."""

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
    flags = wanted.variables.get(FLAGS_VARIABLE) or (read_variables(hub, repo).get(FLAGS_VARIABLE, "") if head else "")
    files = read_files(flags, shown)
    changes = compare(files, present)
    if changes and not dry:
        added = {target: files[target] for target in changes.new + changes.changed}
        address = commit(hub, repo, head, added, changes.gone, f"Studio: {changes}")
        says(f"committed  {changes} ({count(len(files), 'file')} in all): {address}")
    elif changes:
        for word, paths in (("new", changes.new), ("changed", changes.changed), ("deleted", changes.gone)):
            for path in paths:
                says(f"{word:<10} {path}")
    elif not did:
        show(f"Nothing to do: {repo} is up to date.")
    if head:
        tell_missing(hub, repo, flags, wanted.secrets, says)
    return 0


def copy(hub: Hub, source: str, repo: str, wanted: Wanted, private: bool) -> int:
    """Duplicates somebody's Space, and names what did not come along with it and what should not have."""
    duplicate(hub, source, repo, wanted, private, show)
    variables = read_variables(hub, repo)
    tell_missing(hub, repo, variables.get(FLAGS_VARIABLE, ""), wanted.secrets, show)
    tell_shared_place(source, repo, variables, wanted, show)
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
    wanted = read_wanted(arguments)
    hub = Hub(read_machine_token())
    source = require_repo_id(arguments.source) if arguments.source else ""
    person = attempt(hub, "The look at the token", lambda api: api.whoami())["name"]
    repo = require_repo_id(arguments.to or f"{person}/{source.partition('/')[2] or NAME}")
    if source:
        return copy(hub, source, repo, wanted, arguments.private)
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
