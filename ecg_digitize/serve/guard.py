"""Who may ask, and how much they may send.

A page in the same browser, from anywhere, can send requests to this machine. So each request must
name the server by a name of ours (else a name that somebody else points at us would do), and must
not come from a page of another origin. On an address that others can reach, a token is asked for.
"""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http.cookies import SimpleCookie
from secrets import compare_digest
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
COOKIE: Final = "ecg_digitize_token"
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
_OWN_FILES_ONLY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_INLINE_TOO: Final = _OWN_FILES_ONLY.replace(b"src 'self';", b"src 'self' 'unsafe-inline';")
"""Swagger's page, which shows the addresses, has its script in itself."""
DOCS: Final = "/docs"


class Guard:
    """Stands before the application, and refuses what is not allowed."""

    def __init__(
        self, app: App, *, hosts: Collection[str], token: str | None, most_bytes: int
    ) -> None:
        """Say what is allowed.

        Args:
            app: What is asked in the end.
            hosts: Names of this server, without ports.
            token: What must be sent, as a cookie, as "Authorization: Bearer", or once in the
                address as ?token=; None asks for none.
            most_bytes: Of a request.
        """
        self._app, self._token, self._most_bytes = app, token, most_bytes
        self._hosts = {host.casefold() for host in hosts}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {a.decode("latin-1"): b.decode("latin-1") for a, b in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if self._token and scope["path"] == "/" and _same(given, self._token):
            await _to_cookie(send, self._token)
            return
        await self._app(scope, receive, _with_headers(send, scope["path"]))

    def _refused(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        """Return the status and the reason if a request is not allowed."""
        host = headers.get("host", "")
        if (urlsplit(f"//{host}").hostname or "").casefold() not in self._hosts:
            return 421, f'this server is not called "{host}"; use the address that it printed'
        origin = headers.get("origin")
        is_ours = origin is None or urlsplit(origin).netloc.casefold() == host.casefold()
        changes = scope["method"] not in ("GET", "HEAD")
        if not is_ours or (changes and headers.get("sec-fetch-site") == "cross-site"):
            return 403, "this request comes from a page of another origin"
        if self._token and not self._knows_token(scope, headers):
            return 401, "open the address with the token, as the server printed it"
        if "transfer-encoding" in headers:
            return 411, "expected a Content-Length; send the file as a whole"
        if int(headers.get("content-length", "0")) > self._most_bytes:
            return 413, f"expected at most {self._most_bytes / 1e6:g} MB; send a smaller file"
        return None

    def _knows_token(self, scope: Message, headers: dict[str, str]) -> bool:
        assert self._token is not None
        cookies = SimpleCookie(headers.get("cookie", ""))
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        in_address = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        tried = [cookies[COOKIE].value if COOKIE in cookies else "", bearer]
        tried += [in_address] if scope["path"] == "/" else []
        return any(_same(one, self._token) for one in tried)


def _same(given: str, token: str) -> bool:
    return compare_digest(given.encode(), token.encode())


def _with_headers(send: Send, path: str) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            policy = _INLINE_TOO if path == DOCS else _OWN_FILES_ONLY
            own = [*_HEADERS, (b"content-security-policy", policy)]
            message = {**message, "headers": [*message["headers"], *own]}
        await send(message)

    return sent


async def _answer(send: Send, status: int, reason: str) -> None:
    body = reason.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _to_cookie(send: Send, token: str) -> None:
    """Take the token out of the address, where a history would keep it."""
    cookie = f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/".encode()
    headers = [(b"location", b"/"), (b"set-cookie", cookie), *_HEADERS]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
