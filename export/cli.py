"""`crosswind export` and `crosswind bundle verify|show|diff`. Torch is imported only when something is exported."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from crosswind.errors import ModelError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
bundle_app = typer.Typer(no_args_is_help=True, help="Check, show and compare bundles.", rich_markup_mode=None)
app.add_typer(bundle_app, name="bundle")

Folder = Annotated[str, typer.Argument(help="a bundle's folder, or 'default' for the shipped one")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script")]

ONE_HEAD = (
    "Crosswind's worker, `score` and `evaluate` need both, topic and sentiment, and refuse it; "
    "`crosswind bundle verify|show|diff|sign` take it, and ONNX Runtime in a program of your own"
)


@app.command("export")
def export(
    model: Annotated[Path, typer.Argument(
        help="what `crosswind train` wrote, or a transformers sequence classifier, which makes a bundle of one head",
    )],
    out: Annotated[Path, typer.Option(help="the bundle's folder; a bundle that is there is replaced in one step")],
    precision: Annotated[Literal["fp32", "fp16", "int8"], typer.Option(help="fp32, fp16 (GPU) or int8")] = "int8",
    texts: Annotated[Path | None, typer.Option(
        help="JSON Lines with text, lang, topic, sentiment to measure on [default: the written corpus's test half]",
    )] = None,
    name: Annotated[str, typer.Option(help="the bundle's name [default: its folder's]")] = "",
    licence: Annotated[str, typer.Option(help="the weights' licence, as SPDX has it")] = "Apache-2.0",
    head: Annotated[str, typer.Option(help="what a foreign classifier's only head is called")] = "sentiment",
    strict: Annotated[bool, typer.Option(help="hold every language to the measured figure, however few texts")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Turn a trained model into a bundle: ONNX, int8 or fp32, with a parity report beside it.

    A gate that fails writes no bundle, names the language and the amount, and exits with status 4.

    Crosswind's worker, `score` and `evaluate` need both heads, topic and sentiment. A bundle of one head can be
    checked, compared, signed, and run by ONNX Runtime in a program of your own.
    """
    try:
        from crosswind.export import texts as sources
        from crosswind.export.build import Request, export_bundle, undecided
        from crosswind.export.bundle import read_manifest
    except ModuleNotFoundError as error:
        raise ModelError(f"export needs {error.name}: pip install 'crosswind[train]'") from None
    rows = sources.read_texts(texts) if texts else sources.written_test()
    smoke = [row.text for row in sources.written_test()][::3]
    report = export_bundle(
        Request(model, out, rows, sources.calibration(), smoke, precision, name, licence, head, strict)
    )
    heads = [made.name for made in read_manifest(out).heads]
    if lacking := [needed for needed in ("topic", "sentiment") if needed not in heads]:
        typer.echo(f"this bundle has no head {' and '.join(lacking)}: {ONE_HEAD}", err=as_json)
    if as_json:
        typer.echo(json.dumps(report.to_json(), ensure_ascii=False))
        return
    chosen = report.chosen
    typer.echo(f"{out}: {precision} {chosen.recipe}, version {report.version}, {chosen.size / 1e6:.1f} MB")
    typer.echo(f"parity report: {out.parent / out.name}.parity.html")
    for verdict in undecided(report):
        typer.echo(f"too few texts to tell from chance: {verdict}")


@bundle_app.command("verify")
def verify(
    folder: Folder = "default",
    key: Annotated[str | None, typer.Option(
        help="public key or its file; without its signature the bundle is refused [default: CROSSWIND_TRUSTED_KEY]",
    )] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Check a bundle: files, digests, graph, tokenizer, signature where a key is trusted, and that it still gives the
    answers it was sealed with."""
    from crosswind.export.bundle import resolve
    from crosswind.export.inspect import check
    from crosswind.settings import load_settings

    trusted = key or load_settings().trusted_key
    found = check(resolve(folder), trusted)
    signed = found.signature.key if found.signature else None
    if as_json:
        typer.echo(json.dumps({"ok": True, "version": found.version, "smoke": len(found.smoke), "signed_by": signed}))
        return
    by = f", signed by {signed}{'' if trusted else ' (no key is trusted, not checked)'}" if signed else ""
    typer.echo(f"{folder}: version {found.version}, {len(found.smoke)} smoke sentences answered as sealed{by}")


@bundle_app.command("keygen")
def keygen(key: Annotated[Path, typer.Argument(help="the private key's file; the public one is KEY.pub")]) -> None:
    """Make an Ed25519 key pair to sign bundles with. Prints the public key."""
    from crosswind.export.signing import keygen as make

    typer.echo(make(key))


@bundle_app.command("sign")
def sign(
    folder: Annotated[Path, typer.Argument(help="the bundle's folder")],
    key: Annotated[Path, typer.Option(help="the private key's file")],
) -> None:
    """Sign a bundle in place; its version stays what it is."""
    from crosswind.export.signing import sign as put

    signed = put(folder, key)
    typer.echo(f"{folder}: version {signed.version}, signed by {signed.signature.key if signed.signature else ''}")


@bundle_app.command("show")
def show(folder: Folder = "default", as_json: AsJson = False) -> None:
    """Print what a bundle says of itself."""
    from crosswind.export.bundle import resolve, verify
    from crosswind.export.inspect import describe

    described = describe(verify(resolve(folder)))
    if as_json:
        typer.echo(json.dumps(described, ensure_ascii=False))
        return
    for key, value in described.items():
        typer.echo(f"{key:12} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


@bundle_app.command("diff")
def diff(
    one: Folder,
    other: Folder,
    texts: Annotated[Path | None, typer.Option(help="JSON Lines with text and lang: compare the answers too")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what differs between two bundles: the manifests' fields, and with --texts the answers."""
    from crosswind.export import inspect
    from crosswind.export.bundle import resolve
    from crosswind.export.texts import read_texts

    found = inspect.diff(resolve(one), resolve(other), read_texts(texts) if texts else [])
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    if not found["fields"]:
        typer.echo("the manifests are the same")
    for key, (before, after) in found["fields"].items():
        typer.echo(f"{key}: {json.dumps(before, ensure_ascii=False)} -> {json.dumps(after, ensure_ascii=False)}")
    for row in found["answers"]:
        typer.echo(f"{row['lang']}, {row['head']}: {row['flips']} of {row['texts']} answers differ")
    for row in found["not_compared"]:
        before, after = (", ".join(row[side]) if row[side] else "no such head" for side in ("before", "after"))
        typer.echo(f"{row['head']}: not compared, the labels differ: {before} -> {after}")
