"""The bundled sample feed: invented news of 48 hours, with three crises, a decoy and a burst of good news."""

from pathlib import Path

FOLDER = Path(__file__).parent
NEWS = FOLDER / "news.jsonl.gz"
"""The feed: `news.raw` v1 as JSON Lines, in event-time order. Made by `generate.py`."""
TRUTH = FOLDER / "truth.json"
"""What is in it: each event's onset, end, topic and articles, and counts per language."""
