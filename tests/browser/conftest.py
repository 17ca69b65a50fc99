"""A real Chromium for the tests of the page: one browser and one server a session, a new context a test.

A test fails on any console error, page error or request to another host, whatever else it asserts.
"""

import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

# Gradio reads it at import time.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_PLACES = (
    "/usr/bin/chromium",
    "/usr/lib/chromium/chromium",
    "/snap/bin/chromium",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOCAL_HOSTS = ("127.0.0.1", "localhost")
LONGEST = ("page", "sign_in", "loop", "hints", "team", "publish", "backends", "span_editor", "welcome")
"""Files that workers should not begin last."""
PATIENCE = 60_000
"""Milliseconds for whatever a page is to show: tests share their machine with others, and wait only as long as it
takes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[bool, int]:
        # Playwright's sync API keeps an event loop running in this thread, in which no other test could start its own.
        browser = item.get_closest_marker("browser") is not None
        return browser, order.get(item.path.name, len(order)) if browser else 0

    items.sort(key=place)


def find_chromium(playwrights_own: str) -> str | None:
    places = [shutil.which(name) for name in CHROMIUM_NAMES] + [*CHROMIUM_PLACES, playwrights_own]
    return next((place for place in places if place and Path(place).exists()), None)


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = find_chromium(playwright.chromium.executable_path)
        if chromium is None:
            message = (
                "No Chromium found: install the package chromium, or run `python -m playwright install chromium`."
            )
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        sync_api.expect.set_options(timeout=PATIENCE)
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def serve():
    """`serve(blocks, **launch options)` starts a Gradio app in this process and returns its address."""
    import gradio

    started = []

    def start(blocks: gradio.Blocks, **options) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        blocks.launch(
            server_name="127.0.0.1",
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            run_history=False,
            **options,
        )
        started.append(blocks)
        return f"http://127.0.0.1:{port}/"

    yield start
    for blocks in started:
        # Closing waits for the heartbeat streams of pages that are gone already.
        threading.Thread(target=blocks.close, kwargs={"verbose": False}, daemon=True).start()


LEFT_BEHIND = ("AbortError", "Connection errored out", "network error", "CHUNKED_ENCODING", "error 404: Not Found")
"""What Gradio logs about the streams that a page leaves behind when it is loaded anew, sooner or later."""


@pytest.fixture
def open_page(browser) -> Callable:
    """`open_page(url, **context options)` opens the address in a context of its own and watches it to the end;
    `open_page.reload(page)` loads it again."""
    contexts, problems, reloaded = [], [], []

    def watch_request(request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.hostname not in LOCAL_HOSTS:
            problems.append(f"request to another host: {request.url}")

    def watch_console(message) -> None:
        if message.type == "error":
            problems.append(f"console error: {message.text} ({message.location.get('url')})")

    def reload(page, address: str = "") -> None:
        """Reloads, at another address if one is given."""
        reloaded.append(page)
        page.goto(address) if address else page.reload()

    def open_page(url: str, **options):
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.on("request", watch_request)
        context.on("console", watch_console)
        context.on("weberror", lambda error: problems.append(f"page error: {error.error}"))
        page = context.new_page()
        page.goto(url)
        return page

    open_page.reload = reload
    yield open_page
    for context in contexts:
        context.close()
    if reloaded:
        problems = [problem for problem in problems if not any(sign in problem for sign in LEFT_BEHIND)]
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """The page over a scripted model, served by this process: `studio.address`, `studio.services`; `studio.actor` is
    somebody else on the same machine."""
    from rlhfv.services import Actor, build_services
    from rlhfv.settings import Settings
    from rlhfv.studio.app import launch
    from tests.services.fakes import ScriptedModel, scripted_entry

    patch = pytest.MonkeyPatch()
    patch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
    services = build_services(Settings(data_dir=tmp_path_factory.mktemp("page"), model="scripted"))
    services.host._model = ScriptedModel(delay=0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch(services, prevent_thread_lock=True, server_port=port, quiet=True)
    yield SimpleNamespace(address=f"http://127.0.0.1:{port}/", services=services, actor=Actor("c" * 32))
    patch.undo()


@pytest.fixture(scope="session")
def editor_studio(serve):
    from tests.browser.editor_page import Studio

    studio = Studio()
    studio.url = serve(studio.build())
    return studio


@pytest.fixture
def open_editor(editor_studio, open_page) -> Callable:
    """`open_editor(original, corrections, …, **context options)` opens a page with the editor on this answer; `later`
    are hints that come behind it, when `editor.go` is set."""
    from rlhfv.studio.span_editor import SpanEditor
    from tests.browser.editor_page import DOG, Editor

    def open_editor(
        original=DOG, corrections=(), readonly=False, hints=(), later=(), blind=False, **options
    ) -> Editor:
        name = f"answer-{len(editor_studio.documents)}"
        document = SpanEditor.document(original, name, corrections, readonly)
        editor_studio.documents[name] = document.model_copy(update={"hints": list(hints), "blind": blind})
        go = threading.Event()
        if later:
            editor_studio.hints[name] = list(later), go
        page = open_page(f"{editor_studio.url}?answer={name}", **options)
        page.wait_for_selector("#editor .text:not([hidden])" if original else "#editor .empty")
        editor = Editor(page, editor_studio)
        editor.name, editor.go = name, go
        return editor

    return open_editor
