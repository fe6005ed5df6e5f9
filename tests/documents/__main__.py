"""``python -m tests.documents`` records the examples of the documents anew."""

import sys

import pytest

sys.exit(pytest.main(["tests/documents/test_examples.py", "--record"]))
