"""Logging in by an identity provider: a real one on loopback, and everything that it or a browser may try."""

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import Engine, text

from crosswind.dashboard.oidc import Provider
from crosswind.errors import SettingsError
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.accounts import Accounts, Role
from tests.identity_provider import CLIENT, SECRET, Claims, IdentityProvider, identity_provider, settings_for
from tests.served import served

BROWSER = {"Sec-Fetch-Dest": "document"}


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as found:
        yield found


@pytest.fixture
def address(provider: IdentityProvider, database_url: str) -> Iterator[str]:
    with served(database_url, **settings_for(provider)) as at:
        yield at


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=20, headers={"Origin": address, **BROWSER}) as connected:
        yield connected


@pytest.fixture
def accounts(engine: Engine) -> Accounts:
    return Accounts(engine)


def begin(client: httpx.Client, to: str = "/alerts") -> str:
    """Where the provider sends the browser back to."""
    sent = client.get("/login/oidc", params={"next": to})
    assert sent.status_code == 303, sent.text
    return httpx.get(sent.headers["location"]).headers["location"]


def log_in(client: httpx.Client, to: str = "/alerts") -> httpx.Response:
    return client.get(begin(client, to))


def changed(address: str, **values: str) -> str:
    """The address with other values in its query."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **values})))


def test_who_logs_in_has_the_mapped_role_and_goes_where_they_wanted(client: httpx.Client, accounts: Accounts) -> None:
    answer = log_in(client, "/series?topic=credit")
    assert (answer.status_code, answer.headers["location"]) == (303, "/series?topic=credit")
    me = client.get("/api/v1/me").json()
    assert (me["name"].rpartition("-")[0], me["role"], me["acts"]) == ("sso:ada", "analyst", True)
    entry = accounts.noted()[0]
    assert (entry["actor"], entry["action"], entry["detail"]["role"]) == (me["name"], "log in", "analyst")
    client.post("/logout")
    assert client.get("/api/v1/me").status_code == 401


def test_the_same_person_has_the_same_account_whatever_they_are_called(
    client: httpx.Client, provider: IdentityProvider, accounts: Accounts
) -> None:
    log_in(client)
    first = client.get("/api/v1/me").json()["name"]
    provider.person |= {"preferred_username": "ada.lovelace", "roles": ["desk", "guests"]}
    log_in(client)
    assert client.get("/api/v1/me").json() | {"acts": 0, "leaves": 0} == {
        "name": first, "role": "admin", "acts": 0, "leaves": 0
    }  # fmt: skip
    provider.person |= {"sub": "43"}
    log_in(client)
    assert client.get("/api/v1/me").json()["name"] != first
    assert len(accounts.all()) == 2


def test_nobody_becomes_a_local_account_by_its_name(
    client: httpx.Client, provider: IdentityProvider, accounts: Accounts
) -> None:
    accounts.add("ada", "correct horse battery", Role.ADMIN)
    log_in(client)
    assert client.get("/api/v1/me").json()["role"] == "analyst"
    name = client.get("/api/v1/me").json()["name"]
    for password in ("none: an identity provider vouches for them", ""):
        assert client.post("/login", data={"name": name, "password": password}).status_code == 401
    assert client.post("/login", data={"name": "ada", "password": "correct horse battery"}).status_code == 303


def test_who_has_no_role_has_no_access(client: httpx.Client, provider: IdentityProvider, accounts: Accounts) -> None:
    for roles in (None, [], ["strangers"], "desk2", {"desk": 1}, [["desk"]], 7):
        provider.person["roles"] = roles
        assert log_in(client).status_code == 403, roles
    assert client.get("/api/v1/me").status_code == 401
    assert accounts.all() == []
    assert accounts.noted()[0]["detail"] == {"provider": provider.issuer, "why": "role"}


def test_whose_role_is_taken_away_is_logged_out_everywhere(
    client: httpx.Client, provider: IdentityProvider, address: str
) -> None:
    log_in(client)
    provider.person["roles"] = []
    with httpx.Client(base_url=address, headers=BROWSER) as another:
        assert log_in(another).status_code == 403
    assert client.get("/api/v1/me").status_code == 401


def other_key(claims: Claims) -> str:
    return jwt.encode({"alg": "RS256", "kid": "first"}, claims, RSAKey.generate_key(2048, {"kid": "first"}))


def unknown_key(claims: Claims) -> str:
    return jwt.encode({"alg": "RS256", "kid": "second"}, claims, RSAKey.generate_key(2048, {"kid": "second"}))


def by_hand(algorithm: str, claims: Claims, key: bytes | None = None) -> str:
    """A token that no careful library makes."""
    parts = [json.dumps(part).encode() for part in ({"alg": algorithm}, claims)]
    body = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    mac = hmac.digest(key, body.encode(), "sha256") if key else b""
    return f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(
    client: httpx.Client, provider: IdentityProvider, accounts: Accounts
) -> None:
    public = provider.key.as_pem(private=False)
    signs: list[Callable[[Claims], str]] = [
        other_key,
        unknown_key,
        lambda claims: by_hand("none", claims),
        lambda claims: by_hand("HS256", claims, SECRET.encode()),
        lambda claims: by_hand("HS256", claims, public),  # who takes the algorithm from the token checks it with this
        lambda claims: "not.a.token",
        lambda claims: "",
    ]
    for sign in signs:
        provider.sign = sign
        refused(log_in(client), client, accounts, "token")


LIES: list[Claims] = [
    {"nonce": "another"}, {"nonce": None}, {"exp": -120}, {"exp": None}, {"aud": "another"},
    {"aud": ["another"], "azp": CLIENT}, {"aud": [CLIENT, "another"], "azp": "another"},
    {"iss": "https://evil.example"}, {"iat": 3600}, {"sub": None}, {"sub": ""}, {"sub": 7}, {"sub": "x" * 256},
    {"sub": "a\0b"}, {"at_hash": "bm8="},
]  # fmt: skip
"""Claims of an ID token that are not what they should be; None: there is none; times are seconds from now."""


def lying(lie: Claims) -> Callable[[Claims], Claims]:
    now = int(time.time())
    told = {name: value + now if name in ("exp", "iat") and value else value for name, value in lie.items()}
    return lambda claims: {name: value for name, value in {**claims, **told}.items() if value is not None}


def test_a_token_that_says_something_else_lets_nobody_in(
    client: httpx.Client, provider: IdentityProvider, accounts: Accounts
) -> None:
    for lie in LIES:
        provider.tamper = lying(lie)
        refused(log_in(client), client, accounts, "token")


def refused(answer: httpx.Response, client: httpx.Client, accounts: Accounts, why: str) -> None:
    assert answer.status_code in (400, 401)
    assert "set-cookie" not in answer.headers or "crosswind=" not in answer.headers["set-cookie"]
    assert client.get("/api/v1/me").status_code == 401
    assert accounts.all() == []
    entry = accounts.noted()[0]
    assert (entry["action"], entry["detail"]["why"]) == ("refused log in", why)


def test_a_wrong_state_lets_nobody_in(client: httpx.Client, provider: IdentityProvider, accounts: Accounts) -> None:
    refused(client.get(changed(begin(client), state="another")), client, accounts, "state")
    assert provider.asked == []


def test_another_browser_cannot_end_what_this_one_began(
    client: httpx.Client, provider: IdentityProvider, accounts: Accounts, address: str
) -> None:
    back = begin(client)
    with httpx.Client(base_url=address, headers=BROWSER) as another:
        refused(another.get(back), another, accounts, "state")
    with httpx.Client(base_url=address, headers=BROWSER) as another:
        begin(another)
        refused(another.get(back), another, accounts, "state")
    assert provider.asked == []


def test_a_code_is_good_for_once(client: httpx.Client, provider: IdentityProvider, accounts: Accounts) -> None:
    back = begin(client)
    first = dict(parse_qsl(urlsplit(back).query))
    assert client.get(back).status_code == 303
    client.cookies.delete("crosswind")
    assert client.get(back).status_code == 400
    again = changed(begin(client), code=first["code"])
    assert client.get(again).status_code == 401
    assert client.get("/api/v1/me").status_code == 401
    assert [entry["detail"].get("why") for entry in accounts.noted()] == ["provider", "state", None]


def test_a_stolen_code_is_worth_nothing_without_its_verifier(
    client: httpx.Client, accounts: Accounts, address: str
) -> None:
    with httpx.Client(base_url=address, headers=BROWSER) as victim:
        stolen = dict(parse_qsl(urlsplit(begin(victim)).query))["code"]
    refused(client.get(changed(begin(client), code=stolen)), client, accounts, "provider")


def test_an_answer_that_is_none_lets_nobody_in(client: httpx.Client, accounts: Accounts) -> None:
    for lie in ({"iss": "https://evil.example"}, {"error": "access_denied"}, {"code": ""}):
        refused(client.get(changed(begin(client), **lie)), client, accounts, "provider")


def test_nobody_is_sent_to_another_host(client: httpx.Client) -> None:
    for to in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:evil()", "/\t//evil.example"):
        assert log_in(client, to).headers["location"] == "/"
        assert "evil" not in client.get("/login", params={"next": to}).text


def test_the_provider_is_told_no_address_but_ours(client: httpx.Client, address: str) -> None:
    sent = client.get("/login/oidc", headers={"Host": "evil.example"})
    assert sent.status_code == 421
    asked = parse_qs(urlsplit(client.get("/login/oidc").headers["location"]).query)
    assert asked["redirect_uri"] == [f"{address}/login/oidc/back"]
    assert "code_verifier" not in asked


def test_a_picture_on_another_site_begins_nothing_and_counts_nothing(client: httpx.Client, accounts: Accounts) -> None:
    image = {"Sec-Fetch-Dest": "image", "Sec-Fetch-Site": "cross-site"}
    assert [client.get(f"/login/oidc{path}", headers=image).status_code for path in ("", "/back?state=x")] == [400, 400]
    assert accounts.noted() == []
    assert not client.cookies


def test_too_many_failures_must_wait(client: httpx.Client, provider: IdentityProvider, accounts: Accounts) -> None:
    found = [client.get("/login/oidc/back?state=x&code=y").status_code for _ in range(21)]
    assert found == [400] * 20 + [429]
    assert client.get("/login/oidc").status_code == 429
    assert client.post("/login", data={"name": "ada", "password": "x"}).status_code == 429
    assert len(accounts.noted()) == 20


def test_neither_secret_nor_token_is_shown_or_noted(
    client: httpx.Client, provider: IdentityProvider, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    answers = [client.get("/login"), client.get("/login/oidc")]
    log_in(client)
    provider.sign = lambda claims: by_hand("none", claims)
    answers.append(log_in(client))
    with engine.connect() as connection:
        kept = str(connection.execute(text("SELECT * FROM audit")).all())
    verifiers = [asked["code_verifier"] for asked in provider.asked]
    said = caplog.text + kept + "".join(answer.text + str(answer.headers) for answer in answers)
    assert len(verifiers) == 2
    assert not [secret for secret in (SECRET, *verifiers, "for nothing") if secret in said]


def test_a_discovery_document_that_will_not_do_is_said_and_read_again(
    client: httpx.Client, provider: IdentityProvider
) -> None:
    for lie in ({"issuer": "https://evil.example"}, {"token_endpoint": "http://evil.example/"}, {"jwks_uri": None}):
        provider.discovery = lie
        assert client.get("/login/oidc").status_code == 503
    provider.discovery = {}
    assert log_in(client).status_code == 303


def test_a_new_key_of_the_provider_is_found(client: httpx.Client, provider: IdentityProvider) -> None:
    log_in(client)
    provider.key = RSAKey.generate_key(2048, {"kid": "second"})
    provider.sign = lambda claims: jwt.encode({"alg": "RS256", "kid": "second"}, claims, provider.key)
    assert log_in(client).status_code == 303


def test_the_login_page_offers_what_there_is(
    client: httpx.Client, provider: IdentityProvider, database_url: str
) -> None:
    both = client.get("/login?next=/alerts").text
    assert 'name="password"' in both
    assert 'href="/login/oidc?next=%2Falerts"' in both
    with served(database_url, **settings_for(provider, auth="oidc")) as at:
        assert 'name="password"' not in httpx.get(f"{at}/login").text
        assert httpx.post(f"{at}/login", data={"name": "a", "password": "b"}, headers={"Origin": at}).status_code == 405


def test_over_tls_cookies_are_kept_to_this_host(provider: IdentityProvider, database_url: str) -> None:
    settings = settings_for(provider, public_url="https://news.example/")
    with served(database_url, **settings) as at:
        sent = httpx.get(f"{at}/login/oidc", headers={"Host": "news.example"})
    cookie = sent.headers["set-cookie"]
    assert cookie.startswith("__Host-crosswind-oidc=")
    assert all(word in cookie for word in ("Secure", "HttpOnly", "Path=/", "SameSite=lax"))
    asked = parse_qs(urlsplit(sent.headers["location"]).query)
    assert asked["redirect_uri"] == ["https://news.example/login/oidc/back"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"oidc_issuer": "http://id.example"}, "must begin with https"),
        ({"oidc_client_secret": None}, "CROSSWIND_OIDC_CLIENT_SECRET"),
        ({"oidc_roles": "{}"}, "CROSSWIND_OIDC_ROLES"),
    ],
)
def test_settings_that_let_nobody_in_are_refused(wrong: Claims, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Provider(Settings(**(settings_for(IdentityProvider(issuer="https://id.example")) | wrong)))


def test_a_login_ends_with_its_way_in(database_url: str, engine: Engine, tmp_path: Path) -> None:
    Accounts(engine).add("ada", "correct horse battery", Role.VIEWER)
    mine = {"name": "ada", "password": "correct horse battery"}
    with identity_provider() as provider:
        with served(database_url, data_dir=tmp_path, **settings_for(provider)) as at:
            with httpx.Client(base_url=at, timeout=20) as by_provider:
                log_in(by_provider)
                theirs = dict(by_provider.cookies)
            ours = dict(httpx.post(f"{at}/login", data=mine, headers={"Origin": at}).cookies)
            assert [me(at, cookies) for cookies in (ours, theirs)] == [200, 200]
        only = settings_for(provider) | {"auth": "oidc"}
        with served(database_url, data_dir=tmp_path, **only) as at:
            assert [me(at, cookies) for cookies in (ours, theirs)] == [401, 200]
    with served(database_url, auth="local", data_dir=tmp_path) as at:
        assert [me(at, cookies) for cookies in (ours, theirs)] == [200, 401]


def me(at: str, cookies: dict[str, str]) -> int:
    return httpx.get(f"{at}/api/v1/me", cookies=cookies).status_code
