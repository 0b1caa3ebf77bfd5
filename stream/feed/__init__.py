"""Feeds: where articles come from, and how they get to Kafka."""
