import pytest

from crosswind.dashboard import attempts as attempts_module
from crosswind.dashboard.attempts import PATIENCE, Attempts, Refused
from crosswind.dashboard.oidc import checked, name_of, role_of, safe
from crosswind.stream.adapters.postgres.accounts import Person, Role

ROLES = {"guests": "viewer", "newsroom": "analyst", "desk": "admin"}
ISSUER = "https://id.example"
DOCUMENT = {
    "issuer": ISSUER, "_loaded_at": 1.0, "authorization_endpoint": f"{ISSUER}/a", "token_endpoint": f"{ISSUER}/t",
    "jwks_uri": f"{ISSUER}/k",
}  # fmt: skip


class Clock:
    """Seconds, as a test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_attempt_ends_after_a_while() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    begun = [attempts.add(state, "n", "v", "b", "/") for state in "ab"]
    clock.now = PATIENCE - 1
    assert attempts.take("a", begun[0].browser) == begun[0]
    clock.now = PATIENCE
    with pytest.raises(Refused, match="unknown"):
        attempts.take("b", begun[1].browser)


def test_an_attempt_of_another_browser_is_gone_at_once() -> None:
    attempts = Attempts()
    begun = attempts.add("a", "n", "v", "b", "/")
    with pytest.raises(Refused, match="another browser"):
        attempts.take("a", "")
    with pytest.raises(Refused, match="unknown"):
        attempts.take("a", begun.browser)


def test_a_flood_of_attempts_pushes_out_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "WAITING", 2)
    attempts = Attempts()
    begun = {state: attempts.add(state, "n", "v", "b", "/") for state in "abc"}
    with pytest.raises(Refused):
        attempts.take("a", begun["a"].browser)
    assert attempts.take("b", begun["b"].browser) == begun["b"]


@pytest.mark.parametrize(
    ("claims", "claim", "role"),
    [
        ({"roles": ["guests", "desk"]}, "roles", Role.ADMIN),
        ({"roles": "newsroom"}, "roles", Role.ANALYST),
        ({"realm_access": {"roles": ["guests"]}}, "realm_access.roles", Role.VIEWER),
        ({"https://news.example/roles": ["guests"]}, "https://news.example/roles", Role.VIEWER),
        ({"realm_access": ["guests"]}, "realm_access.roles", None),
        ({"roles": ["admin"]}, "roles", None),
        ({"roles": [{"desk": 1}, None, 3]}, "roles", None),
        ({}, "roles", None),
    ],
)
def test_a_role_is_what_the_mapping_says_and_none_otherwise(claims: dict[str, object], claim: str, role: Role) -> None:
    assert role_of(claims, claim, ROLES) is role


def test_only_what_is_known_of_a_discovery_document_is_used() -> None:
    found = checked({**DOCUMENT, "verify": False, "proxy": "http://evil.example", "jwks": {"keys": []}}, ISSUER)
    assert set(found) == {*DOCUMENT, "id_token_signing_alg_values_supported", "token_endpoint_auth_method"}


@pytest.mark.parametrize(
    ("said", "used"),
    [(["none"], ["RS256"]), (["HS256", "ES256"], ["ES256"]), (None, ["RS256"]), (["PS512"], ["PS512"])],
)
def test_no_algorithm_is_taken_that_others_can_sign_by(said: list[str] | None, used: list[str]) -> None:
    found = checked({**DOCUMENT, "id_token_signing_alg_values_supported": said}, ISSUER)
    assert found["id_token_signing_alg_values_supported"] == used


@pytest.mark.parametrize(
    ("said", "used"),
    [(None, "basic"), (["client_secret_post"], "post"), (["client_secret_post", "client_secret_basic"], "basic")],
)
def test_the_secret_is_sent_as_the_provider_takes_it(said: list[str] | None, used: str) -> None:
    found = checked({**DOCUMENT, "token_endpoint_auth_methods_supported": said}, ISSUER)
    assert found["token_endpoint_auth_method"] == f"client_secret_{used}"


@pytest.mark.parametrize("lie", [{"issuer": f"{ISSUER}/"}, {"jwks_uri": "http://id.example/k"}, {"token_endpoint": 7}])
def test_a_discovery_document_of_others_is_refused(lie: dict[str, object]) -> None:
    with pytest.raises(Refused):
        checked({**DOCUMENT, **lie}, ISSUER)


@pytest.mark.parametrize(
    ("address", "fine"),
    [
        ("https://id.example/realms/news", True), ("http://127.0.0.1:9000", True), ("http://[::1]/", True),
        ("http://localhost", True), ("http://id.example", False), ("http://127.0.0.1.evil.example", False),
        ("https://", False), ("ftp://127.0.0.1", False), ("http://[::1", False), (None, False), ("", False),
    ],
)  # fmt: skip
def test_only_https_and_loopback_are_safe(address: object, fine: bool) -> None:
    assert safe(address) is fine


def test_a_name_is_only_shown_and_never_somebody_elses() -> None:
    names = {Person(provider, subject, "ada").account for provider in ("p", "q") for subject in ("1", "2")}
    assert len(names) == 4
    hostile = Person("p", "1", "<b>\u202e ada\n" + "x" * 100).account
    assert hostile.startswith("sso:_b___ada_x")
    assert len(hostile) == len("sso:") + 40 + len("-") + 16
    assert name_of({"preferred_username": 7, "email": "", "name": "Ada"}) == "Ada"
