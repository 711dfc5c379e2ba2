"""The server of the UI shows the published pages of the home: those, and nothing else of the machine."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from quant_assets.common.home import Home
from quant_assets.common.pages import publish_front, publish_page, script_source
from quant_assets.common.same_origin import SameOrigin
from quant_assets.common.served_pages import ServedPages

PAGE = "<!doctype html><p>ratio − 1</p>"


async def the_ui(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-from", b"ui")]})
    await send({"type": "http.response.body", "body": b"the UI"})


def ask(app: Any, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one answer."""
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(message: Any) -> None:
        sent.append(message)

    told = {"host": "127.0.0.1:3000", **headers}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in told.items()],
    }
    asyncio.run(app(scope, receive, send))
    start, body = sent
    return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, body["body"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with two pages, and a secret beside them."""
    publish_page(tmp_path, "us-features", PAGE)
    publish_front(tmp_path, PAGE)
    (tmp_path / "secret.html").write_text("secret")
    (tmp_path / "reports" / ".hidden.html").write_text("secret")
    (tmp_path / "reports" / "notes.txt").write_text("secret")
    (tmp_path / "reports" / "linked.html").symlink_to(tmp_path / "secret.html")
    (tmp_path / "reports" / "deeper").mkdir()
    (tmp_path / "reports" / "deeper" / "page.html").write_text("secret")
    return tmp_path


def served(home: Path, *scripts: str) -> ServedPages:
    return ServedPages(the_ui, home / "reports", scripts)


def test_a_page_is_answered_as_what_it_is_and_may_do_nothing_but_be_shown(home: Path) -> None:
    (name,) = (f.name for f in (home / "reports").glob("us-features-*.html"))
    status, headers, body = ask(served(home, "let a = 1;"), f"/reports/{name}")
    assert (status, body.decode()) == (200, PAGE)
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-length"] == str(len(PAGE.encode()))
    assert headers["x-content-type-options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    # printf 'let a = 1;' | openssl dgst -sha256 -binary | base64
    assert policy == {
        "default-src": "'none'",
        "script-src": "'sha256-xY6QKfH9PRsQnLz56nj6MBwiK5oHg+im1Jkpdp1x/Ck='",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
        "sandbox": "allow-scripts allow-popups allow-popups-to-escape-sandbox",
    }


def test_without_a_known_script_none_runs(home: Path) -> None:
    _, headers, _ = ask(served(home), "/reports/index.html")
    assert "script-src 'none';" in headers["content-security-policy"]


def test_the_script_of_the_desk_page_is_the_one_that_the_server_lets_run() -> None:
    from quant_assets.reports.desk_page import SCRIPT, SCRIPTS

    assert script_source(SCRIPT) in {script_source(script) for script in SCRIPTS}
    assert "innerHTML" not in SCRIPT  # names reach the page as text
    assert "</script" not in SCRIPT


@pytest.mark.parametrize(
    "path",
    [
        "/reports/../secret.html",
        "/reports/./index.html",
        "/reports//secret.html",
        "/reports/deeper/page.html",
        "/reports/deeper",
        "/reports/.hidden.html",
        "/reports/notes.txt",
        "/reports/linked.html",
        "/reports/..\\secret.html",
        "/reports/index.html\0.html",
        "/reports/index.html/",
        "/reports/index.html\n",
        "/reports/%2e%2e%2fsecret.html",
        "/reports/C:secret.html",
        "/reports/absent.html",
        "/reports/" + "a" * 300 + ".html",
    ],
)
def test_no_path_leads_out_of_the_folder_or_to_anything_but_pages(home: Path, path: str) -> None:
    status, headers, body = ask(served(home), path)
    assert status == 404
    assert b"secret" not in body
    assert headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "path", ["/", "/runs/abc", "/reportsx/index.html", "/assets/reports/index.html", "/graphql"]
)
def test_everything_else_is_the_uis(home: Path, path: str) -> None:
    status, headers, body = ask(served(home), path, "POST")
    assert (status, headers, body) == (200, {"x-from": "ui"}, b"the UI")


def test_a_page_is_only_read(home: Path) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, headers, _ = ask(served(home), "/reports/index.html", method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")
    status, headers, body = ask(served(home), "/reports/index.html", "HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", str(len(PAGE.encode())))


def test_the_folder_leads_to_its_front_page_and_an_empty_home_says_how_to_make_it(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for path in ("/reports", "/reports/"):
        status, headers, _ = ask(served(home), path)
        assert (status, headers["location"]) == (307, "/reports/index.html")
    status, _, body = ask(served(tmp_path_factory.mktemp("empty")), "/reports/index.html")
    assert (status, body) == (404, b"no page of the desk yet: quant-assets desk makes it\n")


def test_a_page_that_cannot_be_read_is_said_and_kills_no_server(home: Path) -> None:
    (home / "reports" / "folder.html").mkdir()
    status, _, body = ask(served(home), "/reports/folder.html")
    assert (status, body) == (503, b"the page cannot be read: IsADirectoryError\n")


def test_the_rules_about_other_sites_hold_for_pages_too(home: Path) -> None:
    app = SameOrigin(served(home))
    assert ask(app, "/reports/index.html")[0] == 200
    assert ask(app, "/reports/index.html", host="evil.example")[0] == 403
    framed = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}
    assert ask(app, "/reports/index.html", **framed)[0] == 403
    assert ask(app, "/reports/index.html")[1]["x-frame-options"] == "SAMEORIGIN"


def test_links_of_the_ui_hold_whatever_its_port_and_follow_an_address_that_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_UI_URL", raising=False)
    place, page = Home(str(home)), home / "reports" / "index.html"
    assert place.page_address(page) == "/reports/index.html"
    monkeypatch.setenv("DAGSTER_UI_URL", "https://desk.example/quant/")
    assert place.page_address(page) == "https://desk.example/quant/reports/index.html"


def test_a_run_of_mlflow_is_linked_only_where_something_shows_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_UI_URL", raising=False)
    assert Home(str(home)).mlflow_ui("1", "a") is None
    monkeypatch.setenv("MLFLOW_UI_URL", "http://127.0.0.1:5000/")
    assert Home(str(home)).mlflow_ui("1", "a") == "http://127.0.0.1:5000/#/experiments/1/runs/a"
