"""Every Python block of the documentation runs and prints what the page shows.

`pytest --update-golden` on this file and test_readme.py writes what they print into the pages.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.markdown_blocks import check, refresh
from tracegrad.ops import op

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


@pytest.fixture
def own_registry():
    """What a page registers is gone after it."""
    tables = (op.REGISTRY, op.PUBLIC, op.NUMPY)
    before = [dict(table) for table in tables]
    samples = len(op.SAMPLES)
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)
    del op.SAMPLES[samples:]


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page, request):
    refresh(page) if request.config.getoption("--update-golden") else check(page)


def test_the_table_of_operations_is_up_to_date(request):
    """`python docs/make_ops.py` computes docs/ops.md from the registry."""
    made = subprocess.run(
        [sys.executable, str(DOCS / "make_ops.py"), "--print"],
        capture_output=True,
        text=True,
        check=True,
        cwd=DOCS.parent,
    ).stdout
    if request.config.getoption("--update-golden"):
        (DOCS / "ops.md").write_text(made, "utf-8")
    assert made == (DOCS / "ops.md").read_text("utf-8"), "run: python docs/make_ops.py"


def test_the_menu_lists_every_page():
    menu = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    for page in PAGES:
        assert page.name in menu, f"{page.name} is missing in mkdocs.yml"
