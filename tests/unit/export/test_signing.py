"""Who made a bundle: signed by the trusted key, or refused."""

import json
import shutil
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crosswind.errors import BundleError, SettingsError
from crosswind.export.bundle import MANIFEST, verify
from crosswind.export.cli import app
from crosswind.export.registry import Registry, fetch
from crosswind.export.signing import keygen, sign
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from tests.integration.deployment.bundles import reseal


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def test_a_signed_bundle_is_trusted_and_keeps_its_version(bundle: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    public = keygen(tmp_path / "key")
    signed = sign(bundle, tmp_path / "key")
    assert signed.version == verify(tiny_bundle).version
    assert verify(bundle, public) == verify(bundle, str(tmp_path / "key.pub")) == signed
    assert OnnxScorer(bundle, trusted=public).version == signed.version
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_an_unsigned_bundle_is_refused_where_a_key_is_trusted(bundle: Path, tmp_path: Path) -> None:
    public = keygen(tmp_path / "key")
    with pytest.raises(BundleError, match="is not signed"):
        OnnxScorer(bundle, trusted=public)


def test_a_bundle_that_is_signed_later_is_kept_with_its_signature(bundle: Path, tmp_path: Path) -> None:
    public, registry = keygen(tmp_path / "key"), Registry(str(tmp_path / "models"))
    version = registry.add(bundle).version
    sign(bundle, tmp_path / "key")
    registry.add(bundle)
    assert fetch(registry.address(version), version, tmp_path / "cache", public)


def test_another_signer_is_refused(bundle: Path, tmp_path: Path) -> None:
    mine, theirs = keygen(tmp_path / "mine"), keygen(tmp_path / "theirs")
    sign(bundle, tmp_path / "theirs")
    with pytest.raises(BundleError, match="is signed by") as refused:
        verify(bundle, mine)
    assert theirs in str(refused.value)


def test_a_change_after_signing_is_found_even_when_it_is_sealed_again(bundle: Path, tmp_path: Path) -> None:
    public = keygen(tmp_path / "key")
    signature = json.loads((sign(bundle, tmp_path / "key"), (bundle / MANIFEST).read_text())[1])["signature"]
    reseal(bundle, lambda manifest: manifest.update(unsure_below=0.9))
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**manifest, "signature": signature}))
    with pytest.raises(BundleError, match="the signature does not fit"):
        verify(bundle, public)


def test_a_key_is_never_overwritten_and_no_other_file_is_taken_for_one(bundle: Path, tmp_path: Path) -> None:
    keygen(tmp_path / "key")
    with pytest.raises(SettingsError, match="will not be overwritten"):
        keygen(tmp_path / "key")
    with pytest.raises(SettingsError, match="no private key"):
        sign(bundle, tmp_path / "key.pub")
    with pytest.raises(SettingsError, match="CROSSWIND_TRUSTED_KEY"):
        verify(sign(bundle, tmp_path / "key") and bundle, "rubbish")


def test_a_public_key_is_never_overwritten_and_then_no_private_one_is_made(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text("what workers trust")
    with pytest.raises(SettingsError, match=r"key\.pub exists; it will not be overwritten"):
        keygen(tmp_path / "key")
    assert (tmp_path / "key.pub").read_text() == "what workers trust"
    assert not (tmp_path / "key").exists()


def test_the_commands_make_a_key_sign_and_verify(bundle: Path, tmp_path: Path) -> None:
    runner, key = CliRunner(), str(tmp_path / "key")
    assert runner.invoke(app, ["bundle", "keygen", key]).exit_code == 0
    refused = runner.invoke(app, ["bundle", "verify", str(bundle), "--key", f"{key}.pub"])
    assert isinstance(refused.exception, BundleError)
    assert runner.invoke(app, ["bundle", "sign", str(bundle), "--key", key]).exit_code == 0
    assert "signed by" in runner.invoke(app, ["bundle", "verify", str(bundle), "--key", f"{key}.pub"]).output
