from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a MarianMT model that translates twenty headlines from German to English."""
    pytest.importorskip("torch", reason="needs crosswind[train]")
    pytest.importorskip("sentencepiece", reason="needs crosswind[train]")
    from tests.integration.export.tiny_marian import make_tiny_marian

    return make_tiny_marian(tmp_path_factory.mktemp("marian") / "tiny")


@pytest.fixture(scope="session")
def translators(tiny_marian: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of translators with one pair, de-en."""
    from crosswind.export.translation import Request, export_translator

    folder = tmp_path_factory.mktemp("translators")
    export_translator(Request(str(tiny_marian), "de", "en", folder / "de-en", licence="Apache-2.0"))
    return folder
