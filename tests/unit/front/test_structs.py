"""Types that several threads meet at once."""

import subprocess
import sys

MEET = """
import sys, threading, msgspec
from crosswind.structs import known
sys.setswitchinterval(1e-6)
for _ in range(200):
    Part = msgspec.defstruct("Part", [("names", tuple[str, ...], ())], frozen=True, forbid_unknown_fields=True)
    Whole = known(msgspec.defstruct("Whole", [("parts", list[Part]), ("by", dict[str, Part])], frozen=True))
    together, failed = threading.Barrier(4), []

    def read():
        together.wait()
        found = msgspec.convert({"parts": [{"names": ["a"]}], "by": {"b": {}}}, Whole)
        if found.parts[0].names != ("a",):
            failed.append(found)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
"""


def test_threads_that_meet_a_known_type_at_once_read_it() -> None:
    """Without `known` this ends by a segmentation fault."""
    ended = subprocess.run([sys.executable, "-c", MEET], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
