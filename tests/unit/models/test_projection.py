"""The output `meaning`: learned so that translations meet."""

import numpy as np

from crosswind.models.projection import Parallel, learn, retrieval


def test_directions_of_language_shrink_and_those_of_sentences_stay() -> None:
    rng = np.random.default_rng(0)
    sentences, langs = np.repeat(np.arange(200), 3), ["en", "de", "ja"] * 200
    content = rng.standard_normal((200, 24))[sentences] @ np.eye(24, 40)
    language = np.zeros((600, 40))
    language[:, 24:] = 6 * rng.standard_normal((600, 16))
    rows = content + language + 0.3 * rng.standard_normal((600, 40))
    parallel = Parallel([""] * 600, sentences, langs)
    matrix, offset = learn(rows, sentences, 24)
    assert min(retrieval(rows, parallel).values()) < 0.7
    assert min(retrieval(rows @ matrix + offset, parallel).values()) > 0.9
