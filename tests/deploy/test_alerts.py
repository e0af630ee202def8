"""The alerts and the documents name metrics and labels that there are: a rule with a misspelt name never fires."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.model import Outcome
from tests.edge.app import hello, house
from tests.loopback import rate_limited

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
ALERTS = (ROOT / "deploy/alerts.yml").read_text("utf-8")
DOCUMENTS = "".join(path.read_text("utf-8") for path in [ROOT / "README.md", *ROOT.glob("deploy/docs/*.md")])
ROLES = {"llm_gateway_owner", "llm_gateway_app"}  # of Postgres, in install.md
OF_PROMETHEUS = {"instance", "le"}


async def labels_by_name(folder: Path, dsn: str) -> dict[str, set[str]]:
    """Of each series that a gateway with all its parts shows."""
    env: dict[str, Any] = {"ENABLE_SUBMISSIONS_API": "true", "SUBMISSIONS_API_URL": "http://127.0.0.1:9/submissions"}
    async with house(folder, dsn, **env) as it:
        await it.chat()
        it.upstream.script(rate_limited())
        await it.ask("/v1/chat/completions", hello())
        await it.ask("/nowhere")
        await it.ask("/chat", {"model": 7})
        text = (await it.ask("/metrics", by="eve/auditors")).body.decode()
    families = text_string_to_metric_families(text)
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def expressions() -> Iterator[str]:
    """The `expr` of each rule, also over several lines."""
    for rule in ALERTS.split("- alert:")[1:]:
        found = re.search(r"\n        expr: (.*?)\n        (?:for|labels):", rule, re.DOTALL)
        assert found is not None, rule
        yield found[1]


async def test_every_metric_and_label_that_is_named_exists(tmp_path: Path, database: str) -> None:
    known = await labels_by_name(tmp_path, database)
    rules = list(expressions())
    assert len(rules) == ALERTS.count("- alert:") > 5
    for rule in rules:
        named = set(re.findall(r"\bllm_gateway_\w+", rule))
        assert named, rule
        assert named <= known.keys(), rule
        grouped = re.findall(r"\bby \(([^)]*)\)", rule)
        labels = {label.strip() for group in grouped for label in group.split(",")}
        labels |= set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)\s*\"", rule))
        assert labels <= OF_PROMETHEUS.union(*(known[name] for name in named)), rule
    told = set(re.findall(r"\bllm_gateway_\w+", DOCUMENTS + ALERTS)) - ROLES
    assert len(told) > 10
    assert {name for name in told if name not in known and f"{name}_bucket" not in known} == set()


def test_every_outcome_that_a_rule_looks_for_is_one_of_ours() -> None:
    wanted = {word for told in re.findall(r'outcome(?:=~|!=)"([^"]*)"', ALERTS) for word in told.split("|")}
    assert {"none"} < wanted <= {"none", *Outcome}
