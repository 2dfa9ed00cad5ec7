"""Golden files: texts that are compared whole. `pytest --update-golden` writes them anew.

Drawn programs: `pytest tests/test_nesting.py --seeds 20` tries twenty times as many.

Garbage is collected between tests, and what has survived once is not looked at again: a sixth of
the time of the suite went into walks over all that compilations leave behind.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
YOUNG = 1_000_000
"""So many new objects (some 100 MB) are worth a collection."""


def pytest_runtest_logstart() -> None:
    if gc.get_count()[0] > YOUNG:
        gc.collect()
        gc.freeze()
    gc.disable()  # a test may have enabled it


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")
    parser.addoption(
        "--seeds", type=int, default=1, help="run tests of drawn programs with so many seeds"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `seed` draws its programs by it; there are `--seeds` of them."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "seed" in metafunc.fixturenames and not any("seed" in mark.args[0] for mark in marks):
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds")))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("loss_forward.txt", text)` compares a text with the file of that name."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        wanted = path.read_text(encoding="utf-8") if path.exists() else ""
        assert text.rstrip("\n") + "\n" == wanted, f"{name}: not as in tests/golden"

    return compare
