"""The benchmarks still run. How fast anything is, is judged by ``bin/bench`` alone."""

import math
from collections.abc import Iterator

import pytest

from bench.__main__ import BENCHMARKS
from bench.rig import Rig


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs_at_the_size_of_a_toy(rig: Rig, name: str) -> None:
    figures = BENCHMARKS[name](rig, toy=True)

    assert {figure.name.split()[0] for figure in figures} == {name}
    assert any(figure.target for figure in figures)
    for figure in figures:
        assert math.isfinite(figure.ours.value)
        assert figure.ours.value > 0
