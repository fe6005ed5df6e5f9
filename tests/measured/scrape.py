"""/metrics as Prometheus reads it."""

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """One answer of /metrics; ``value`` finds the sample that has these labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self._samples = [s for f in self.families for s in f.samples]

    @property
    def names(self) -> set[str]:
        """What a query may ask for, also where there is no sample yet."""
        names = {s.name for s in self._samples}
        for family in self.families:
            match family.type:
                case "counter":
                    names.add(f"{family.name}_total")
                case "histogram":
                    names |= {f"{family.name}_{s}" for s in ("bucket", "sum", "count")}
                case _:
                    names.add(family.name)
        return names

    def all(self, name: str, **labels: str) -> list[Any]:
        return [
            s
            for s in self._samples
            if s.name == name and labels.items() <= s.labels.items()
        ]

    def value(self, name: str, **labels: str) -> float | None:
        """The sum over all samples with these labels, None if there is none."""
        found = self.all(name, **labels)
        return sum(s.value for s in found) if found else None


def scrape(api: httpx.Client) -> Scrape:
    answer = api.get("/metrics")
    assert answer.status_code == 200, answer.text
    return Scrape(answer.text)
