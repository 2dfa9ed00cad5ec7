"""Every example runs, quickly, and its own assertion about its result holds."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
OPTIONS = {
    "bundle_adjustment.py": ["{tmp}/bundle.png"],
    "digits.py": ["--epochs", "12", "--out", "{tmp}/digits.png"],
}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_example(path, tmp_path, monkeypatch):
    given = [option.format(tmp=tmp_path) for option in OPTIONS.get(path.name, [])]
    monkeypatch.setattr(sys, "argv", [str(path), *given])
    monkeypatch.chdir(tmp_path)
    assert "assert " in path.read_text("utf-8"), f"{path.name} asserts nothing about its result"
    runpy.run_path(str(path), run_name="__main__")


def test_digits_draws_its_picture(tmp_path, monkeypatch):
    picture = tmp_path / "found.png"
    given = ["digits.py", "--epochs", "12", "--seed", "1", "--out", str(picture)]
    monkeypatch.setattr(sys, "argv", given)
    runpy.run_path(str(EXAMPLES / "digits.py"), run_name="__main__")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_every_example_is_in_the_table():
    table = (EXAMPLES / "README.md").read_text("utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert path.name in table, f"{path.name} is missing in examples/README.md"
