"""Logging in by an OpenID Connect provider: the authorization code flow with PKCE. Authlib speaks the protocol.

Before anybody is let in, in this order:

 1. The `state` that comes back was given out here, not long ago, to the same browser, and comes for the first time.
 2. The code is exchanged, over our own connection, with the verifier that no browser has seen.
 3. The ID token is signed by a key of the provider, by an asymmetric algorithm; `iss` and `aud` are it and us, `exp`
    lies ahead, `nonce` is the one of this attempt.
 4. The role claim names a role by the mapping. Nobody has one by default.
"""

import ipaddress
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from authlib import deprecate

from crosswind.dashboard.attempts import Attempt, Attempts, Refusal, Refused
from crosswind.errors import SettingsError
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.accounts import Person, Role

with warnings.catch_warnings():  # it wants httpx2, and says so on every start; httpx is what the rest here speaks
    warnings.simplefilter("ignore", deprecate.AuthlibDeprecationWarning)
    from authlib.integrations.starlette_client import StarletteOAuth2App

FRESH: Final = 3600.0
"""Seconds after which the provider's addresses and keys are read again: a key that it has dropped is dropped here."""

LEEWAY: Final = 30
"""Seconds by which the provider's clock and ours may differ."""

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Of an ID token's signature. Never `none`, and none whose key both sides know."""

_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_LONGEST: Final = 255
"""ASCII characters of a subject (OpenID Connect Core 1.0, section 2)."""

# Authlib writes verifiers into its debug log.
logging.getLogger("authlib").setLevel(logging.WARNING)


class Provider:
    """The identity provider of the settings. Found by its discovery document when somebody first asks.

    Args:
        clock: seconds, monotonic.

    Raises:
        SettingsError: a setting is missing, or the issuer is not https.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        check_settings(settings)
        self.issuer = settings.oidc_issuer
        self._settings, self._clock = settings, clock
        self._app, self._found_at = None, 0.0

    async def begin(self, attempts: Attempts, back: str, to: str) -> tuple[str, Attempt]:
        """Where to send a browser, and the attempt whose cookie it must get.

        Raises:
            Refused: the provider does not answer, or its discovery document will not do.
        """
        app = await self._discovered()
        made = await app.create_authorization_url(back)
        return made["url"], attempts.add(made["state"], made["nonce"], made["code_verifier"], back, to)

    async def finish(self, attempt: Attempt, code: str) -> tuple[Person, Role]:
        """Who came back with that code, and what they may do.

        Raises:
            Refused: the provider does not know the code or does not answer; its token will not do; or they have no
                role, and then it says who they are.
        """
        claims = await self._claims(await self._discovered(), attempt, code)
        subject = claims["sub"]
        if not 0 < len(subject) <= _LONGEST or not (subject.isascii() and subject.isprintable()):
            raise Refused(Refusal.TOKEN, "sub")
        person = Person(self.issuer, subject, name_of(claims))
        role = role_of(claims, self._settings.oidc_role_claim, self._settings.oidc_roles)
        if role is None:
            raise Refused(Refusal.ROLE, "none is mapped", person)
        return person, role

    async def _claims(self, app: Any, attempt: Attempt, code: str) -> Mapping[str, Any]:
        with _refusing(Refusal.PROVIDER):
            token = await app.fetch_access_token(
                redirect_uri=attempt.back, code=code, code_verifier=attempt.verifier, grant_type="authorization_code"
            )
        wanted = {
            "iss": {"essential": True, "value": self.issuer},
            "aud": {"essential": True, "value": self._settings.oidc_client_id},
        }
        with _refusing(Refusal.TOKEN):
            found = await app.parse_id_token(token, attempt.nonce, claims_options=wanted, leeway=LEEWAY)
        if not found:
            raise Refused(Refusal.TOKEN, "there is none")
        claims: Mapping[str, Any] = found
        return claims

    async def _discovered(self) -> Any:
        """Authlib's client. A new one is used only once what it found is checked: it may be in use meanwhile."""
        if self._app is None or self._clock() - self._found_at >= FRESH:
            app = _client(self._settings)
            with _refusing(Refusal.UNREACHABLE):
                app.server_metadata = checked(await app.load_server_metadata(), self.issuer)
            self._app, self._found_at = app, self._clock()
        return self._app


def _client(settings: Settings) -> Any:
    secret = settings.oidc_client_secret
    return StarletteOAuth2App(
        None,
        name="oidc",
        client_id=settings.oidc_client_id,
        client_secret=secret.get_secret_value() if secret else None,
        server_metadata_url=settings.oidc_issuer.rstrip("/") + "/.well-known/openid-configuration",
        client_kwargs={"scope": settings.oidc_scopes, "code_challenge_method": "S256", "timeout": 10.0},
    )


@contextmanager
def _refusing(why: Refusal) -> Iterator[None]:
    """Whatever a provider answers, nobody is let in by it; it may send what no library expects."""
    try:
        yield
    except Refused:
        raise
    except httpx.TransportError as error:
        raise Refused(Refusal.UNREACHABLE, type(error).__name__) from None
    except Exception as error:
        raise Refused(why, type(error).__name__) from None


def check_settings(settings: Settings) -> None:
    """Refuses settings by which nobody could log in, or anybody might listen.

    Raises:
        SettingsError: naming what is missing or wrong.
    """
    given = {
        "CROSSWIND_OIDC_ISSUER": settings.oidc_issuer,
        "CROSSWIND_OIDC_CLIENT_ID": settings.oidc_client_id,
        "CROSSWIND_OIDC_CLIENT_SECRET": settings.oidc_client_secret and settings.oidc_client_secret.get_secret_value(),
        "CROSSWIND_OIDC_ROLES": settings.oidc_roles,
    }
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise SettingsError(f"CROSSWIND_AUTH={settings.auth} needs {', '.join(missing)} too; see docs/dashboard.md")
    if not safe(settings.oidc_issuer):
        raise SettingsError(
            f"CROSSWIND_OIDC_ISSUER is {settings.oidc_issuer!r}; it must begin with https:// (http only on loopback)"
        )


def safe(address: Any) -> bool:
    """Whether nobody between here and that address can listen or answer in its place.

    >>> safe("https://id.example/realm"), safe("http://127.0.0.1:9000"), safe("http://id.example"), safe("https://")
    (True, True, False, False)
    """
    try:
        parts = urlsplit(address if isinstance(address, str) else "")
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    try:
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def checked(found: Any, issuer: str) -> dict[str, Any]:
    """What is used of a discovery document; of all else in it nothing may reach our HTTP client's options.

    Raises:
        Refused: it is another issuer's, or lacks an address, or one is not safe.
    """
    if found.get("issuer") != issuer:  # OpenID Connect Discovery 1.0, section 4.3
        raise Refused(Refusal.UNREACHABLE, "the discovery document is of another issuer than CROSSWIND_OIDC_ISSUER")
    unsafe = [name for name in _ENDPOINTS if not safe(found.get(name))]
    if unsafe:
        raise Refused(Refusal.UNREACHABLE, f"not https in the discovery document: {', '.join(unsafe)}")
    methods = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    by = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
    signs = [name for name in found.get("id_token_signing_alg_values_supported") or ["RS256"] if name in ALGORITHMS]
    return {
        **{name: found[name] for name in (*_ENDPOINTS, "_loaded_at", "issuer")},
        "id_token_signing_alg_values_supported": signs or ["RS256"],
        "token_endpoint_auth_method": by,
    }


def role_of(claims: Mapping[str, Any], claim: str, roles: Mapping[str, str]) -> Role | None:
    """The highest role that the claim's values are mapped to; None: no access.

    >>> role_of({"realm_access": {"roles": ["news", "staff"]}}, "realm_access.roles", {"news": "analyst"})
    <Role.ANALYST: 2>
    """
    found: Any = claims.get(claim)
    if found is None:
        found = claims
        for part in claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    values = found if isinstance(found, list) else [found]
    given = [Role[roles[value].upper()] for value in values if isinstance(value, str) and value in roles]
    return max(given, default=None)


def name_of(claims: Mapping[str, Any]) -> str:
    """What they are called at the provider, to be shown."""
    names = (claims.get(name) for name in ("preferred_username", "email", "name"))
    return next((name for name in names if isinstance(name, str) and name), "")
