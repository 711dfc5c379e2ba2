"""An ASGI middleware: no page of another site acts through a server that asks nobody who he is.

Dagster's webserver has no log-in and executes what it is asked, mutations by GET too, under any ``Host``. A browser
on the same machine reaches it from every page that it shows: by an address in an image, by a form, by a script that
had its own name resolved to 127.0.0.1 (DNS rebinding), by a frame under the mouse, by a WebSocket, which no
same-origin policy holds back. Each is refused here by what pages cannot forge: ``Host``, ``Origin``, ``Sec-Fetch-*``,
and the content types that they may send without asking first (fetch.spec.whatwg.org, "CORS-safelisted
request-header"). It says nothing about programs: whoever can open a connection can act, so the server belongs on
127.0.0.1 or behind a log-in.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import parse_qs

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# What this machine calls itself.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HOST = re.compile(r"(\[[0-9a-f:]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
# More than any query of the UI (30 kB); parsing takes time by the length.
_MOST_QUERY_CHARACTERS = 100_000
_HEADERS = [(b"x-frame-options", b"SAMEORIGIN"), (b"cross-origin-resource-policy", b"same-origin")]


class SameOrigin:
    """Passes on what comes from the server's own pages, and from programs; refuses what another site had sent.

    Parameters
    ----------
    app : ASGI application
    hosts : iterable of str
        Names under which the server is addressed, without port, an IPv6 address in brackets.
    """

    def __init__(self, app: Application, hosts: Iterable[str] = LOOPBACK) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        found = refusal(scope, self._hosts)
        if found is None:
            await self._app(scope, receive, _hardened(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": found[1][:120]})
        else:
            status, text = found
            headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": f"{text}\n".encode()})


def _hardened(send: Send) -> Send:
    """Every answer stays out of foreign frames and foreign pages."""

    async def hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return hardened


def refusal(scope: Scope, hosts: Iterable[str]) -> tuple[int, str] | None:
    """Status and reason for which a request is not answered; None when it is.

    Parameters
    ----------
    scope : mapping
        Of an ASGI request or WebSocket.
    hosts : iterable of str
        As of `SameOrigin`, in lower case.
    """
    sent = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    headers = {name: value.lower() for name, value in sent}
    for name in ("host", "origin", "content-type"):
        if sum(n == name for n, _ in sent) > 1:
            return 400, f"expected one header {name}, found several"
    host = headers.get("host", "")
    known = _HOST.fullmatch(host)
    if known is None or known[1] not in hosts:
        return 403, f"expected a request to {', '.join(sorted(hosts))}, found Host {host!r}; see --allow-host"
    origin = headers.get("origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        return 403, f"expected a page of this server, found Origin {origin!r}"
    if scope["type"] == "websocket":
        return None
    return _refused_request(scope, headers)


def _refused_request(scope: Scope, headers: MutableMapping[str, str]) -> tuple[int, str] | None:
    method = scope["method"]
    to_graphql = scope["path"].rstrip("/").endswith("/graphql")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        shown = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
        if method not in ("GET", "HEAD") or to_graphql or not shown:
            return 403, "expected a page of this server, found a request that another site had sent"
    if method == "POST":
        content = headers.get("content-type", "").partition(";")[0].strip()
        if content != "application/json":
            return 415, f"expected Content-Type application/json, found {content or 'none'}"
    elif method not in ("GET", "HEAD", "OPTIONS"):
        return 405, f"expected GET or POST, found {method}"
    elif to_graphql and not all(map(_only_asks, _queries(scope))):
        return 405, "expected a query, found something that changes state: send it by POST"
    return None


def _queries(scope: Scope) -> list[str]:
    text = scope.get("query_string", b"").decode("latin-1")
    return parse_qs(text, keep_blank_values=True, encoding="utf-8").get("query", [])


def _only_asks(query: str) -> bool:
    """Whether a GraphQL document holds queries only. What cannot be read is no query."""
    from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse

    if len(query) > _MOST_QUERY_CHARACTERS:
        return False
    try:
        document = parse(query, max_tokens=_MOST_QUERY_CHARACTERS // 10, no_location=True)
    except (GraphQLError, RecursionError):
        return False
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    return bool(operations) and all(node.operation is OperationType.QUERY for node in operations)
