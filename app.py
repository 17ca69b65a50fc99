"""`python app.py`: the studio on this machine, or in a Space."""

from rlhfv.settings import parse_app_arguments

if __name__ == "__main__":
    settings = parse_app_arguments()
    from rlhfv.services import build_services
    from rlhfv.studio.app import launch

    launch(build_services(settings))
