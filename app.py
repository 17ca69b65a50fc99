"""`python app.py`: the studio on this machine, or in a Space."""

import sys

from rlhfv.commands.terminal import run
from rlhfv.settings import Settings, on_zero_gpu, parse_app_arguments


def serve(settings: Settings) -> None:
    if on_zero_gpu():
        import rlhfv.models.zero  # noqa: F401 (before anything else looks for CUDA)
    from rlhfv.services import build_services

    services = build_services(settings)
    services.durable.end_on_signal()
    services.host.hand_over()
    from rlhfv.studio.app import launch

    launch(services)


if __name__ == "__main__":
    settings = parse_app_arguments()
    sys.exit(run(lambda: serve(settings)))
