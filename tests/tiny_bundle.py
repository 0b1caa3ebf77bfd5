"""A real but tiny bundle: an ONNX graph and a tokenizer that the tests make. It knows a few words of good and bad news.

For everything but the model's quality: the stream, the bundle's faults, the command line.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from crosswind.export.bundle import Manifest, seal

TOPICS = (
    "earnings", "deals", "capital", "credit", "macro", "rates", "policy", "legal", "markets", "commodities", "crypto",
    "business", "people", "incidents", "other",
)  # fmt: skip
SENTIMENTS = ("positive", "neutral", "negative")
WORDS = {
    "profit": ("earnings", None),
    "bank": ("credit", None),
    "oil": ("commodities", None),
    "rises": (None, "positive"),
    "falls": (None, "negative"),
    "fails": (None, "negative"),
}


def make_tiny_bundle(folder: Path) -> Manifest:
    """Writes the bundle into `folder` (made if missing)."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {"<unk>": 0, **{word: index for index, word in enumerate(WORDS, start=1)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    onnx.save(_graph(vocabulary), str(folder / "model.onnx"))
    return seal(folder, _manifest())


def _graph(vocabulary: dict[str, int]) -> onnx.ModelProto:
    topic = np.zeros((len(vocabulary), len(TOPICS)), np.float32)
    sentiment = np.zeros((len(vocabulary), len(SENTIMENTS)), np.float32)
    topic[0, TOPICS.index("other")] = 0.5
    sentiment[0, SENTIMENTS.index("neutral")] = 0.5
    for word, (its_topic, its_sentiment) in WORDS.items():
        if its_topic:
            topic[vocabulary[word], TOPICS.index(its_topic)] = 9.0
        if its_sentiment:
            sentiment[vocabulary[word], SENTIMENTS.index(its_sentiment)] = 9.0
    nodes = []
    for name in ("topic", "sentiment"):
        nodes.append(helper.make_node("Gather", [f"{name}_rows", "input_ids"], [f"{name}_tokens"]))
        nodes.append(helper.make_node("ReduceSum", [f"{name}_tokens", "axis"], [name], keepdims=0))
    nodes.append(helper.make_node("Cast", ["attention_mask"], ["embedding"], to=TensorProto.FLOAT))
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "length"])
           for n in ("input_ids", "attention_mask")]  # fmt: skip
    outputs = [
        helper.make_tensor_value_info("topic", TensorProto.FLOAT, ["batch", len(TOPICS)]),
        helper.make_tensor_value_info("sentiment", TensorProto.FLOAT, ["batch", len(SENTIMENTS)]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", "length"]),
    ]
    constants = [
        numpy_helper.from_array(topic, "topic_rows"),
        numpy_helper.from_array(sentiment, "sentiment_rows"),
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    graph = helper.make_graph(nodes, "tiny", ids, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _manifest() -> dict[str, object]:
    return {
        "name": "tiny",
        "base": "made by the tests",
        "languages": ["en"],
        "heads": [{"name": "topic", "labels": TOPICS}, {"name": "sentiment", "labels": SENTIMENTS}],
        "unsure_below": 0.4,
        "max_tokens": 64,
        "precision": "fp32",
        "opset": 17,
        "data": [],
        "licence": "Apache-2.0",
        "metrics": {},
        "smoke": [{"text": "profit falls", "topic": "earnings", "sentiment": "negative"}],
        "command": "tests/tiny_bundle.py",
    }
