"""The site that is built from docs/ is whole, says everything, and needs no network."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


class Links(HTMLParser):
    """What a page of the site has and what it asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.ids |= {known["id"]} if "id" in known else set()
        if tag == "a":
            self.links.append(known.get("href", ""))
        elif tag in ("script", "img", "link", "source", "iframe"):
            self.loads += [known[name] for name in ("src", "href") if name in known]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` builds it: a warning is a mistake."""
    folder = tmp_path_factory.mktemp("site")
    recipe = (ROOT / "Makefile").read_text()
    (options,) = re.findall(r"-m sphinx (.*) docs build/docs", recipe)
    assert "-W" in options.split()
    words = [sys.executable, "-m", "sphinx", *options.split(), "-d", str(folder / "trees")]
    done = subprocess.run(
        [*words, "docs", str(folder / "html")],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "html"


def test_every_link_within_the_site_leads_somewhere_and_nothing_is_loaded_from_elsewhere(
    site: Path,
) -> None:
    pages = {path: Links(path.read_text()) for path in site.rglob("*.html")}
    assert {f"{page.stem}.html" for page in PAGES} <= {path.name for path in pages}
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            if re.match(r"[a-z]+:", link):
                assert link in page.links or link.startswith("data:"), (path.name, link)
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name.split("?")[0]).resolve() if name else path
            assert target.is_file(), (path.name, link)
            if anchor and target in pages:
                assert anchor in pages[target].ids, (path.name, link)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s)['\"]?(https?:)?//", sheet.read_text()), sheet


def test_the_site_has_every_key_of_the_spec(site: Path) -> None:
    text = re.sub(r"<[^>]+>", " ", (site / "spec.html").read_text())
    words = " ".join(html.unescape(text).split())
    schema = harness.schema()
    for part in (schema, *schema["$defs"].values()):
        for key, value in part["properties"].items():
            assert f" {key} " in words
            said = " ".join(value.get("description", "").split())
            assert re.sub(r"\W+", " ", said)[:40] in re.sub(r"\W+", " ", words), key


def test_the_functions_are_those_that_are_promised(site: Path) -> None:
    page = (ROOT / "docs/api.md").read_text()
    listed = re.findall(r"^\.\. (?:auto\w+|py:data):: harness\.(\w+)$", page, re.M)
    assert sorted(listed) == sorted(harness.__all__)
    ids = Links((site / "api.html").read_text()).ids
    assert {f"harness.{name}" for name in harness.__all__} <= ids


def test_the_architecture_has_every_package_in_the_order_in_which_they_may_import() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"^\| `(\w+)` \|", page, re.M)
    packages = {file.parent.name for file in (ROOT / "harness").glob("*/__init__.py")}
    assert sorted(named) == sorted(packages)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    assert named == [layer for layer in reversed(layers) if layer in packages]
