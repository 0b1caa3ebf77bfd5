"""What every answer carries, and what may be asked for: headers against injected content, and the host's name.

Without a login, what keeps strangers out is that the server listens on loopback only (`serve.py`) and answers only to
loopback names: a web page elsewhere that rebinds its own name to 127.0.0.1 sends that name, and is refused.
"""

from collections.abc import Iterable, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def content_security_policy(hashes: Iterable[str]) -> str:
    """The policy: everything from this host alone; inline scripts only those of Dash, by their hashes.

    Plotly and Dash set style attributes and add style elements, so inline styles must be allowed; they cannot run.
    Plotly draws its image exports through `data:` and `blob:`.
    """
    rules = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", *hashes]),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


class Guard:
    """ASGI middleware, plain so that streams are not buffered: refuses foreign hosts, adds the headers.

    Args:
        policy: the Content-Security-Policy.
        hosts: names, without port, that requests may ask for.
    """

    def __init__(self, app: ASGIApp, policy: str, hosts: Sequence[str] = LOOPBACK) -> None:
        self._app, self._hosts = app, frozenset(hosts)
        self._headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one connection on, or refuses it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif host_name(Headers(scope=scope).get("host", "")) not in self._hosts:
            refusal = PlainTextResponse("unknown host: open the dashboard by its loopback address\n", 421)
            await (refusal(scope, receive, send) if scope["type"] == "http" else send({"type": "websocket.close"}))
        else:
            await self._app(scope, receive, self._with_headers(send))

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                own = headers.get("Content-Security-Policy", "")
                # a kept report brings a stricter policy of its own: no network, and an origin of its own
                headers.update({**self._headers, **({"Content-Security-Policy": own} if "sandbox" in own else {})})
            await send(message)

        return sending


def host_name(host: str) -> str:
    """A Host header without its port.

    >>> host_name("[::1]:8050"), host_name("localhost:80")
    ('[::1]', 'localhost')
    """
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()
