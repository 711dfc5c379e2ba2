"""``quant-assets ui`` as a browser meets it: real requests to the running server, an attacker's too."""

import asyncio
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
import websockets
from dagster import DagsterInstance

from quant_assets_tests.e2e.lineage import write_configuration

MUTATION = 'mutation { addDynamicPartition(partitionKey: "x", partitionsDefName: "y", ' \
    'repositorySelector: {repositoryName: "r", repositoryLocationName: "l"}) { __typename } }'  # fmt: skip
EVENT = "/report_asset_materialization/noise/validation_report"


@dataclass
class Site:
    """The running server and its home."""

    port: int
    home: Path

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        """One request with exactly these headers, and Host where none is given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            return self._answer(connection, method, path, body, headers)

    def _answer(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: str | None,
        headers: dict[str, str],
    ) -> tuple[int, str]:
        named = {"host": f"127.0.0.1:{self.port}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in named.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body.encode() if body is not None else None)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def graphql(self, query: str, **headers: str) -> tuple[int, str]:
        return self.send(
            "POST",
            "/graphql",
            json.dumps({"query": query}),
            **{"content_type": "application/json", **headers},
        )

    def events(self) -> int:
        """How many events were reported from outside."""
        with DagsterInstance.from_config(str(self.home / "dagster")) as instance:
            return len(instance.all_asset_keys())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("ui")
    write_configuration(folder / "configs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "QUANT_ASSETS_HOME": str(folder / "home"),
        "QUANT_ASSETS_CONFIGS": str(folder / "configs"),
    }
    command = [sys.executable, "-m", "quant_assets.cli.main", "ui", "--port", str(port)]
    log = folder / "ui.log"
    with log.open("wb") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as server:
        found = Site(port, folder / "home")
        try:
            for _ in range(600):
                assert server.poll() is None, log.read_text()
                try:
                    found.send("GET", "/server_info")
                    break
                except OSError:
                    time.sleep(0.5)
            yield found
        finally:
            server.terminate()


def test_the_ui_and_its_queries_are_served(site: Site) -> None:
    status, page = site.send("GET", "/asset-groups")
    assert (status, 'id="root"' in page) == (200, True)
    assert site.send("GET", "/graphql?" + urlencode({"query": "{version}"}))[0] == 200
    assert site.graphql("{version}", origin=site.origin, sec_fetch_site="same-origin")[0] == 200
    for _ in range(120):  # the code server loads the location
        status, said = site.graphql("{ assetNodes { id } }")
        assert status == 200
        if nodes := json.loads(said)["data"]["assetNodes"]:
            break
        time.sleep(1)
    assert len(nodes) > 40


def test_a_mutation_goes_by_a_post_of_its_own_pages(site: Site) -> None:
    status, said = site.graphql("mutation { reloadWorkspace { __typename } }", origin=site.origin)
    assert (status, json.loads(said)["data"]["reloadWorkspace"]["__typename"]) == (200, "Workspace")


@pytest.mark.parametrize("query", [MUTATION, f"query A {{ version }} {MUTATION}", f"# {{\n{MUTATION}"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_mutation_by_get_is_refused(site: Site, method: str, query: str) -> None:
    assert site.send(method, "/graphql?" + urlencode({"query": query}))[0] == 405


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}"])
def test_a_name_that_was_made_to_resolve_here_is_refused(site: Site, host: str) -> None:
    named = host.format(port=site.port)
    assert site.send("GET", "/", host=named)[0] == 403
    assert site.graphql(MUTATION, host=named, origin=f"http://{named}")[0] == 403
    assert site.send("GET", "/graphql?" + urlencode({"query": "{version}"}), host=named)[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:5000"])
def test_a_post_from_another_page_is_refused(site: Site, origin: str) -> None:
    assert site.graphql(MUTATION, origin=origin)[0] == 403
    assert site.send("POST", EVENT, "{}", origin=origin, content_type="application/json")[0] == 403


@pytest.mark.parametrize(
    "content", ["text/plain", "application/x-www-form-urlencoded", "text/plain;application/json"]
)
def test_a_post_that_needs_no_leave_is_refused_and_reports_nothing(site: Site, content: str) -> None:
    before = site.events()
    assert site.graphql(MUTATION, content_type=content)[0] == 415
    address = "/graphql?" + urlencode({"query": MUTATION})
    assert site.send("POST", address, "", content_type=content)[0] == 415
    assert site.send("POST", EVENT, "metadata={}", content_type=content)[0] == 415
    assert site.events() == before


def test_a_websocket_of_another_page_is_refused(site: Site) -> None:
    async def greeting(origin: str | None) -> str:
        address = f"ws://127.0.0.1:{site.port}/graphql"
        async with websockets.connect(address, origin=origin, subprotocols=["graphql-ws"]) as connection:  # type: ignore[arg-type]
            await connection.send('{"type": "connection_init"}')
            return str(await asyncio.wait_for(connection.recv(), 60))

    assert "connection_ack" in asyncio.run(greeting(site.origin))
    for origin in ("http://evil.example", "null", "http://127.0.0.1:5000"):
        with pytest.raises(websockets.InvalidStatus, match="403"):
            asyncio.run(greeting(origin))


def test_nobody_else_on_the_machine_reads_the_home_and_its_databases(site: Site) -> None:
    assert site.home.stat().st_mode & 0o777 == 0o700
    databases = list(site.home.rglob("*.db"))
    assert len(databases) >= 2
    assert {oct(file.stat().st_mode & 0o777) for file in databases} == {"0o600"}
    assert oct(site.home.stat().st_mode & 0o777) == "0o700"
