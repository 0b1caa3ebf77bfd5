"""The heads and the words of the tiny test model."""

from crosswind.models.network import Task

TASKS = (Task("topic", ("earnings", "deals")), Task("sentiment", ("positive", "neutral", "negative")))
WORDS = [
    "profit",
    "loss",
    "rises",
    "falls",
    "deal",
    "bank",
    "buys",
    "sells",
    "flat",
    "gains",
    "wins",
    "cuts",
    "über",
    "利益",
    "增长",
    "прибыль",
]
