"""`convert`: a checkpoint of the original LLaVA code becomes a folder that every other command takes."""

import argparse
from pathlib import Path

from rlhfv.commands.terminal import show, show_json, tell


def add_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("source", help="its folder or Hub id, such as openbmb/RLAIF-V-7B")
    verb.add_argument("folder", type=Path, help="the new folder")
    verb.add_argument("--revision", help="commit of the Hub (default: the newest)")
    verb.add_argument(
        "--like",
        default="llava-hf/llava-1.5-7b-hf",
        metavar="MODEL",
        help="a transformers LLaVA of the same shape, for tokenizer and sizes (default: %(default)s)",
    )


def convert(arguments: argparse.Namespace) -> None:
    from rlhfv.models.catalog import fetch_checkpoint, fetch_small_files, find_entry
    from rlhfv.models.llava_layout import convert_llava

    source, like = find_entry(arguments.source, arguments.revision), find_entry(arguments.like)
    tell(f"Converting {source.title} …")
    convert_llava(fetch_checkpoint(source), fetch_small_files(like), arguments.folder)
    if arguments.json:
        return show_json({"folder": str(arguments.folder)})
    show(f"Written to {arguments.folder}. Take it with --model {arguments.folder}.")
