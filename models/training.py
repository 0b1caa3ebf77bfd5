"""The training loop: masked multi-task loss, optional alignment on parallel text, resumable at any step."""

import json
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from crosswind.errors import ModelError
from crosswind.models import fingerprint, together
from crosswind.models.checkpoint import Checkpoint
from crosswind.models.dataset import Pair, batches, encode, epoch_order
from crosswind.models.distillation import Judgement, Teacher
from crosswind.models.encoder import layers_of
from crosswind.models.lessons import Lessons
from crosswind.models.metrics import macro_f1
from crosswind.models.network import IGNORE, Manifest, Network, masked_loss, save_model
from crosswind.models.rows import Row
from crosswind.models.tokens import Plan, Tokens, autocast, predict
from crosswind.models.trackers import NoTracker, Tracker

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)
KEPT: Final = ("step", "epoch", "position", "total", "best", "bad", "spent", "spent_all", "history")
"""Attributes of a trainer that its checkpoint carries."""


def freeze(network: Network, layers: int, embeddings: bool = True) -> None:
    """Stop the lowest `layers` layers from learning, and the embeddings below them.

    Args:
        embeddings: False lets them learn too.

    Raises:
        ModelError: the encoder has fewer layers, or its embeddings shall learn below layers that do not.
    """
    if layers and not embeddings:
        raise ModelError(f"--learn-embeddings with --freeze {layers}: what lies above must learn too; say --freeze 0")
    if layers > len(layers_of(network.encoder)):
        raise ModelError(f"--freeze {layers}: the encoder has {len(layers_of(network.encoder))} layers")
    for part in [*([network.encoder.embeddings] if embeddings else []), *layers_of(network.encoder)[:layers]]:
        part.requires_grad_(False)


class Trainer:
    """One run over labelled rows and parallel pairs; a seed gives the same weights, killed and resumed or not."""

    def __init__(
        self,
        network: Network,
        tokenizer: "PreTrainedTokenizerFast",
        train: Sequence[Row],
        validation: Sequence[Row],
        pairs: Sequence[Pair],
        plan: Plan,
        manifest: Manifest,
        tracker: Tracker | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        freeze(network, plan.freeze, not plan.learn_embeddings)
        # Of the whole data, not of this process's share: the processes share one checkpoint.
        self.origin = {
            "starting weights": fingerprint.of_weights(network), "tasks": fingerprint.of_items(network.tasks),
            "training rows": fingerprint.of_items(train), "validation rows": fingerprint.of_items(validation),
            "parallel pairs": fingerprint.of_items(pairs),
        }  # fmt: skip
        torch.manual_seed(plan.seed + together.rank())
        self.network, self.tokenizer, self.plan, self.manifest = network.to(plan.device), tokenizer, plan, manifest
        self.tracker, self.teacher = tracker or NoTracker(), teacher
        share = slice(together.rank(), None, together.world())
        self.train_rows, self.validation_rows, self.pairs = list(train)[share], list(validation), list(pairs)[share]
        self.data = self._tokens([r.text for r in self.train_rows], "training rows")
        self.check = self._tokens([r.text for r in validation], "validation rows")
        both = [text for pair in self.pairs for text in (pair.english, pair.foreign)]
        self.parallel = self._tokens(both, "parallel text") if pairs else None
        self.class_weights = balance(self.train_rows, network, plan)
        self.spent_all = False
        self.optimiser = self._optimiser()
        self.checkpoint = Checkpoint(plan.out, self.network, self.optimiser, self._settings())
        self.step, self.epoch, self.position, self.best, self.bad = 0, 0, 0, -1.0, 0
        self.total, self.spent, self._since = 0.0, 0.0, time.monotonic()
        self.history: list[dict[str, Any]] = []
        self.per_epoch = math.ceil(len(self._order(0)) / plan.batch)
        self.lessons = self._lessons(teacher) if teacher else None

    def run(self, on_step: Callable[["Trainer"], None] | None = None) -> list[dict[str, Any]]:
        """Train to the end, from the checkpoint where there is one.

        Args:
            on_step: called after each step; a test raises from it to kill the run.

        Returns:
            Per epoch: its number, the mean loss, the validation scores, the seconds it took.

        Raises:
            ModelError: the checkpoint in `plan.out` is of other settings, another base or other data.
        """
        self._resume()
        self._since = time.monotonic() - self.spent
        # Shares differ by a row, and so may their steps; who had more would wait for who has gone. After `_resume`: all
        # have read the checkpoint before one writes the next.
        self.per_epoch = together.fewest(self.per_epoch)
        while not together.as_first(self._finished()):
            started = time.monotonic()
            loss = self._epoch(on_step)
            if together.rank() == 0:
                scores = evaluate_rows(self.network, self.check, self.validation_rows, self.plan)
                self._close_epoch(loss, scores, time.monotonic() - started)
            else:
                self._next_epoch()
        return self.history

    def _finished(self) -> bool:
        if self.spent_all or self.epoch >= self.plan.epochs or self.bad >= self.plan.patience:
            return True
        # Only between epochs: an epoch that was begun is closed, with a model, however short the time.
        return bool(self.history) and self.position == 0 and self._progress() >= 1

    def _next_epoch(self) -> None:
        self.epoch, self.position, self.total = self.epoch + 1, 0, 0.0

    def _tokens(self, texts: Sequence[str], title: str) -> Tokens:
        ids = encode(self.tokenizer, texts, self.plan.max_tokens)
        return Tokens(ids, self.network, self.plan, title)

    def _lessons(self, teacher: Teacher) -> Lessons:
        seen = sorted({i for epoch in range(self.plan.epochs) for i in self._order(epoch)})
        rows, english = [row.text for row in self.train_rows], [pair.english for pair in self.pairs]
        return Lessons(teacher, self.network, self.plan, rows, seen, english)

    def _optimiser(self) -> torch.optim.AdamW:
        groups = []
        for module, rate in ((self.network.encoder, self.plan.rate), (self.network.heads, self.plan.head_rate)):
            named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
            groups.append({"params": [p for _, p in named if p.ndim > 1], "lr": rate, "top": rate,
                           "weight_decay": self.plan.decay})  # fmt: skip
            groups.append(
                {"params": [p for _, p in named if p.ndim <= 1], "lr": rate, "top": rate, "weight_decay": 0.0}
            )
        return torch.optim.AdamW([g for g in groups if g["params"]], fused=True)

    def _order(self, epoch: int) -> list[int]:
        caps = {name: cap // together.world() for name, cap in self.plan.caps.items()}
        return epoch_order(self.train_rows, caps, random.Random(f"{self.plan.seed}:{epoch}"))

    def _epoch(self, on_step: Callable[["Trainer"], None] | None) -> float:
        plan = self.plan
        rng = random.Random(f"{plan.seed}:{self.epoch}:batches")
        todo = list(batches(self._order(self.epoch), self.data.lengths, plan.batch, rng))[: self.per_epoch]
        saved = time.monotonic()
        self.network.train()
        bar = tqdm(todo[self.position :], desc=f"epoch {self.epoch + 1}", initial=self.position, total=len(todo),
                   mininterval=10)  # fmt: skip
        for count, chosen in enumerate(bar, 1):
            self.total += self._step(chosen)
            if count % 50 == 0:
                bar.set_postfix(loss=f"{self.total / self.position:.4f}")
            if on_step is not None:
                on_step(self)
            done = self._progress() >= 1
            if together.world() > 1:
                done = self.step % together.MEET_EVERY == 0 and together.meet(self.network.parameters(), done)
            if done:
                self.spent_all = True
                break
            if time.monotonic() - saved >= plan.checkpoint_seconds and together.rank() == 0:
                self._save_checkpoint()
                saved = time.monotonic()
        return self.total / max(1, self.position)

    def _step(self, chosen: list[int]) -> float:
        plan, network = self.plan, self.network
        for group in self.optimiser.param_groups:
            group["lr"] = group["top"] * self._pace()
        self.optimiser.zero_grad(set_to_none=True)
        rows = [self.train_rows[i] for i in chosen]
        weights = torch.tensor([r.weight for r in rows], device=plan.device)
        with autocast(plan):
            hidden, mask = self.data.batch(chosen)
            pools = network.pools_from(hidden, mask, plan.freeze, self._depths())
            logits = network.classify(pools[max(pools)])
        loss = masked_loss(logits, targets(rows, network, plan.device), weights, network.tasks, self.class_weights)
        if self.lessons is not None:
            loss = loss + self.lessons.loss(logits, pools, chosen, weights)
        torch.autograd.backward(loss)
        if self.parallel is not None and plan.align_every and self.step % plan.align_every == 0:
            torch.autograd.backward(self._align(self.parallel))
        nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], 1.0)
        self.optimiser.step()
        self.step += 1
        self.position += 1
        return float(loss.detach())

    def _align(self, parallel: Tokens) -> Tensor:
        """The foreign half of some pairs is pulled to the English half's vector and judgement, which stand still.

        They are the teacher's where there is one of the same width.
        """
        plan, network = self.plan, self.network
        rng = random.Random(f"{plan.seed}:{self.step}:pairs")
        chosen = rng.sample(range(len(self.pairs)), min(plan.align_batch, len(self.pairs)))
        english = self._english(parallel, chosen)
        with autocast(plan):
            hidden, mask = parallel.batch([2 * i + 1 for i in chosen])
            pools = network.pools_from(hidden, mask, plan.freeze, self._depths())
            given = network.classify(pools[max(pools)])
        distance = (1 - nn.functional.cosine_similarity(pools[max(pools)].float(), english.pooled.float())).mean()
        divergence = torch.stack([
            nn.functional.kl_div(
                given[t.name].float().log_softmax(-1), english.logits[t.name].float().softmax(-1), reduction="batchmean"
            )
            for t in network.tasks
        ]).sum()  # fmt: skip
        loss: Tensor = plan.align_vector * distance + plan.align_kl * divergence
        if self.lessons is not None:
            loss = loss + self.lessons.distance(pools, english, torch.ones(len(chosen), device=plan.device))
        return loss

    def _depths(self) -> Sequence[int]:
        return self.lessons.depths if self.lessons is not None else ()

    @torch.no_grad()
    def _english(self, parallel: Tokens, chosen: list[int]) -> Judgement:
        """What the English half of some pairs is judged to be."""
        if self.lessons is not None and self.lessons.english is not None:
            return self.lessons.english.of(chosen, self.plan.device)
        with autocast(self.plan):
            self.network.eval()
            goal = self.network.pool_from(*parallel.batch([2 * i for i in chosen]), self.plan.freeze)
            wanted = self.network.classify(goal)
            self.network.train()
        return Judgement(wanted, {len(layers_of(self.network.encoder)): goal})

    def _progress(self) -> float:
        """How much of the run lies behind, 0 to 1, by steps or, where a time is set, by the clock if that is ahead."""
        by_steps = self.step / max(1, self.per_epoch * self.plan.epochs)
        if not self.plan.minutes:
            return by_steps
        self.spent = time.monotonic() - self._since
        return max(by_steps, self.spent / (60 * self.plan.minutes))

    def _pace(self) -> float:
        """Linear warm-up, then a cosine down to a twentieth."""
        done = min(1.0, self._progress() + 1e-3)
        if done < self.plan.warm_up:
            return done / self.plan.warm_up
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (done - self.plan.warm_up) / (1 - self.plan.warm_up)))

    def _close_epoch(self, loss: float, scores: dict[str, Any], seconds: float) -> None:
        self._next_epoch()
        record = {"epoch": self.epoch, "loss": loss, "seconds": round(seconds, 1), **scores}
        self.history.append(record)
        log.info("epoch %d: %s", self.epoch, json.dumps(record))
        self.bad += 1
        if scores["score"] > self.best:
            self.best, self.bad = scores["score"], 0
            self.manifest.metrics = {"validation": record}
            save_model(self.plan.out, self.network, self.tokenizer, self.manifest)
        self._save_checkpoint()
        self.tracker.log(self.epoch, record)

    def _save_checkpoint(self) -> None:
        self.checkpoint.save({key: getattr(self, key) for key in KEPT})

    def _resume(self) -> None:
        for key, value in (self.checkpoint.resume() or {}).items():
            setattr(self, key, value)
        if self.step:
            log.info("resumed at epoch %d, step %d", self.epoch + 1, self.step)

    def _settings(self) -> dict[str, Any]:
        taught = {"teacher": self.teacher.settings()} if self.teacher else {}
        return _plan_json(self.plan) | taught | self.origin


def targets(rows: Sequence[Row], network: Network, device: str = "cpu") -> dict[str, Tensor]:
    """int64 [rows] per task: the label's position, `IGNORE` where unknown.

    Raises:
        ModelError: a label is not one of the task's.
    """
    found: dict[str, Tensor] = {}
    for task in network.tasks:
        place: dict[str | None, int] = {label: i for i, label in enumerate(task.labels)} | {None: IGNORE}
        try:
            found[task.name] = torch.tensor([place[r.label(task.name)] for r in rows], device=device)
        except KeyError as error:
            raise ModelError(f"task {task.name}: label {error} is not one of {task.labels}") from error
    return found


def balance(rows: Sequence[Row], network: Network, plan: Plan) -> dict[str, Tensor]:
    """Class weights per task: the inverse root of the frequency in an epoch, mean 1 over the rows."""
    order = epoch_order(rows, plan.caps, random.Random(plan.seed))
    weights: dict[str, Tensor] = {}
    for task in network.tasks:
        labels = [label for i in order if (label := rows[i].label(task.name)) is not None]
        counts = np.array([max(1, labels.count(name)) for name in task.labels], dtype=np.float64)
        raw = counts**-0.5
        weights[task.name] = torch.tensor(raw * counts.sum() / (raw * counts).sum(), dtype=torch.float32,
                                          device=plan.device)  # fmt: skip
    return weights


def evaluate_rows(network: Network, tokens: Tokens, rows: Sequence[Row], plan: Plan) -> dict[str, Any]:
    """Macro-F1 per task, source and language, and `score`: the mean over tasks of the mean over languages."""
    logits = predict(network, tokens, plan)
    scores: dict[str, Any] = {}
    means: list[float] = []
    for task in network.tasks:
        chosen = logits[task.name].argmax(1)
        known = [i for i, r in enumerate(rows) if r.label(task.name) is not None]
        for kind in ("lang", "source"):
            groups = sorted({getattr(rows[i], kind) for i in known})
            scores[f"{task.name}_by_{kind}"] = {
                g: round(macro_f1([task.labels.index(str(rows[i].label(task.name))) for i in known
                                   if getattr(rows[i], kind) == g],
                                  [int(chosen[i]) for i in known if getattr(rows[i], kind) == g]), 4)
                for g in groups
            }  # fmt: skip
        values = list(scores[f"{task.name}_by_lang"].values())
        if values:
            means.append(sum(values) / len(values))
    scores["score"] = round(sum(means) / max(1, len(means)), 4)
    return scores


def _plan_json(plan: Plan) -> dict[str, Any]:
    """What a checkpoint must agree on; where it lies and how often it is written may change."""
    return {k: v for k, v in asdict(plan).items() if k not in ("out", "checkpoint_seconds")}
