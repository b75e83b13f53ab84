"""Who may ask, and how much they may send.

A page in the same browser, from anywhere, can send requests to this machine. So each request must
name the server by a name of ours (else a name that somebody else points at us would do), and must
not come from a page of another origin. On an address that others can reach, a token is asked for.
"""

import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from secrets import compare_digest
from typing import Any, Final
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
COOKIE: Final = "ecg_digitize_token"
_HOST: Final = re.compile(r"^(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(\d{1,5}))?$", re.MULTILINE)
"""A host and its port, as browsers send them."""
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
        refused = self._refused(scope)
        if refused is not None:
            await _answer(send, *refused)
            return
        if self._token and scope["path"] == "/" and _same(_token_in(scope), self._token):
            await _to_cookie(send, _cookie_name(scope), self._token)
            return
        await self._app(scope, receive, _with_headers(send, scope["path"]))

    def _refused(self, scope: Message) -> tuple[int, str] | None:
        """Return the status and the reason if a request is not allowed."""
        hosts = _HOST.findall("\n".join(_values(scope, "host")))
        if len(hosts) != 1 or hosts[0][0].strip("[]").casefold() not in self._hosts:
            return 421, "this server has another name; use the address that it printed, or --called"
        origins = _values(scope, "origin")
        is_ours = all(one.casefold() == f"http://{_values(scope, 'host')[0]}" for one in origins)
        is_cross = "cross-site" in _values(scope, "sec-fetch-site")
        if not is_ours or (is_cross and scope["method"] not in ("GET", "HEAD")):
            return 403, "this request comes from a page of another origin"
        if self._token and not self._knows_token(scope):
            return 401, "open the address with the token, as the server printed it"
        if _values(scope, "transfer-encoding"):
            return 411, "expected a Content-Length; send the file as a whole"
        if int(*_values(scope, "content-length") or "0") > self._most_bytes:
            return 413, f"expected at most {self._most_bytes / 1e6:g} MB; send a smaller file"
        return None

    def _knows_token(self, scope: Message) -> bool:
        assert self._token is not None
        # Other programs of this machine set cookies for it, too: none of theirs may spoil ours.
        pairs = (pair.partition("=") for one in _values(scope, "cookie") for pair in one.split(";"))
        tried = [value for name, _, value in pairs if name.strip() == _cookie_name(scope)]
        tried += [one.removeprefix("Bearer ") for one in _values(scope, "authorization")]
        tried += [_token_in(scope)] if scope["path"] == "/" else []
        return any(_same(one, self._token) for one in tried)


def _values(scope: Message, name: str) -> list[str]:
    """Return the values of all headers of a name."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name.encode()]


def _token_in(scope: Message) -> str:
    """Return the token in an address, if there is one."""
    query: str = scope["query_string"].decode("latin-1")
    return parse_qs(query).get("token", [""])[0]


def _cookie_name(scope: Message) -> str:
    """Return the name of our cookie: browsers share cookies between ports."""
    return f"{COOKIE}_{_HOST.findall(_values(scope, 'host')[0])[0][1] or 80}"


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


async def _to_cookie(send: Send, name: str, token: str) -> None:
    """Take the token out of the address, where a history would keep it."""
    cookie = f"{name}={token}; HttpOnly; SameSite=Strict; Path=/".encode()
    headers = [(b"location", b"/"), (b"set-cookie", cookie), *_HEADERS]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
