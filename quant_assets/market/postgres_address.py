"""Addresses of databases: taken apart so that host and database can be named and the password cannot."""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from quant_assets.common.errors import SourceError

# libpq waits for the operating system otherwise, about two minutes on Linux.
CONNECT_TIMEOUT_SECONDS = 10

_HOSTS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:,@]*)(:\d*)?(,(\[[0-9A-Fa-f:.%]+\]|[^\[\]:,@]*)(:\d*)?)*")
_SECRET_OPTIONS = ("password", "sslpassword")


@dataclass(frozen=True)
class Address:
    """Where a database is. ``uri`` is what the driver gets; only ``name`` and ``user`` are for people."""

    name: str
    user: str
    uri: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def redacted(self, text: str) -> str:
        """A driver's message without the password, in one line."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())


def parse_address(dsn: SecretStr) -> Address:
    """Take a ``postgresql://`` address apart.

    Raises
    ------
    SourceError
        When it is none, or its password has characters that must be percent-encoded. The text of the address is
        never shown.
    """
    uri = dsn.get_secret_value().strip()
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        raise _refused("an address that starts with postgresql://", "another text")
    parts = urlsplit(uri)
    login, _, hosts = parts.netloc.rpartition("@")
    # An unescaped @ / : ? # of a password moves the place where the host begins; libpq would then print the rest.
    if "@" in login or "@" in parts.path + parts.query or parts.fragment or not _HOSTS.fullmatch(hosts):
        raise _refused(
            "host and port after user and password, all special characters percent-encoded",
            "an address that cannot be taken apart",
        )
    user, _, password = login.partition(":")
    if ":" in password:
        raise _refused("a password without ':' (write %3A)", "a second ':' before the host")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    secrets = {password, unquote(password)} | {options.get(name, "") for name in _SECRET_OPTIONS}
    host = unquote(hosts) or options.get("host", "") or "the local socket"
    database = unquote(parts.path.strip("/")) or options.get("dbname", "") or "the default database"
    if "connect_timeout" not in options:
        uri += ("&" if parts.query else "?") + f"connect_timeout={CONNECT_TIMEOUT_SECONDS}"
    return Address(
        name=f"{host}/{database}",
        user=unquote(user) or options.get("user", ""),
        uri=uri,
        secrets=tuple(sorted((secret for secret in secrets if secret), key=len, reverse=True)),
    )


def _refused(expected: str, found: str) -> SourceError:
    return SourceError(
        "`dsn:` of a postgres source",
        expected=expected,
        found=f"{found} (not shown: it may hold a password)",
        action="set the environment variable that the universe YAML names to "
        "postgresql://user:password@host:5432/database",
    )
