"""The same job as people write it today, to measure against; each is one process of `bench/throughput.py`."""
