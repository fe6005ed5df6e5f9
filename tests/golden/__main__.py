"""Writes every NAME.json from its NAME.xml."""

from tests import golden

for name in golden.NAMES:
    (golden.FOLDER / f"{name}.json").write_bytes(golden.read_now(name))
