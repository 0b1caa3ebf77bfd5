"""Replay and backtest, for notebooks: alerts, figures and alarms come back as polars frames.

from crosswind.stream.replay import backtest, replay

alerts = replay("feed/*.jsonl.gz", rules="my-rules.yaml")
result = backtest("my-rules.yaml", feed="feed/*.jsonl.gz", truth="events.csv")
result.figures, result.alarms, result.write("report")
"""

from crosswind.stream.replay.notebook import Result, alerts_frame, backtest, preview, replay

__all__ = ["Result", "alerts_frame", "backtest", "preview", "replay"]
