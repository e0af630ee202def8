"""The OpenAPI document has the operations that the router serves, no others, and its examples fit its schemas."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
import schemathesis
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from gateway import __version__
from gateway.edge.admin.audit import SOURCES
from gateway.edge.admin.reports import SUMS
from gateway.edge.http.app_keys import PAGE
from gateway.edge.ops import openapi
from gateway.edge.ops.openapi import document
from gateway.edge.ops.page import CONTENT_SECURITY_POLICY
from gateway.edge.routes import routes
from gateway.identity.one_time_link import COOKIE
from gateway.model import Outcome, PolicyOutcome
from gateway.resources import resource_folder
from gateway.store.audit import ANY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.model import Json

METHODS = frozenset(("get", "head", "post", "put", "patch", "delete", "options"))
STATIC = resource_folder("static")
VENDOR = STATIC / "vendor"


@pytest.fixture(scope="module")
def doc() -> Json:
    return document()


def application() -> web.Application:
    app = web.Application()
    app.add_routes(routes())
    return app


def operations(doc: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in doc["paths"].items():
        for method in item.keys() & METHODS:
            yield path, method, item[method]


def resolved(doc: Json, node: Json) -> Json:
    """What a `$ref` points at; a KeyError when it points at nothing."""
    while "$ref" in node:
        target: Any = doc
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def is_fitting(doc: Json, schema: Json, value: object) -> bool:
    """Whether a value is as a schema says, formats included."""
    root = {**schema, "components": doc["components"]}
    return jsonschema_rs.Draft202012Validator(root, validate_formats=True).is_valid(value)


# ── against the specification and the router ─────────────────────────────────────────────────────────────────────────


def test_document_is_openapi_3_1(doc: Json) -> None:
    assert doc["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(doc).validate()


def test_every_route_is_in_the_document(doc: Json) -> None:
    documented = {(path, method.upper()) for path, method, _ in operations(doc)}
    missing = []
    for route in application().router.routes():
        assert route.resource is not None
        path = route.resource.canonical
        # A GET answers HEAD as well; what passes any method on is in the document by those that are used.
        is_implied = route.method == "HEAD" or (route.method in ("OPTIONS", "*") and path == "/v1/{path}")
        if not is_implied and (path, route.method) not in documented:
            missing.append(f"{route.method} {path}")
    assert missing == []


async def test_every_operation_of_the_document_is_served(doc: Json) -> None:
    router = application().router
    for path, method, _ in operations(doc):
        address = re.sub(r"\{\w+\}", "x", path)
        match = await router.resolve(make_mocked_request(method.upper(), address))
        assert match.http_exception is None, f"{method} {path}"


def test_a_route_that_nobody_wrote_down_is_noticed(doc: Json) -> None:
    smaller = {**doc, "paths": {path: item for path, item in doc["paths"].items() if path != "/chat"}}
    with pytest.raises(AssertionError, match="POST /chat"):
        test_every_route_is_in_the_document(smaller)


async def test_an_operation_that_nobody_serves_is_noticed(doc: Json) -> None:
    larger = {**doc, "paths": {**doc["paths"], "/nowhere/{id}": {"get": {}}}}
    with pytest.raises(AssertionError, match="get /nowhere"):
        await test_every_operation_of_the_document_is_served(larger)


# ── in itself ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_operation_says_what_a_reader_needs(doc: Json) -> None:
    names = [operation["operationId"] for _, _, operation in operations(doc)]
    assert len(names) == len(set(names))
    tags = {tag["name"] for tag in doc["tags"]}
    for path, method, operation in operations(doc):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert set(operation["tags"]) <= tags, where
        answers = operation["responses"]
        assert any(status.startswith(("2", "3")) for status in answers), where
        assert "503" in answers, where
        assert ("401" in answers) == (operation.get("security") != []), where
        assert ("requestBody" in operation) <= (method in {"post", "put", "patch"}), where
        given = [*doc["paths"][path].get("parameters", ()), *operation.get("parameters", ())]
        in_path = {each["name"] for each in (resolved(doc, each) for each in given) if each["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path)), where


def test_every_reference_leads_somewhere_and_no_component_is_left_over(doc: Json) -> None:
    used = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                resolved(doc, node)
                used.add(node["$ref"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(doc)
    kinds = ("schemas", "responses", "parameters", "requestBodies", "headers")
    there = {f"#/components/{kind}/{name}" for kind in kinds for name in doc["components"][kind]}
    assert there == used


def repeated_keys(node: Any) -> list[str]:
    """Where a mapping of a YAML tree has a key twice; PyYAML would keep the last."""
    found: list[str] = []
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        found += [f"{key}{node.start_mark}" for key in keys if keys.count(key) > 1]
        return found + [each for _, value in node.value for each in repeated_keys(value)]
    if isinstance(node, yaml.SequenceNode):
        return [each for value in node.value for each in repeated_keys(value)]
    return found


def test_no_key_of_the_file_occurs_twice() -> None:
    text = Path(openapi.__file__).with_name("openapi.yaml").read_text("utf-8")
    assert repeated_keys(yaml.compose(text)) == []
    assert repeated_keys(yaml.compose("a: [{b: 1, b: 2}]")) != []


def test_values_that_the_code_defines_are_the_same_in_the_document(doc: Json) -> None:
    schemas = doc["components"]["schemas"]
    assert doc["info"]["version"] == __version__
    assert doc["components"]["securitySchemes"]["session"]["name"] == COOKIE
    assert schemas["Outcome"]["enum"] == list(Outcome)
    assert schemas["KeptChat"]["properties"]["outcome"]["enum"] == [*Outcome, None]
    assert schemas["PolicyOutcome"]["enum"] == list(PolicyOutcome)
    assert schemas["NullablePolicyOutcome"]["enum"] == [*PolicyOutcome, None]
    assert schemas["PolicyFilter"]["enum"] == [*PolicyOutcome, ANY]
    assert schemas["Source"]["enum"] == list(SOURCES)
    assert schemas["Sums"]["required"][: len(SUMS)] == list(SUMS)


def test_every_example_is_as_its_schema_says(doc: Json) -> None:
    seen = 0
    for path, method, operation in operations(doc):
        bodies = [resolved(doc, answer) for answer in operation["responses"].values()]
        for body in (*bodies, resolved(doc, operation.get("requestBody", {}))):
            for kind, media in body.get("content", {}).items():
                if kind != "application/json" or "schema" not in media:
                    continue
                examples = [each["value"] for each in media.get("examples", {}).values()]
                examples += [media["example"]] if "example" in media else []
                assert examples, f"{method} {path} shows no example"
                for example in examples:
                    assert is_fitting(doc, media["schema"], example), f"{method} {path}: {example}"
                    seen += 1
    assert seen > 20


def test_every_json_body_and_answer_has_a_schema_that_can_fail(doc: Json) -> None:
    for name, schema in doc["components"]["schemas"].items():
        assert not all(is_fitting(doc, schema, each) for each in (7, "seven")), f"{name} takes anything"


# ── as it is served ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_document_and_its_page_are_served_under_the_strict_policy(doc: Json) -> None:
    app = application()
    app[PAGE] = STATIC
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/openapi.json")
        assert await answer.json() == doc
        page = await client.get("/docs")
        assert page.content_type == "text/html"
        assert page.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert "unsafe" not in CONTENT_SECURITY_POLICY
        named = re.findall(r'(?:href|src)="([^"]+)"', await page.text())
        assert len(named) == 6
        for address in named:
            assert (await client.get(f"/{address}")).status == 200, address


def test_page_of_the_document_carries_no_script_and_no_style_inline() -> None:
    html = (STATIC / "docs.html").read_text("utf-8")
    assert "<style" not in html
    assert not re.search(r"\s(style|on\w+)=", html)
    assert html.count("<script") == len(re.findall(r"<script [^>]*src=", html))


# ── what is not ours ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_vendored_files_are_those_of_the_manifest() -> None:
    manifest = (VENDOR / "VENDOR.md").read_text("utf-8")
    named = dict(re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", manifest, re.MULTILINE))
    there = {
        str(path.relative_to(VENDOR)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name != "VENDOR.md"
    }
    assert there == named


def test_every_vendored_package_comes_with_version_and_licence() -> None:
    manifest = (VENDOR / "VENDOR.md").read_text("utf-8")
    for folder in VENDOR.iterdir():
        if folder.is_dir():
            part = manifest.partition(f"\n## {folder.name}\n")[2].partition("\n## ")[0]
            assert re.search(r"^- Package: .* \d+\.\d+\.\d+ ", part, re.MULTILINE), folder.name
            assert re.search(r"^- Licence: \S+", part, re.MULTILINE), folder.name
            assert (folder / "LICENSE").is_file(), folder.name
