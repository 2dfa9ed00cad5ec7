"""What transformations and control flow refuse: each error names the user's line and expression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tests.failing_programs import FAILING, KEPT, X


def text_of(name: str) -> str:
    with pytest.raises((tg.TracegradError, TypeError, ValueError)) as caught:
        tg.trace(FAILING[name])(X)
    KEPT.clear()
    return f"{type(caught.value).__name__}: {caught.value}"


def test_texts(golden: Any) -> None:
    texts = [f"[{name}]\n{text_of(name)}\n" for name in FAILING]
    golden("errors_transformations.txt", "\n".join(texts))


@pytest.mark.parametrize("name", FAILING)
def test_the_line_is_named(name: str) -> None:
    text = text_of(name)
    lines = FAILING[name].__code__.co_firstlineno + np.arange(12)
    assert any(f"failing_programs.py:{line}," in text for line in lines) and "^^^" in text, text
