"""transformers' `pipeline()` over a MODEL_DIR of ours or any sequence classifier: both heads as one classifier."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def both_heads(folder: Path, batch: int) -> Callable[[list[str]], list[dict[str, Any]]]:
    """Texts to `topic`, `sentiment` and the probability `negative`; `batch` texts at once where there are more."""
    import logging

    import torch
    from transformers import AutoTokenizer, PreTrainedModel, TextClassificationPipeline
    from transformers.modeling_outputs import SequenceClassifierOutput

    from crosswind.export.sources import load_source

    logging.getLogger("transformers").setLevel(logging.CRITICAL)  # that a class of ours is not in its list
    source = load_source(folder)
    labels = [f"{head.name}/{label}" for head in source.heads for label in head.labels]

    class Both(PreTrainedModel):  # type: ignore[misc]
        config_class = type(source.module.config)
        _supports_sdpa = True

        def __init__(self) -> None:
            config = source.module.config
            config.num_labels, config.id2label = len(labels), dict(enumerate(labels))
            super().__init__(config)
            self.module = source.module

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> SequenceClassifierOutput:
            found = self.module(input_ids, attention_mask)
            return SequenceClassifierOutput(logits=torch.cat([found[head.name].softmax(1) for head in source.heads], 1))

    tokenizer = AutoTokenizer.from_pretrained(folder)
    pipe = TextClassificationPipeline(model=Both().eval(), tokenizer=tokenizer, device="cpu")
    calls = {"top_k": None, "function_to_apply": "none", "truncation": True, "max_length": source.max_tokens}

    def answer(texts: list[str]) -> list[dict[str, Any]]:
        rows = []
        for scored in pipe(texts, batch_size=min(batch, len(texts)), **calls):
            best: dict[str, Any] = {}
            for item in scored:  # the most probable first
                head, label = item["label"].split("/", 1)
                best.setdefault(head, label)
                if item["label"] == "sentiment/negative":
                    best["negative"] = item["score"]
            rows.append({"topic": "other", "negative": 0.0, **best})
        return rows

    return answer
