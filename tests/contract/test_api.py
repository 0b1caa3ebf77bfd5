"""The API is what its OpenAPI document says, whatever it is asked: by Schemathesis, the same questions each time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import Engine

from crosswind.stream.adapters.postgres.accounts import Accounts, Role
from tests.newsroom import fill
from tests.served import served

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
          response_schema_conformance]  # fmt: skip
ENDLESS = {"/api/v1/alerts/stream", "/api/v1/subscriptions/{subscription_id}/stream"}
"""What a valid question opens here never ends: only how it begins is looked at."""
asking = settings(
    derandomize=True, database=None, deadline=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
"""No examples are looked for again or made smaller: a failure here says what was asked, as it was asked."""

Check = Callable[[Case, requests.Session], int]


def conforms(case: Case, session: requests.Session) -> int:
    if case.path == "/api/v1/backtests" and case.method == "POST" and isinstance(case.body, dict):
        case.body["truth"] = "no truth"  # what is valid starts a process
    return case.call_and_validate(session=session, checks=CHECKS, timeout=30).status_code


def ask(
    operation: APIOperation, mode: GenerationMode, count: int, check: Check, session: requests.Session, seen: set[int]
) -> str:
    """What is wrong with an operation; the statuses that it answered go into `seen`."""

    @settings(asking, max_examples=count)
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Case) -> None:
        seen.add(check(case, session))

    try:
        run()
    except BaseExceptionGroup as failures:
        return f"{operation.label}: {failures.exceptions[0]}"
    except AssertionError as failure:
        return f"{operation.label}: {failure}"
    except Unsatisfiable:  # it takes nothing that could be wrong
        pass
    return ""


def operations(at: str, session: requests.Session) -> Iterator[APIOperation]:
    found = schemathesis.openapi.from_url(f"{at}/openapi.json", headers=dict(session.headers), cookies=session.cookies)
    yield from (result.ok() for result in found.get_all_operations())


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


@pytest.fixture
def at(database_url: str, engine: Engine, tmp_path: Path) -> Iterator[str]:
    fill(engine, 200)
    with served(database_url, data_dir=tmp_path) as address:
        yield address


@pytest.mark.parametrize(
    ("mode", "some"),
    [(GenerationMode.POSITIVE, {200, 201, 400, 404}), (GenerationMode.NEGATIVE, {200, 404, 422})],
    ids=["positive", "negative"],
)
def test_answers_are_as_they_are_described(
    at: str, session: requests.Session, mode: GenerationMode, some: set[int]
) -> None:
    seen: set[int] = set()
    asked = [one for one in operations(at, session) if one.path not in ENDLESS]
    assert len(asked) > 30
    wrong = [ask(operation, mode, 10, conforms, session, seen) for operation in asked]
    assert not [one for one in wrong if one], "\n\n".join(filter(None, wrong))
    assert some <= seen


def opens(case: Case, session: requests.Session) -> int:
    """A stream never ends: its status, its kind and its first line are read, then the line is cut."""
    with session.request(**case.as_transport_kwargs(), stream=True, timeout=30) as answer:
        documented = case.operation.definition.raw["responses"]
        assert str(answer.status_code) in documented, f"{case.operation.label}: {answer.status_code}"
        kind = answer.headers["content-type"].split(";")[0]
        assert kind in documented[str(answer.status_code)].get("content", {}), f"{case.operation.label}: {kind}"
        if answer.status_code == 200:
            assert next(answer.iter_lines()) == b": connected"
        return answer.status_code


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["positive", "negative"])
def test_streams_open_as_they_are_described(at: str, session: requests.Session, mode: GenerationMode) -> None:
    seen: set[int] = set()
    asked = [one for one in operations(at, session) if one.path in ENDLESS]
    assert len(asked) == len(ENDLESS)
    wrong = [ask(operation, mode, 10, opens, session, seen) for operation in asked]
    assert not [one for one in wrong if one], "\n\n".join(filter(None, wrong))
    assert seen >= ({200, 401} if mode is GenerationMode.POSITIVE else {422})


def turned_away(case: Case, session: requests.Session) -> int:
    answer = case.call(session=session, timeout=30)
    case.validate_response(answer, checks=CHECKS)
    assert answer.status_code in (401, 403, 404, 422), answer.status_code
    return answer.status_code


def test_nobody_is_told_anything_without_a_login(
    database_url: str, engine: Engine, tmp_path: Path, session: requests.Session
) -> None:
    Accounts(engine).add("viewer", "correct horse battery", Role.VIEWER)
    fill(engine, 100)
    with served(database_url, auth="local", data_dir=tmp_path) as address:
        form = {"name": "viewer", "password": "correct horse battery"}
        session.post(f"{address}/login", form, headers={"Origin": address}, allow_redirects=False)
        every = list(operations(address, session))
        session.cookies.clear()
        seen: set[int] = set()
        wrong = [ask(operation, GenerationMode.POSITIVE, 3, turned_away, session, seen) for operation in every]
    assert not [one for one in wrong if one], "\n\n".join(filter(None, wrong))
