"""`record`: a comparison for the page to open on, of two voices here or out of a published data set."""

import argparse
from pathlib import Path

from rlhfv.commands.chat import find_voice, read_image
from rlhfv.commands.terminal import count, open_services, show, show_json, tell
from rlhfv.corrections.conversation import Sampling
from rlhfv.corrections.recorded import Recorded, Source
from rlhfv.errors import InvalidData


def add_flags(verb: argparse.ArgumentParser) -> None:
    """The flags of `record`, beside those that name the voices."""
    verb.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a folder that is not there yet")
    about = verb.add_mutually_exclusive_group(required=True)
    about.add_argument("--image", type=Path, help="ask two voices about this picture, which needs --licence")
    about.add_argument("--scene", nargs="?", const="", help="ask about a drawn scene, such as demo:validation/10")
    about.add_argument(
        "--dataset",
        metavar="OWNER/NAME[@COMMIT]",
        help="no voice: photographs with a model's answer and the same as people corrected it, out of a data set with "
        "the columns of RLHF-V-Dataset",
    )
    verb.add_argument("--count", type=int, default=3, help="photographs of a data set (default: 3)")
    verb.add_argument("--question", default="Describe this image in detail.", help="(default: %(default)s)")
    verb.add_argument("--left", help="voice of the left answer, by id or title (default: the first on offer)")
    verb.add_argument("--right", help="voice of the right answer, by id or title (default: the second)")
    verb.add_argument("--licence", default="", help="under which the picture may be shown, such as CC-BY-4.0")
    verb.add_argument("--author", default="", help="who made the picture")
    verb.add_argument("--from", dest="origin", default="", help="where the picture is from, in words or an address")
    verb.add_argument("--temperature", type=float, default=0.0, help="0, the default, is greedy; up to 2")
    verb.add_argument("--max-new-tokens", type=int, default=256, help="longest answer, in tokens (default: 256)")
    verb.add_argument("--seed", type=int, default=0, help="of the sampling (default: 0)")


def record(arguments: argparse.Namespace) -> None:
    made = _of_dataset(arguments) if arguments.dataset else [_of_voices(arguments)]
    if arguments.json:
        return show_json({"folder": str(arguments.output), "recorded": [vars(one) for one in made]})
    for one in made:
        show(f"{one.left.voice}: {one.left.text}", f"{one.right.voice}: {one.right.text}", "")
    tell(
        f"{count(len(made), 'comparison')} in {arguments.output}. Show it: python app.py --recorded {arguments.output}"
    )


def _of_voices(arguments: argparse.Namespace) -> Recorded:
    if arguments.image and not arguments.licence.strip():
        raise InvalidData(
            "Nothing says under which licence the picture may be shown.",
            "Everybody who opens the page sees it.",
            "Name it with --licence, and with --author and --from whose it is.",
        )
    services, actor = open_services(arguments)
    voices = services.chat.studio(actor).voices
    first = services.host.first_two(actor)
    chosen = tuple(
        usual if wanted is None else find_voice(voices, wanted)
        for wanted, usual in zip((arguments.left, arguments.right), first, strict=True)
    )
    sampling = Sampling(arguments.temperature, 1.0, arguments.max_new_tokens, arguments.seed)
    if arguments.image:
        source = Source(arguments.origin.strip() or arguments.image.name, arguments.licence, arguments.author)
        given = {"source": source}
        picture = read_image(arguments.image)
    else:
        world = services.host.require_world()
        scene = arguments.scene or world.first_scene
        given, picture = {"scene": scene}, world.picture(scene)
    return services.recorded.record(
        actor, arguments.output, picture, arguments.question, chosen, sampling=sampling, **given
    )


def _of_dataset(arguments: argparse.Namespace) -> list[Recorded]:
    from rlhfv.publishing.hub import Hub
    from rlhfv.publishing.photographs import fetch_photographs

    if arguments.output.exists():
        raise InvalidData(
            f"'{arguments.output}' is there already.", "Recordings are never mixed.", "Name a new folder."
        )
    return fetch_photographs(Hub(False), arguments.dataset, arguments.count, arguments.output)
