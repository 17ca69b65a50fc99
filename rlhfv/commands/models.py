"""`models`: the models that have a short name here, with what the weights of each take."""

import argparse

from rlhfv.commands.terminal import show, show_json
from rlhfv.models.known import KNOWN, Known
from rlhfv.units import human_bytes


def add_flags(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("name", nargs="?", help="one model, with all that is known of it")


def models(arguments: argparse.Namespace) -> None:
    from rlhfv.models.catalog import available_memory, choose_device

    chosen = [one for one in KNOWN if arguments.name in (None, one.name, one.source)] or [_none(arguments.name)]
    device = choose_device()
    free = available_memory(device)
    if arguments.json:
        return show_json({"device": device.type, "free": free, "models": [_row(one) for one in chosen]})
    show(
        f"{human_bytes(free)} are free on {device.type}. Answers take more than the weights, which are listed here:",
        "",
    )
    for one in chosen:
        show(f"{one.name:<16}{human_bytes(one.weights):<12}{_pair(one):<34}{one.licence}")
        if arguments.name:
            show("", f"source: {one.source}", f"its makers: {one.makers}", f"here: {_decoding(one)}", one.note)
    show("", "Start with one: python app.py --model NAME. The commit that comes first is noted and kept.")


def _pair(one: Known) -> str:
    if one.aligned:
        return "with an aligned adapter"
    if one.beside:
        return f"beside {one.beside}"
    base = next((other.name for other in KNOWN if other.beside == one.name), "")
    return f"aligned, beside {base}" if base else "baseline only"


def _decoding(one: Known) -> str:
    sampling = one.decoding
    way = f"temperature {sampling.temperature:g}" if sampling.temperature else "greedy"
    return f"{way}, {sampling.max_new_tokens} tokens at most"


def _row(one: Known) -> dict:
    return {
        "name": one.name,
        "title": one.title,
        "source": one.source,
        "licence": one.licence,
        "weights_16_bit": int(one.weights),
        "aligned": one.aligned[0] if one.aligned else None,
        "beside": one.beside or None,
        "makers": one.makers,
        "decoding": vars(one.decoding),
        "note": one.note,
    }


def _none(name: str):
    from rlhfv.errors import NotFound

    raise NotFound(
        f"No model has the short name {name!r}.",
        f"Those that have one: {', '.join(one.name for one in KNOWN)}.",
        "Any Hub id or folder works as --model too.",
    )
