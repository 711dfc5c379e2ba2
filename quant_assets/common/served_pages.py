"""An ASGI middleware: the published pages of a home, read-only, below ``/reports`` of the server that it stands in.

Pages hold the names that users gave to strategies, symbols and features, and share an origin with a server that
executes what it is asked. So a page may show itself and nothing else: no request, no form, no frame, an origin of its
own (``sandbox``), and of scripts only those whose digest is known (w3.org/TR/CSP3).
"""

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path

from quant_assets.common.errors import StorageError
from quant_assets.common.files import Location, read_whole
from quant_assets.common.home import SERVED_BELOW as BELOW
from quant_assets.common.pages import FRONT, script_source
from quant_assets.common.same_origin import Application, Receive, Scope, Send

# One folder, no folder in it, no hidden file: what `quant_assets.common.pages` publishes.
_PAGE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\.html")


class ServedPages:
    """Answers for pages; passes everything else on.

    Parameters
    ----------
    app : ASGI application
    folder : Path or UPath
        ``reports/`` of a home. Read at each request: a page that is published later is found.
    scripts : iterable of str
        The texts of scripts that pages may run.
    """

    def __init__(self, app: Application, folder: Location, scripts: Iterable[str] = ()) -> None:
        self._app, self._folder = app, folder
        allowed = " ".join(script_source(script) for script in scripts) or "'none'"
        policy = (
            f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'self'; "
            "sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox"
        )
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-cache"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == BELOW or path.startswith(f"{BELOW}/")):
            await self._app(scope, receive, send)
            return
        name = path.removeprefix(BELOW).removeprefix("/")
        if scope["method"] not in ("GET", "HEAD"):
            await self._answer(scope, send, 405, "a page is only read", allow="GET, HEAD")
        elif not name:
            await self._answer(scope, send, 307, f"see {BELOW}/{FRONT}", location=f"{BELOW}/{FRONT}")
        else:
            await self._page(scope, send, name)

    async def _page(self, scope: Scope, send: Send, name: str) -> None:
        try:
            page = await asyncio.to_thread(self._read, name)
        except (OSError, StorageError) as error:
            await self._answer(scope, send, 503, f"the page cannot be read: {type(error).__name__}")
            return
        if page is not None:
            await self._answer(scope, send, 200, page)
        elif name == FRONT:
            await self._answer(scope, send, 404, "no page of the desk yet: quant-assets desk makes it")
        else:
            await self._answer(scope, send, 404, f"no such page; {BELOW}/{FRONT} links those that there are")

    def _read(self, name: str) -> bytes | None:
        if _PAGE.fullmatch(name) is None:
            return None
        page = self._folder / name
        if isinstance(page, Path) and page.is_symlink():  # it may point anywhere
            return None
        return read_whole(page)

    async def _answer(
        self, scope: Scope, send: Send, status: int, content: bytes | str, **further: str
    ) -> None:
        kind = "text/html" if isinstance(content, bytes) else "text/plain"
        body = content if isinstance(content, bytes) else f"{content}\n".encode()
        told = {"content-type": f"{kind}; charset=utf-8", "content-length": str(len(body)), **further}
        headers = [*self._headers, *((k.encode(), v.encode()) for k, v in told.items())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
