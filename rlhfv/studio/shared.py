"""What a public link shows: one page without scripts, and its picture."""

import mimetypes
from html import escape

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from rlhfv.corrections.differing import Part, differing
from rlhfv.errors import StudioError
from rlhfv.services import Services
from rlhfv.services.sharing import Comparison, Said

HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # It can be withdrawn, so no copy is kept anywhere, and no search engine is to list it.
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}
STYLE = """
:root { color-scheme: light dark; --line: #cbd5e1; --soft: #64748b; --mark: #fef3c7; --bad: #b91c1c; --ok: #047857 }
@media (prefers-color-scheme: dark) {
  :root { --line: #334155; --soft: #94a3b8; --mark: #78350f88; --bad: #fca5a5; --ok: #6ee7b7 }
}
body { font: 17px/1.6 system-ui, sans-serif; max-width: 1000px; margin: 0 auto; padding: 20px }
img { max-width: 100%; max-height: 60vh; border-radius: 8px; display: block }
h1 { font-size: 1.25rem; font-weight: 600; overflow-wrap: anywhere }
h2 { font-size: .95rem; color: var(--soft); margin: 0 0 6px }
.said { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 16px }
section { border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; margin: 0 0 16px }
p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere } footer { color: var(--soft); font-size: .85rem }
mark { background: var(--mark); color: inherit; border-radius: 3px }
del { color: var(--bad) } ins { color: var(--ok); text-decoration: none; font-weight: 600 }
"""


def routes(services: Services) -> list[Route]:
    def page(request: Request) -> Response:
        link = request.path_params["link"]
        try:
            comparison = services.sharing.open_link(link)
        except StudioError as error:
            return _html(
                "Nothing here", f"<h1>{escape(error.what)}</h1><p>{escape(error.why)} {escape(error.fix)}</p>", 404
            )
        return _html(comparison.question, render(comparison, f"{link}/picture"))

    def picture(request: Request) -> Response:
        try:
            path = services.sharing.open_picture(request.path_params["link"])
        except (StudioError, OSError):
            return Response(status_code=404, headers=HEADERS)
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return FileResponse(path, media_type=kind, headers=HEADERS)

    return [Route("/shared/{link}", page), Route("/shared/{link}/picture", picture)]


def render(comparison: Comparison, picture: str) -> str:
    """The page's body; `picture` is the address of its picture."""
    left, right = differing(*(each.text for each in comparison.said))
    image = f'<img src="{escape(picture)}" alt="The picture that was asked about">' if comparison.image else ""
    correction = ""
    if comparison.correction:
        parts = "".join(_piece(text, kind) for text, kind in comparison.correction.parts)
        parts = parts.replace("</del><ins>", "</del> <ins>")  # else two words look like one
        voice = escape(comparison.said[comparison.correction.side].voice)
        correction = f'<section><h2>Corrected by a person: {voice}</h2><p dir="auto">{parts}</p></section>'
    return (
        f'{image}<h1 dir="auto">{escape(comparison.question)}</h1>'
        f'<div class="said">{_answer(comparison.said[0], left)}{_answer(comparison.said[1], right)}</div>{correction}'
        "<footer>Answers of models, side by side; words that differ are marked. Made with the RLHF-V correction studio"
        f", {escape(comparison.made[:10])}.</footer>"
    )


def _answer(said: Said, parts: tuple[Part, ...]) -> str:
    text = "".join(f"<mark>{escape(text)}</mark>" if differs else escape(text) for text, differs in parts)
    return f'<section><h2>{escape(said.voice)}</h2><p dir="auto">{text}</p></section>'


def _piece(text: str, kind: str) -> str:
    return f"<{kind}>{escape(text)}</{kind}>" if kind in ("del", "ins") else escape(text)


def _html(title: str, body: str, status: int = 200) -> Response:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title[:120])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><main>{body}</main></html>',
        status,
        HEADERS,
    )
