"""The README's Python blocks run, and print what the README says they print."""

from pathlib import Path

from tests.markdown_blocks import blocks, check, refresh

README = Path(__file__).parents[1] / "README.md"


def test_readme_blocks_print_what_they_show(request):
    if request.config.getoption("--update-golden"):
        refresh(README)
    assert check(README) >= 4


def test_first_code_block_stands_on_the_first_screen():
    assert blocks(README.read_text("utf-8"))[0].line <= 15


def test_the_set_up_commands_are_there():
    text = README.read_text("utf-8")
    assert "pip install '.[examples]' && python examples/digits.py" in text
    assert "pip install '.[test]' && pytest" in text


def test_a_wrong_output_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n<!-- output -->\n```text\n3\n```\n")
    try:
        check(page)
    except AssertionError as error:
        assert "but the block prints\n2" in str(error)
    else:
        raise RuntimeError("a wrong output went unnoticed")
