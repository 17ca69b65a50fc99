"""`python -m tests.hub [--port PORT] [--user NAME:TOKEN ...]`: a Hub to try things on by hand."""

import argparse
import shlex
import tempfile
import time
from pathlib import Path

from tests.hub.hub import Hub


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description="A Hub of your own, until Ctrl-C.")
    parser.add_argument("--port", type=int, default=0, help="a free one if not given")
    parser.add_argument("--user", action="append", default=[], metavar="NAME:TOKEN", help="with all rights on NAME/…")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hub-") as folder, Hub(Path(folder) / "hub", arguments.port) as hub:
        tokens = {}
        for user in arguments.user or ["ann"]:
            name, _, token = user.partition(":")
            tokens[name] = hub.user(name, token=token or None)
        for name, token in tokens.items():
            print(f"# {name}")
            for variable, text in hub.settings(token, Path(folder) / "home").items():
                print(f"export {variable}={shlex.quote(text)}")
        print("# HF_HUB_DISABLE_XET=1 uploads over plain LFS", flush=True)
        shown = 0
        try:
            while True:
                time.sleep(0.2)
                for request in hub.requests[shown:]:
                    if not request.done:
                        break
                    print(f"# {request.status} {request}", flush=True)
                    shown += 1
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
