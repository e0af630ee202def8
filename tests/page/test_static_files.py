"""The pages' files: their modules under node, their imports, and nothing that the Content-Security-Policy blocks."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.page.static_server import STATIC

TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))


def test_modules_pass_their_tests_under_node() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip("v").partition(".")[0]) < 20:
        pytest.skip(f"node is too old here: {version.strip()}")
    done = subprocess.run([node, "--test", *TESTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]


def own_files(*suffixes: str) -> list[Path]:
    """The files of the pages without the vendored ones, which stay as published."""
    vendor = STATIC / "vendor"
    return [path for path in STATIC.rglob("*") if path.suffix in suffixes and not path.is_relative_to(vendor)]


def test_pages_name_no_other_host_and_make_no_html_from_text() -> None:
    for path in own_files(".html", ".mjs", ".css"):
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")  # a namespace, not an address
        text = re.sub(r"https://[a-z.]+\.example\b|//i\.test", "", text)  # RFC 2606; the end of a regular expression
        assert not re.search(r"(https?:)?//\w+[.:]\w+", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text), path


def test_index_has_no_inline_script_or_style() -> None:
    html = (STATIC / "index.html").read_text("utf-8")
    assert "<style" not in html
    assert not re.search(r"\s(style|on\w+)=", html)
    assert html.count("<script") == html.count('<script type="module" src="')


@pytest.mark.parametrize("page", ["index", "live", "report", "docs", "open"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    html = (STATIC / f"{page}.html").read_text("utf-8")
    names = re.findall(r'(?:href|src)="static/([^"]+)"', html)
    assert len(names) >= 4
    assert all((STATIC / name).is_file() for name in names)


def imports(module: Path, pattern: str = r'(?:from |import |import\()"(\.[^"]+)"') -> set[Path]:
    """The modules that a module imports, also dynamically and as types."""
    names = re.findall(pattern, module.read_text("utf-8"), re.MULTILINE)
    return {(module.parent / name).resolve() for name in names}


def test_index_preloads_the_modules_that_it_imports() -> None:
    html = (STATIC / "index.html").read_text("utf-8")
    main = STATIC / "scripts" / "chat" / "main.mjs"
    found, unread = {main}, [main]
    while unread:
        new = imports(unread.pop(), r'^import (?:.* from )?"(\.[^"]+)"') - found
        found |= new
        unread += new
    preloaded = [STATIC / name for name in re.findall(r'rel="modulepreload" href="static/([^"]+)"', html)]
    assert preloaded == sorted(found - {main})


def test_first_load_of_the_chat_page_is_small() -> None:
    html = (STATIC / "index.html").read_text("utf-8")
    files = [STATIC / "index.html", *(STATIC / name for name in re.findall(r'(?:href|src)="static/([^"]+)"', html))]
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) < 120_000


def test_modules_import_only_those_of_their_own_page_and_shared_ones() -> None:
    scripts = STATIC / "scripts"
    for module in own_files(".mjs"):
        page = module.relative_to(scripts).parts[0]
        allowed = {scripts / page, scripts / "shared", STATIC / "vendor"}
        for imported in imports(module):
            assert imported.is_file(), f"{module}: {imported}"
            assert any(imported.is_relative_to(folder) for folder in allowed), f"{module}: {imported}"


def test_every_module_has_its_types_checked() -> None:
    assert [path for path in own_files(".mjs") if not path.read_text("utf-8").startswith("// @ts-check\n")] == []


@pytest.mark.parametrize("name", ["page", "chat", "live", "report"])
def test_every_class_of_a_style_sheet_is_used(name: str) -> None:
    css = re.sub(r"/\*.*?\*/|\{[^{}]*\}", "{}", (STATIC / "styles" / f"{name}.css").read_text("utf-8"), flags=re.DOTALL)
    computed = re.compile(r"hl-|to-|tone-|u-over$")  # names from a template, or of uPlot
    used = "\n".join(path.read_text("utf-8") for path in own_files(".html", ".mjs"))
    classes = {each for each in re.findall(r"\.([a-z][\w-]*)", css) if not computed.match(each)}
    assert [each for each in sorted(classes) if not re.search(rf"(?<![\w-]){each}(?![\w-])", used)] == []
