"""Who may see the pages: whoever has the token, from an address that is this server's. Reads and writes nothing.

The first address has the token, which is exchanged for a cookie. The names by which the server may be called are fixed, so a name
of somebody else's that leads here (DNS rebinding) is refused. So is what another page asks for.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping

# Nothing but this server's own files, and none of them inline.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "Server": "jobjar",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OWN_SITES = ("same-origin", "none")


class Access:
    """The token of one server, and the hosts (`name:port`) by which it may be called."""

    def __init__(self, hosts: Iterable[str], port: int, is_encrypted: bool, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(32)
        self.cookie_name = f"jobjar-{port}"
        self.cookie = hashlib.sha256(f"cookie of {self.token}".encode()).hexdigest()
        self.scheme = "https" if is_encrypted else "http"
        default = 443 if is_encrypted else 80
        self.hosts = {f"{_bracketed(host)}:{port}".lower() for host in hosts}
        if port == default:
            self.hosts |= {_bracketed(host).lower() for host in hosts}

    def knows_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())

    def knows_cookie(self, cookie: str) -> bool:
        return hmac.compare_digest(cookie.encode("utf-8", "replace"), self.cookie.encode())

    def knows_bearer(self, header: str) -> bool:
        """Whether an Authorization header has the token: for programs, which keep no cookie."""
        kind, _, token = header.partition(" ")
        return kind.lower() == "bearer" and self.knows_token(token.strip())

    def refuse(self, headers: Mapping[str, str]) -> str | None:
        """Why a request is not answered, by its headers; None if it may be."""
        if headers.get("Host", "").lower() not in self.hosts:
            return "this server is not called so; use the address that it printed"
        origin = headers.get("Origin")
        if origin is not None and origin.lower() not in {f"{self.scheme}://{host}" for host in self.hosts}:
            return "another page asks for this"
        if (
            headers.get("Sec-Fetch-Site", "none").lower() not in _OWN_SITES
            and headers.get("Sec-Fetch-Mode") != "navigate"
        ):
            return "another page asks for this"
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
