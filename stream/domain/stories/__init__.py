"""Stories: one event counted once, whoever tells it, in whatever language. Pure; see `clusters.py` for the entry."""
