"""The page's endpoints by raw HTTP, as somebody calls them who read its source: no page, no client, no check."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import httpx

from rlhfv.studio.visitor import COOKIE, sign

ANSWER = {"original": "A red dog.", "answer_id": "answer-1", "hints": []}
ANSWER["corrections"] = [{"start": 2, "end": 5, "replacement": "blue", "kind": "attribute"}]
# What a handler has to get before it comes to the point; by the id of the component.
GIVEN = {
    "editor": ANSWER,
    "question": "What is it?",
    "people-name": "Eve",
    "people-password": "four words are long",
    "people-another": "four words are long",
    "publish-repo": "eve/pairs",
    "adapter-repo": "eve/adapter",
    "hub-token": "hf_" + "0" * 34,
    "away-token": "hf_" + "0" * 34,
    "tasks-hub": "eve/pictures",
    "train-where": "here",
    "away-repo": "eve/runs",
    "oracle-count": 1,
}
UPLOADS = (gr.UploadButton, gr.File, gr.Image)


def events(demo: gr.Blocks) -> dict[str, gr.blocks.BlockFunction]:
    """One event for each endpoint, by the name that it was registered under."""
    found = {}
    for number, function in demo.fns.items():
        if function.fn is not None:
            # The same handler at a second place is called "…_1".
            base, _, copy = function.api_name.rpartition("_")
            name = base if copy.isdecimal() and base in found else function.api_name
            found.setdefault(name, (number, function))
    return found


class Caller:
    """Calls endpoints of the app at `address`, each call as another visitor, for which it needs the `key` of the
    cookies: what one call leaves behind is not another's."""

    def __init__(self, demo: gr.Blocks, address: str, key: bytes):
        self.demo, self.events, self.key = demo, events(demo), key
        self.client = httpx.Client(base_url=address, timeout=60)

    def close(self) -> None:
        self.client.close()

    def call_all(self, wanted: list[tuple[str, dict | None]]) -> list[str]:
        """What came back from each (name, event data), as one text."""
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda one: self.call(*one), wanted))

    def call(self, name: str, data: dict | None = None) -> str:
        number, function = self.events[name]
        session = uuid.uuid4().hex
        cookie = {"cookie": f"{COOKIE}={sign(session, self.key)}"}
        body = {
            "data": [self._example(block) for block in function.inputs],
            "fn_index": number,
            "session_hash": session,
            "trigger_id": function.targets[0][0] if function.targets else None,
            "event_data": data,
        }
        joined = self.client.post("/gradio_api/queue/join", json=body, headers=cookie)
        if joined.status_code != 200:
            return f"{joined.status_code} {joined.text}"
        heard = []
        params = {"session_hash": session}
        with self.client.stream("GET", "/gradio_api/queue/data", params=params, headers=cookie) as lines:
            for line in lines.iter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                heard.append(json.dumps(message.get("output", "")))
                if message.get("msg") in ("process_completed", "close_stream", "unexpected_error"):
                    break
        return " ".join(heard)

    def _example(self, block) -> object:
        if isinstance(block, gr.State):
            return None
        if isinstance(block, UPLOADS):
            kinds = getattr(block, "file_types", None) or [".png"]
            name = "a" + (kinds[0] if kinds[0].startswith(".") else ".png")
            sent = self.client.post("/gradio_api/upload", files={"files": (name, PICTURE, "image/png")})
            file = {"path": sent.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}
            return [file] if getattr(block, "file_count", "") == "multiple" else file
        if block.elem_id in GIVEN:
            return GIVEN[block.elem_id]
        if isinstance(block, gr.Textbox):
            return block.value or ""
        if isinstance(block, gr.CheckboxGroup):
            return block.value or []
        return block.value if hasattr(block, "value") and not isinstance(block, gr.HTML) else None


def _picture() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (24, 24), "red").save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = _picture()
