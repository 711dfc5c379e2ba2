"""Addresses of databases: named without their password, in messages and in configuration errors."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from quant_assets.common.configuration import parse, read_yaml
from quant_assets.common.errors import ConfigurationError, SourceError
from quant_assets.common.settings import PostgresSource, UniverseConfig
from quant_assets.market.sources.postgres import parse_address

SECRET = "s3cret-word"


@pytest.mark.parametrize(
    "dsn",
    [
        f"host=localhost password={SECRET}",
        f"mysql://u:{SECRET}@h/db",
        f"postgresql://u:{SECRET}@tail@h/db",
        f"postgresql://u:a/{SECRET}@h/db",
        f"postgresql://u:12#{SECRET}@h/db",
        f"postgresql://u:12?{SECRET}@h/db",
        f"postgresql://u:a:{SECRET}@h/db",
    ],
)
def test_an_address_that_cannot_be_taken_apart_is_refused_without_showing_it(dsn: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_address(SecretStr(dsn))
    error = caught.value
    assert SECRET not in str(error)
    assert "not shown" in error.found
    assert "postgresql://user:password@host:5432/database" in error.action


def test_an_address_gives_its_parts_and_hides_its_password() -> None:
    one = parse_address(SecretStr(f"postgresql://bob:{SECRET}@h1:1,h2:2/db?sslmode=require"))
    assert (one.name, one.user) == ("h1:1,h2:2/db", "bob")
    assert one.uri.endswith("?sslmode=require&connect_timeout=10")
    assert SECRET not in repr(one)
    assert one.redacted(f"for {SECRET}:\n\tno") == "for ***: no"
    socket = parse_address(SecretStr("postgresql:///db?host=/run/pg&connect_timeout=2&password=abc"))
    assert socket.name == "/run/pg/db"
    assert socket.secrets == ("abc",)
    assert socket.uri.count("connect_timeout") == 1


def test_the_address_comes_from_the_environment_and_no_configuration_error_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKET_DSN", f"postgresql://bob:{SECRET}@h:5432/db")
    file = tmp_path / "u.yaml"

    def read(source: str, end: str = "2024-12-31") -> UniverseConfig:
        file.write_text(f"name: test\nsource: {{kind: postgres, {source}}}\nstart: 2024-01-01\nend: {end}\n")
        return parse(UniverseConfig, read_yaml(file), file)

    found = read("dsn: '${MARKET_DSN}', table: prices").source
    assert isinstance(found, PostgresSource)
    assert found.dsn.get_secret_value().startswith("postgresql://bob")
    for source, end, diagnosis in (
        ("dsn: '${MARKET_DSN}'", "2024-12-31", "exactly one of `table:` and `query:`"),
        ("dsn: '${MARKET_DSN}', table: a, query: b", "2024-12-31", "exactly one of"),
        ("dns: '${MARKET_DSN}', table: a, dsn: x", "2024-12-31", "did you mean 'dsn'"),
        ("dsn: '${MARKET_DSN}', tabel: a", "2024-12-31", "did you mean 'table'"),
        ("dsn: ['${MARKET_DSN}'], table: a", "2024-12-31", "valid string"),
        ("dsn: '${MARKET_DSN}', table: a, time_zone: America/NewYork", "2024-12-31", "'America/New_York'"),
        ("dsn: '${MARKET_DSN}', table: a", "2020-01-01", "must come after start"),
        ("dsn: '${MARKET_DSN}', table: a.b.c", "2024-12-31", "pattern"),
    ):
        with pytest.raises(ConfigurationError, match=diagnosis) as caught:
            read(source, end)
        assert SECRET not in str(caught.value) + str(caught.value.__cause__), source
