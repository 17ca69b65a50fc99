"""Twenty visitors with two tabs each, over HTTP as their browsers would speak it, against the real demo model."""

import concurrent.futures
import json
import os
import secrets
from pathlib import Path

import httpx
import pytest

from rlhfv.corrections.store import Store
from tests.apps import free_port, start_app, wait_until_ready

VISITORS, QUESTIONS = 20, 2


class Tab:
    """One open page: its cookie is its visitor's, its session its own."""

    def __init__(self, client: httpx.Client, config: dict):
        self.client, self.session = client, secrets.token_hex(5)
        self.events = {}
        ids = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
        for function in config["dependencies"]:
            for target, event in function["targets"]:
                self.events.setdefault((ids.get(target), event), (function["id"], len(function["inputs"])))

    def send(self, element: str, event: str, *data) -> None:
        """Fires an event and waits until the server has answered it; raises AssertionError on a failure."""
        function, inputs = self.events[element, event]
        values = [*data, *[None] * (inputs - len(data))]
        body = {"data": values, "fn_index": function, "session_hash": self.session, "event_data": None}
        self.client.post("/gradio_api/queue/join", json=body).raise_for_status()
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    if message["msg"] == "process_completed":
                        assert message["success"], message
                        return
        raise AssertionError("the stream ended early")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_twenty_visitors_with_two_tabs_each(tmp_path):
    port = free_port()
    process = start_app(tmp_path / "data", port)
    try:
        wait_until_ready(port, process)
        clients = [httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) for _ in range(VISITORS)]
        for client in clients:
            client.get("/").raise_for_status()
        config = clients[0].get("/config").json()
        tabs = [(number, name, Tab(client, config)) for number, client in enumerate(clients) for name in "AB"]
        for _, name, tab in tabs:
            if name == "A":
                tab.send("new-scene", "click")

        def visit(number: int, name: str, tab: Tab) -> None:
            for question in range(QUESTIONS):
                tab.send("question", "submit", f"Is there a cup? I am {number:02} {name}{question}", False)

        memory = []
        for _ in range(2):
            with concurrent.futures.ThreadPoolExecutor(len(tabs)) as pool:
                for done in [pool.submit(visit, *each) for each in tabs]:
                    done.result(timeout=900)
            memory.append(resident_bytes(process.pid))
        store = Store(tmp_path / "data" / "studio.sqlite3")
        seen = set()
        for (visitor,) in store._connection.execute("SELECT visitor FROM conversations").fetchall():
            turns = store.conversation(visitor)["turns"]
            owners = {turn["question"].split("I am ")[1][:2] for turn in turns}
            assert len(owners) == 1, "somebody else's question is in this conversation"
            assert len(turns) == 2 * 2 * QUESTIONS, "a question got no answer"
            assert all(turn[side]["text"] and turn[side]["finished"] for turn in turns for side in ("left", "right"))
            seen |= owners
        assert len(seen) == VISITORS
        print(f"resident: {memory[0] / 1e6:.0f} MB after the first wave, {memory[1] / 1e6:.0f} MB after the second")
        assert memory[1] - memory[0] < 200e6
    finally:
        process.terminate()
        process.wait(30)
