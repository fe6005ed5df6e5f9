"""What the README says is so."""

from pathlib import Path

from common.settings import table

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_every_setting_stands_in_the_readme_as_it_is() -> None:
    assert table() in README
