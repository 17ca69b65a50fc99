"""ZeroGPU as far as the package `spaces` can tell: its scheduler, and in the app's process a CUDA that is pretended.

The package really patches torch, forks, pickles and streams; only the scheduler, the look for a driver and the move of
the weights onto a GPU are ours, which here means that they stay where they are.
"""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

GRANTED = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-x", "allowToken": "allowed"}


class Device:
    """The scheduler. `calls` holds (path, parameters) of each request; `refusals` are (status, document) for the next
    calls that want a GPU."""

    def __init__(self):
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.refusals: list[tuple[int, dict]] = []
        self.fresh = False
        device = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                address = urlsplit(self.path)
                device.calls.append((address.path, dict(parse_qsl(address.query))))
                status, answer = 200, {}
                if address.path == "/schedule":
                    granted = {**GRANTED, "idle": not device.fresh}
                    status, answer = device.refusals.pop(0) if device.refusals else (200, granted)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format, *args) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def to(self, path: str) -> list[dict[str, str]]:
        return [parameters for asked, parameters in self.calls if asked == path]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def visitor_token(**payload) -> str:
    """What the Hub's proxy puts into the header X-IP-Token of whoever is signed in."""
    middle = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    return f"head.{middle}.signature"


def pretend_cuda() -> None:
    """Makes `import spaces` work with a torch that was built without CUDA; to be called before it."""
    import torch

    torch.version.cuda = torch.version.cuda or "12.8"
    torch._C._cuda_init = getattr(torch._C, "_cuda_init", bool)
    torch.cuda._is_in_bad_fork = bool
    import spaces.zero.torch as zero
    import spaces.zero.utils
    from spaces.zero.torch import patching

    def move(callback=None) -> None:
        for fake, original in list(patching.cuda_aliases.items()):
            if original is not None:
                fake.data = original

    zero.pack, zero.init, zero.move = int, bool, move
    spaces.zero.utils.self_cgroup_device_path = lambda: "/here"
