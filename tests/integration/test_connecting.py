"""What a database's address says about the connection holds beside what we need of it."""

import pytest
from sqlalchemy import text

from crosswind.stream.adapters.postgres.engine import connect


def shown(url: str, *names: str, read_only: bool = False) -> list[str]:
    engine = connect(url, read_only=read_only)
    with engine.connect() as connection:
        found = [str(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in names]
    engine.dispose()
    return found


@pytest.mark.parametrize(
    "query", ["options=-csearch_path%3Dnews", "options=-c%20search_path%3Dnews&options=-c%20work_mem%3D5MB"]
)
def test_options_of_the_address_hold(query: str, database_url: str) -> None:
    found = shown(f"{database_url}&{query}", "search_path", "timezone", "work_mem")
    assert found == ["news", "UTC", "5MB" if "work_mem" in query else "4MB"]


def test_ours_are_not_undone(database_url: str) -> None:
    url = f"{database_url}&options=-c%20timezone%3DAsia/Tokyo%20-c%20default_transaction_read_only%3Doff"
    assert shown(url, "timezone", "default_transaction_read_only", read_only=True) == ["UTC", "on"]


def test_an_address_may_name_its_application(database_url: str) -> None:
    assert shown(database_url, "application_name") == ["crosswind"]
    assert shown(f"{database_url}&application_name=desk&connect_timeout=9", "application_name") == ["desk"]
