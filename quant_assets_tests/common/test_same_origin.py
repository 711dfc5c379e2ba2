"""What a browser sends for another site is refused, what the server's own pages and programs send is not."""

import asyncio
from typing import Any

import pytest

from quant_assets.common.same_origin import LOOPBACK, SameOrigin, refusal

HOME = "127.0.0.1:3000"
JSON = {"content-type": "application/json"}


def request(
    method: str = "GET",
    path: str = "/graphql",
    query: str = "",
    kind: str = "http",
    host: str | None = HOME,
    **headers: str,
) -> dict[str, Any]:
    sent = {**({"host": host} if host is not None else {}), **headers}
    named = [(k.replace("_", "-").encode(), v.encode()) for k, v in sent.items()]
    return {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": named,
    }


def status(scope: dict[str, Any]) -> int | None:
    found = refusal(scope, LOOPBACK)
    return found[0] if found else None


@pytest.mark.parametrize(
    "scope",
    [
        request(path="/"),
        request(path="/runs/abc", host="localhost:3000"),
        request(path="/asset-groups", host="[::1]:3000"),
        request(query="query=%7Bversion%7D"),
        request(query="query=query%20A%7Bversion%7D%20query%20B%7Bversion%7D&operationName=A"),
        request("POST", content_type="application/json"),
        request("POST", content_type="Application/JSON; charset=utf-8", origin=f"http://{HOME}"),
        request("POST", content_type="application/json", sec_fetch_site="same-origin"),
        request("POST", "/report_asset_materialization/a", content_type="application/json"),
        request(path="/", sec_fetch_site="none", sec_fetch_mode="navigate", sec_fetch_dest="document"),
        # a link from the page of MLflow, or from a mail
        request(
            path="/runs/a",
            sec_fetch_site="cross-site",
            sec_fetch_mode="navigate",
            sec_fetch_dest="document",
        ),
        request(kind="websocket", origin=f"http://{HOME}"),
        request(kind="websocket"),
    ],
)
def test_the_pages_of_the_server_and_programs_are_answered(scope: dict[str, Any]) -> None:
    assert refusal(scope, LOOPBACK) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3000",
        "127.0.0.1.evil.example",
        "localhost.",
        "a@127.0.0.1",
        "127.1",
        "",
        None,
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_another_host_is_refused(host: str | None, kind: str) -> None:
    assert status(request(path="/", kind=kind, host=host)) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:5000",
        "http://127.0.0.1",
        "http://localhost:3000",
        "file://",
        "",
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_another_origin_is_refused_another_port_of_this_machine_too(origin: str, kind: str) -> None:
    assert status(request("POST", kind=kind, origin=origin, content_type="application/json")) == 403


@pytest.mark.parametrize(
    "query",
    [
        "query=mutation%7BdeleteRun%7D",
        "query=%7Bversion%7D&query=mutation%7BdeleteRun%7D",
        "query=query%20A%7Bversion%7D%20mutation%20B%7BdeleteRun%7D&operationName=B",
        "query=%23%7Bversion%7D%0Amutation%7BdeleteRun%7D",
        "query=subscription%7Bevents%7D",
        "query=%EF%BB%BFmutation%7BdeleteRun%7D",
        "query=mut\\u0061tion",
        "query=",
        "query=" + "%7Ba" * 50_000,
        "query=%7B" + "a%20" * 40_000 + "%7D",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/graphql", "/graphql/", "/prefix/graphql"])
def test_nothing_that_may_change_state_goes_by_get(method: str, path: str, query: str) -> None:
    assert status(request(method, path, query)) == 405


@pytest.mark.parametrize(
    "content",
    [
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "text/plain; application/json", "", "application/json-patch", "application/graphql",
    ],
)  # fmt: skip
def test_a_post_that_a_page_may_send_unasked_is_refused(content: str) -> None:
    assert status(request("POST", content_type=content)) == 415
    assert status(request("POST", "/report_asset_check/a", content_type=content)) == 415


def test_what_the_browser_says_was_sent_for_another_site_is_refused() -> None:
    for site in ("cross-site", "same-site"):
        image = {"sec_fetch_site": site, "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"}
        frame = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}
        link = {"sec_fetch_site": site, "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
        assert status(request(path="/logs/x", **image)) == 403
        assert status(request(path="/", **frame)) == 403
        assert status(request(query="query=%7Bversion%7D", **link)) == 403
        assert status(request("POST", content_type="application/json", **link)) == 403


def test_headers_sent_twice_and_other_methods_are_refused() -> None:
    twice = request("POST", content_type="application/json")
    for name in (b"host", b"content-type", b"origin"):
        doubled = {**twice, "headers": [*twice["headers"], (name, b"a"), (name, b"b")]}
        assert status(doubled) == 400
    assert status(request("DELETE", "/")) == 405
    assert status(request("PUT", "/")) == 405


def answered(scope: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """What the middleware sends, and whether the server behind it was asked."""
    sent, asked = list[dict[str, Any]](), list[bool]()

    async def server(_scope: Any, _receive: Any, send: Any) -> None:
        asked.append(True)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"here"})

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(SameOrigin(server)(scope, receive, send))
    return sent, bool(asked)


def test_what_is_refused_never_reaches_the_server_and_says_why() -> None:
    (start, body), asked = answered(request(path="/", host="evil.example"))
    assert (start["status"], asked) == (403, False)
    assert b"found Host 'evil.example'" in body["body"]
    (closed,), asked = answered(request(kind="websocket", origin="http://evil.example"))
    assert (closed["type"], closed["code"], asked) == ("websocket.close", 1008, False)


def test_no_answer_may_be_framed_or_read_by_another_site() -> None:
    for scope in (request(path="/"), request(path="/", host="evil.example")):
        headers = dict(answered(scope)[0][0]["headers"])
        assert headers[b"x-frame-options"] == b"SAMEORIGIN"
        assert headers[b"cross-origin-resource-policy"] == b"same-origin"


def test_the_life_of_the_server_itself_is_none_of_its_business() -> None:
    assert answered({"type": "lifespan"})[1]
