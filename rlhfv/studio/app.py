"""The page: its tabs in one Blocks. `build_app` has no side effects; `launch` serves it."""

import mimetypes
import os
from importlib import resources

import gradio as gr
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from rlhfv.errors import StudioError
from rlhfv.runs.supervisor import Supervisor
from rlhfv.services import Actor, Services, heap
from rlhfv.services.people import People
from rlhfv.services.sign_in import SignIn, stranger_rights
from rlhfv.studio import (
    api,
    chat,
    correct,
    evaluate,
    pairs,
    people,
    publish,
    review,
    sessions,
    shared,
    statistics,
    tasks,
    train,
)
from rlhfv.studio import guide as guide_strip
from rlhfv.studio.gate import Gate, is_local, own_origin_only
from rlhfv.studio.sign_in import HubSignIn
from rlhfv.studio.view import h, view
from rlhfv.studio.visitor import VisitorCookie, actor, read_key
from rlhfv.studio.wiring import NAMES, Page, connect, tabs_for

TITLE = "RLHF-V correction studio"
WAITING = 400


def build_app(services: Services) -> gr.Blocks:
    """The whole page over `services`. No model is loaded; example scenes are drawn into the shelf."""
    info = services.chat.studio(Actor("page", rights=frozenset({"chat"})))
    cache = _cache_times(services.expiring.hours)
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=cache) as blocks:
        view(
            h(
                "header.top",
                h("h1", TITLE),
                h(
                    "p.lead",
                    "Models see things that are not there: compare two, correct them, train on it, ask again.",
                ),
                h("p.model", h("span.chip", info.title), h("span.by", info.notice)),
            ),
            elem_id="top",
        )
        person = view(elem_id="person", visible=services.settings.team or services.settings.hub_sign_in)
        guide = guide_strip.build(services)
        with gr.Tabs(elem_id="tabs") as tabs:
            built, tab = {}, {}
            modules = (chat, correct, review, pairs, train, evaluate, publish, tasks, statistics, people)
            for name, module in zip(NAMES, modules, strict=True):
                # What a person who signs in may see more is known when the page is loaded.
                visible = name in tabs_for(services, stranger_rights(services.settings) | {"chat"})
                with gr.Tab(name.capitalize(), id=name, elem_id=f"tab-{name}", visible=visible) as tab[name]:
                    built[name] = module.build(services)
        api.build(services)
        connect(services, Page(blocks, person, guide, tabs, tab, **built))
    blocks.queue(max_size=WAITING, default_concurrency_limit=8, api_open=False)
    sessions.lighten(blocks)
    return blocks


def launch(services: Services, blocks: gr.Blocks | None = None, prevent_thread_lock: bool = False, **options):
    """Serves the page, loads the model in the background and lets queued runs start; `options` go to `Blocks.launch`.

    Returns what that returns; at the end of the server unless `prevent_thread_lock`.
    """
    settings = services.settings
    people = People(settings.auth) if settings.auth else None
    if people is not None:
        people.require_owner()
    signing = []
    if settings.hub_sign_in:
        accounts = SignIn(settings, services.publishing)
        signing = [Middleware(HubSignIn, accounts=accounts, space=settings.space)]
    blocks = blocks or build_app(services)
    key = read_key(settings.data_dir)
    services.durable.start()
    services.expiring.start()
    heap.start()
    hosts = (*settings.public_hosts, *((settings.space.host,) if settings.space and settings.space.host else ()))
    # Gradio's tunnel passes on a name that nobody knows beforehand.
    tunnel = options.get("share") or os.environ.get("GRADIO_SHARE", "").lower() == "true"
    local = is_local(options.get("server_name", settings.host)) and "SPACE_ID" not in os.environ and not tunnel
    options = {
        "server_name": settings.host,
        "server_port": settings.port,
        "inbrowser": settings.open_browser,
        "auth": people.check if people else None,
        "auth_message": "Sign in with the name and the password that the owner of this studio gave you.",
        "theme": build_theme(),
        "css": "".join(map(read_asset, ("studio.css", "welcome.css", "phone.css"))),
        "js": read_asset("studio.js"),
        "app_kwargs": {
            "middleware": [
                Middleware(
                    Gate,
                    key=key,
                    limits=services.limits,
                    hosts=hosts,
                    trusted="SPACE_ID" in os.environ,
                    local=local,
                ),
                Middleware(
                    VisitorCookie,
                    key=key,
                    rights=stranger_rights(settings),
                    people=people,
                    framed=settings.space is not None,
                ),
                *signing,
            ],
            "routes": [Route("/images/{name}", serve_image(services)), *shared.routes(services)],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
        "show_error": False,
        "enable_monitoring": False,
        "max_file_size": f"{settings.max_upload}mb",
        "strict_cors": True,
        "state_session_capacity": sessions.MOST,
        "mcp_server": False,
        "max_threads": 80,
        **options,
    }
    sessions.install()
    try:
        with own_origin_only(hosts):
            served = blocks.launch(**options, prevent_thread_lock=True)
    except ValueError:
        # Gradio asks its own server for the page and gives up after three seconds; on a busy machine the server runs
        # nevertheless.
        if not blocks.is_running:
            raise
        served = blocks.app, blocks.local_url, None
    # Only now: importing torch keeps the server from answering Gradio's own check of itself in time.
    services.host.warm()
    services.host.watch_idle()
    Supervisor(services.training.local, then=services.host.make_room).start()
    services.publishing.start_background()
    if not prevent_thread_lock:
        blocks.block_thread()
    return served


def _cache_times(hours: float | None) -> tuple[int, int]:
    """Every how many seconds Gradio looks for files of its own, uploads among them, that are older than so many."""
    return (3600, 86400) if hours is None else (max(60, round(300 * hours)), max(60, round(3600 * hours)))


def build_theme() -> gr.themes.Base:
    sizes = gr.themes.sizes
    # The smallest of Gradio's own are too small to read.
    text = sizes.Size(
        xxs="11px", xs="11px", sm="11px", md="13px", lg="16px", xl="20px", xxl="24px", name="text_studio"
    )
    font = gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700))
    return gr.themes.Soft(
        primary_hue="indigo",
        neutral_hue="slate",
        text_size=text,
        spacing_size=sizes.spacing_sm,
        radius_size=sizes.radius_sm,
        font=[font, "system-ui", "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace"],
    ).set(
        # A page of many fields is calmer when their names do not shout.
        background_fill_primary="*neutral_50",
        # Gradio's own greys are too pale to read.
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        # White on Gradio's indigo has a contrast of 4.47, on this one of 6.29.
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        checkbox_label_background_fill_selected="*primary_600",
        block_border_width="1px",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_padding="0",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_text_size="*text_sm",
        block_shadow="none",
        input_shadow="none",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        checkbox_border_color="*neutral_400",
        checkbox_label_shadow="none",
        button_secondary_shadow="none",
        button_secondary_border_color="*border_color_primary",
        button_border_width="1px",
        button_border_width_dark="1px",
    )


def serve_image(services: Services):
    """The endpoint of stored pictures: a name is the hash of the bytes, so a copy stays good for ever."""

    async def image(request: Request) -> Response:
        try:
            who, name = actor(request), request.path_params["name"]
            path = services.recorded.picture_path(who, name) or services.chat.image_path(who, name)
            size = path.stat().st_size
        except (StudioError, OSError):
            return PlainTextResponse("There is no such picture.", status_code=404)
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        headers = {"cache-control": "private, max-age=31536000, immutable", "x-content-type-options": "nosniff"}
        return FileResponse(path, media_type=kind, headers=headers) if size else PlainTextResponse("", 404)

    return image


def read_asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
