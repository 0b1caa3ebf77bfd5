"""From a MarianMT model to a translator that serving reads: graphs through optimum, tokenizer, parity, seal.

Needs the extra `[train]` with sentencepiece. A Marian model tokenises with one SentencePiece model per side and looks
the pieces up in a vocabulary of its own; so the source side becomes a `tokenizer.json`, and the vocabulary goes along.
"""

import importlib
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import move
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
import torch
from optimum.exporters.onnx import export_models
from optimum.exporters.onnx.model_configs import MarianOnnxConfig
from optimum.exporters.utils import get_encoder_decoder_models_for_export
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from crosswind.errors import ModelError
from crosswind.export import translator as files
from crosswind.export.atomic import publish, staging
from crosswind.export.bundle import TOKENIZER
from crosswind.export.graph import OPSET
from crosswind.models import written
from crosswind.stream.adapters.translation import Marian, longest_for

if TYPE_CHECKING:
    from transformers import MarianMTModel, MarianTokenizer

PROBES: Final = 24
AGREE: Final = 0.95
"""Share of probe texts whose greedy translation must be PyTorch's, letter for letter; near ties may fall either way."""
_UNIGRAM: Final = 1
_IN_TEXT: Final = (1, 4)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Request:
    """What is to be exported.

    Attributes:
        model: hub id or local folder; weights are read from safetensors only.
        revision: of a hub id, as in `refs/pr/8`, where its safetensors lie on a branch.
        prefix: see `TranslatorManifest.prefix`.
        probes: texts that parity is measured on; none: headlines of the written corpus.
    """

    model: str
    source: str
    target: str
    out: Path
    revision: str = "main"
    prefix: str = ""
    max_tokens: int = 128
    licence: str = "unknown"
    probes: Sequence[str] = ()


def export_translator(request: Request) -> files.TranslatorManifest:
    """Exports a model; the translator appears at `request.out` in one step, or nothing changes.

    Raises:
        ModelError: the model cannot be loaded or exported, or serving would not say what PyTorch says.
        BundleError: the place cannot be written.
    """
    model, tokenizer = load_marian(request.model, request.revision)
    _check_prefix(request, tokenizer)
    with staging(request.out) as folder:
        work, finished = folder / "work", folder / "translator"
        work.mkdir()
        finished.mkdir()
        write_graphs(model, work)
        for name, ours in zip(("encoder_model", "decoder_model", "decoder_with_past_model"), files.GRAPHS):
            move(work / f"{name}.onnx", finished / ours)
        convert_tokenizer(Path(tokenizer.spm_files[0])).save(str(finished / TOKENIZER))
        write_pieces(tokenizer, finished / files.PIECES)
        manifest = files.seal(finished, _manifest(request, model, tokenizer))
        check_parity(Marian(finished), model, tokenizer, list(request.probes) or probes(request.source))
        publish(finished, request.out)
    return manifest


def load_marian(name: str, revision: str = "main") -> "tuple[MarianMTModel, MarianTokenizer]":
    """Loads model and tokenizer.

    Raises:
        ModelError: they cannot be loaded, or are no Marian's.
    """
    from transformers import MarianMTModel, MarianTokenizer

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it recommends a normaliser that it then never calls
            tokenizer = MarianTokenizer.from_pretrained(name, revision=revision)
        model = MarianMTModel.from_pretrained(name, revision=revision, use_safetensors=True, dtype=torch.float32)
    except ImportError as error:
        raise ModelError(f"Marian's tokenizer needs sentencepiece: pip install 'crosswind[train]' ({error})") from None
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ModelError(
            f"{name!r} is no MarianMT model with safetensors: {str(error).splitlines()[0]}; where its hub page has "
            "them on a branch, name it with --revision"
        ) from error
    return model.eval(), tokenizer


def write_graphs(model: "MarianMTModel", folder: Path) -> None:
    """Writes encoder, first and later decoder through optimum.

    Raises:
        ModelError: the model does not go through the exporter.
    """
    logging.getLogger("optimum").setLevel(logging.ERROR)
    config = MarianOnnxConfig(model.config, task="text2text-generation", use_past=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's remarks on constants are about shapes that are fixed here
            export_models(get_encoder_decoder_models_for_export(model, config), folder, opset=OPSET)
    except Exception as error:  # torch, onnx and optimum share no base
        raise ModelError(f"the model does not go through the ONNX exporter: {str(error).splitlines()[0]}") from error


def convert_tokenizer(spm: Path) -> Tokenizer:
    """A SentencePiece model as a tokenizer that gives the same pieces. Its ids mean nothing; see `write_pieces`.

    Raises:
        ModelError: it is not a Unigram model, or falls back to bytes.
    """
    converter: Any = importlib.import_module("transformers.convert_slow_tokenizer")
    proto = converter.import_protobuf().ModelProto()
    proto.ParseFromString(spm.read_bytes())
    if proto.trainer_spec.model_type != _UNIGRAM or proto.trainer_spec.byte_fallback:
        raise ModelError(f"{spm.name}: only Unigram SentencePiece models without byte fallback can be served")
    # only ordinary and user-defined pieces are found in a text; `</s>` written in a headline is five letters
    pieces = [(p.piece if p.type in _IN_TEXT else f"\0{i}", p.score) for i, p in enumerate(proto.pieces)]
    tokenizer = Tokenizer(models.Unigram(pieces, proto.trainer_spec.unk_id, False))
    charsmap = proto.normalizer_spec.precompiled_charsmap
    tokenizer.normalizer = normalizers.Sequence([
        *([normalizers.Precompiled(charsmap)] if charsmap else []),
        normalizers.Strip(), normalizers.Replace(Regex(r"\s+"), " "),
    ])  # fmt: skip
    scheme = "always" if proto.normalizer_spec.add_dummy_prefix else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    return tokenizer


def write_pieces(tokenizer: "MarianTokenizer", path: Path) -> None:
    """Writes the model's ids: of the source's pieces, and the target's pieces in order.

    Raises:
        ModelError: the target's ids have gaps.
    """
    by_id: dict[int, str] = tokenizer.decoder
    if sorted(by_id) != list(range(len(by_id))):
        raise ModelError("the vocabulary's ids have gaps; vocab.json is damaged")
    content = {"source": tokenizer.encoder, "target": [by_id[i] for i in range(len(by_id))]}
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def probes(source: str) -> list[str]:
    """Headlines of the written corpus in a language, or of all its languages where it has none in that one."""
    langs = [source] if source in written.languages() else list(written.languages())
    texts = [[row.text for row in written.check_rows(lang)] for lang in langs]
    return [text for row in zip(*texts) for text in row][:PROBES]


def check_parity(served: Marian, model: "MarianMTModel", tokenizer: "MarianTokenizer", texts: Sequence[str]) -> None:
    """Compares tokens and greedy translations with transformers'.

    Raises:
        ModelError: the tokens of a text differ, or more translations than near ties explain.
    """
    prefix, untyped = served.manifest.prefix, cast(Any, tokenizer)
    same = 0
    for text in texts:
        given = tokenizer(f"{prefix}{' '.join(text.split())}", truncation=True, max_length=served.manifest.max_tokens,
                          return_tensors="pt")  # fmt: skip
        if given["input_ids"][0].tolist() != served.ids(text):
            raise ModelError("the converted tokenizer splits a text otherwise than sentencepiece does; this model "
                             "cannot be served")  # fmt: skip
        with torch.inference_mode():
            ids = model.generate(**given, num_beams=1, do_sample=False, max_length=served.manifest.max_tokens)[0]
        wanted = untyped.decode(ids, skip_special_tokens=True)
        # what has run away is cut by us, not by transformers: it says nothing about parity
        ran_away = len(ids) > longest_for(given["input_ids"][0])
        same += ran_away or " ".join(wanted.split()) == served.translate([text], beams=1)[0]
    _log.info("translations compared", same=same, texts=len(texts))
    if same < AGREE * len(texts):
        raise ModelError(f"only {same} of {len(texts)} translations are those of PyTorch; nothing was written")


def _check_prefix(request: Request, tokenizer: "MarianTokenizer") -> None:
    known = list(tokenizer.supported_language_codes)
    if request.prefix and request.prefix not in tokenizer.encoder:
        raise ModelError(f"--prefix {request.prefix!r} is not in the vocabulary; it has {', '.join(known) or 'none'}")
    if known and not request.prefix:
        raise ModelError(f"{request.model} translates to several languages: say which one with --prefix, one of "
                         f"{', '.join(known)}")  # fmt: skip


def _manifest(request: Request, model: "MarianMTModel", tokenizer: "MarianTokenizer") -> dict[str, Any]:
    generation, start = cast(Any, model.generation_config), cast(Any, model.config.decoder_start_token_id)
    return {
        "source": request.source, "target": request.target, "base": _name(request.model), "licence": request.licence,
        "prefix": request.prefix,
        "max_tokens": min(request.max_tokens, int(model.config.max_position_embeddings)),
        "pad": int(tokenizer.pad_token_id), "end": int(tokenizer.eos_token_id), "unknown": int(tokenizer.unk_token_id),
        "start": int(start), "beams": int(generation.num_beams or 1),
        "length_penalty": float(generation.length_penalty or 1.0),
    }  # fmt: skip


def _name(model: str) -> str:
    """A hub id as it is, a folder by its last part: no path of a machine goes into a manifest."""
    return Path(model).resolve().name if Path(model).exists() else model
