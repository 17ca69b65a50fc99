"""`convert`: a checkpoint of the original LLaVA code becomes a folder that every other command takes."""

import argparse

from rlhfv.commands.terminal import show, show_json, tell


def convert(arguments: argparse.Namespace) -> None:
    from rlhfv.models.catalog import MODEL_FILES, download, fetch_files, find_entry
    from rlhfv.models.llava_layout import convert_llava

    source, like = find_entry(arguments.source, arguments.revision), find_entry(arguments.like)
    tell(f"Converting {source.title} …")
    small = [name for name in MODEL_FILES if "safetensors" not in name]
    sizes = fetch_files(like) if like.is_local else download(like.source, like.revision, small)
    convert_llava(fetch_files(source), sizes, arguments.folder)
    if arguments.json:
        return show_json({"folder": str(arguments.folder)})
    show(f"Written to {arguments.folder}. Take it with --model {arguments.folder}.")
