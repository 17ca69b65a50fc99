"""The studio's services in a process that believes to be on ZeroGPU: `python zero_app.py PORT WHAT FLAGS…`.

WHAT is "page" for the real page, or "chat" for one event over Gradio's own queue that chats as the page does.
"""

import sys
import threading
from dataclasses import asdict

from tests.spaces.device import pretend_cuda

pretend_cuda()


def serve_chat(services, port: int) -> None:
    import gradio as gr

    from rlhfv.corrections.conversation import Prompt, Sampling
    from rlhfv.errors import StudioError
    from rlhfv.models.generated import Row
    from rlhfv.services import Actor

    def ask(visitor: str, question: str, tokens: float, stop_after: float, right: str) -> dict:
        """Each state of the turn. After `stop_after` texts the visitor stops it; `right` answers in that column."""
        actor, stop = Actor(visitor, rights=frozenset({"chat"})), threading.Event()
        chat, seen = services.chat, 0
        state = chat.open(actor)
        if not state.images:
            chat.set_images(actor, (chat.add_image(actor, services.picture).name,))
        sampling = Sampling(max_new_tokens=int(tokens))
        chat.choose(actor, state.left, right or state.right, sampling)
        try:
            for state in chat.ask(actor, question, stop):
                turn = asdict(state.turns[-1])
                yield {"left": turn["left"], "right": turn["right"]}
                seen += bool(turn["left"]["text"])
                if stop_after and seen >= stop_after:
                    stop.set()
        except StudioError as error:
            state = chat.open(actor)
            voices = {voice.id: voice.title for voice in services.host.voices(actor)}
            yield {
                "error": [error.what, error.why, error.fix],
                "voices": [voices[state.left], voices[state.right]],
                "turns": len(state.turns),
            }

    def ask_late(folder: str, picture: str) -> dict:
        """What the baseline says, and an adapter that came after the page was served."""
        try:
            model, prompt = services.host.model(), Prompt("what is there", images=(picture,))
            rows = [Row(None, prompt), Row(model.attach(folder), prompt)]
            [*_, texts] = model.answer_both(rows, Sampling(max_new_tokens=12))
        except StudioError as error:
            return {"error": str(error)}
        return {"texts": texts}

    with gr.Blocks() as blocks:
        gr.api(ask, api_name="ask", concurrency_limit=4)
        gr.api(ask_late, api_name="late")
    blocks.queue().launch(server_port=port, quiet=True)


def main() -> None:
    port, what, *flags = sys.argv[1:]
    import rlhfv.models.zero  # noqa: F401
    from rlhfv.services import build_services
    from rlhfv.settings import parse_app_arguments

    services = build_services(parse_app_arguments(["--port", port, *flags]))
    services.host.hand_over()
    if what == "page":
        from rlhfv.studio.app import launch

        launch(services)
    else:
        import io

        from PIL import Image

        data = io.BytesIO()
        Image.linear_gradient("L").resize((48, 40)).convert("RGB").save(data, "PNG")
        object.__setattr__(services, "picture", data.getvalue())
        serve_chat(services, int(port))


if __name__ == "__main__":
    main()
