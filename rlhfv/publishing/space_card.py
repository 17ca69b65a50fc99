"""The card of a Space: what it links, what is fetched when it is built, and whose pictures it shows."""

import argparse
import json
import re
import shlex

from rlhfv.corrections.recorded import FILE, FOLDER, Source, credit

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def make_card(card: str, flags: str, files: dict[str, bytes]) -> bytes:
    """`card` with the models of the Hub that `app.py` will load with these flags: linked, and fetched when the Space
    is built, so that its start does not wait for them. And with the source of each recorded picture among `files`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--model")
    parser.add_argument("--adapter", action="append", default=[])
    parser.add_argument("--beside", action="append", default=[])
    known, _ = parser.parse_known_args(shlex.split(flags))
    named = [name for name in (known.model, *known.adapter, *known.beside) if name and HUB_ID.fullmatch(name)]
    opening, _, rest = card.partition("\n---\n")
    lines = [line for key in ("models", "preload_from_hub") for line in (f"{key}:", *(f"- {name}" for name in named))]
    return "\n".join([opening, *(lines if named else []), "---", rest + _describe_pictures(files)]).encode()


def _describe_pictures(files: dict[str, bytes]) -> str:
    lines = []
    for path in sorted(files):
        if path.startswith(f"{FOLDER}/") and path.endswith(f"/{FILE}"):
            recorded = json.loads(files[path])
            lines.append(f"- {credit(Source(**recorded['source']))} {recorded['left']['voice']} answered.")
    title = "The page opens on comparisons that were recorded beforehand:"
    return "\n".join(["", title, "", *lines, ""]) if lines else ""
