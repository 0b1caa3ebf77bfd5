"""An OpenID provider of our own, on loopback: a real HTTP server with real RS256 keys, and a switch for each lie."""

import base64
import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "crosswind-dashboard", "a secret of the tests"
Claims = dict[str, Any]


@dataclass
class IdentityProvider:
    """What it says of whoever comes, and how it lies. Everybody who comes is `person` and agrees to everything.

    Attributes:
        person: claims about them.
        tamper: what becomes of an ID token's claims before it is signed.
        sign: makes the ID token of claims.
        codes: handed out and not exchanged yet.
        asked: forms that the token endpoint got.
    """

    issuer: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "first"}))
    person: Claims = field(default_factory=lambda: {"sub": "42", "preferred_username": "ada", "roles": ["newsroom"]})
    tamper: Callable[[Claims], Claims] = lambda claims: claims
    sign: Callable[[Claims], str] | None = None
    discovery: Claims = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)

    def document(self) -> Claims:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            **self.discovery,
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser is sent back to."""
        assert (asked["client_id"], asked["response_type"], asked["code_challenge_method"]) == (CLIENT, "code", "S256")
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state'], 'iss': self.issuer})}"

    def exchange(self, given: dict[str, str], authorization: str) -> tuple[int, Claims]:
        """The answer of the token endpoint."""
        self.asked.append(given)
        asked = self.codes.pop(given["code"], None)  # a code is good for once
        if authorization != "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode():
            return 401, {"error": "invalid_client"}
        fits = (
            asked is not None
            and given["grant_type"] == "authorization_code"
            and given["redirect_uri"] == asked["redirect_uri"]
            and create_s256_code_challenge(given["code_verifier"]) == asked["code_challenge"]
        )
        if asked is None or not fits:
            return 400, {"error": "invalid_grant", "error_description": "<script>alert(1)</script>"}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 60,
            "nonce": asked["nonce"],
            **self.person,
        }
        token = (self.sign or self.signed)(self.tamper(claims))
        return 200, {"access_token": "for nothing", "token_type": "Bearer", "expires_in": 60, "id_token": token}

    def signed(self, claims: Claims) -> str:
        return jwt.encode({"alg": "RS256", "kid": "first"}, claims, self.key)


def _handler(provider: IdentityProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/authorize":
                asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                self._answer(302, None, provider.authorize(asked))
            elif parts.path == "/keys":
                self._answer(200, {"keys": [provider.key.as_dict(private=False)]})
            else:
                found = parts.path == "/.well-known/openid-configuration"
                self._answer(200 if found else 404, provider.document() if found else {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            given = {name: values[0] for name, values in parse_qs(body).items()}
            self._answer(*provider.exchange(given, self.headers.get("authorization", "")))

        def _answer(self, status: int, body: Any, to: str = "") -> None:
            content = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            if to:
                self.send_header("Location", to)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextlib.contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """One that answers."""
    provider = IdentityProvider()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(provider))
    provider.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="identity provider")
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def settings_for(provider: IdentityProvider, **others: Any) -> dict[str, Any]:
    """Settings of a dashboard that trusts it."""
    roles = json.dumps({"guests": "viewer", "newsroom": "analyst", "desk": "admin"})
    return {"auth": "both", "oidc_issuer": provider.issuer, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET,
            "oidc_roles": roles, **others}  # fmt: skip
