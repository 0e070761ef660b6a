"""``make docs`` finds links that lead nowhere in the site that it built."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs_site import broken_links


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of two pages that link to each other, with an image."""
    (tmp_path / "guide").mkdir()
    (tmp_path / "image.png").touch()
    (tmp_path / "index.html").write_text('<h1 id="top"></h1><a href="guide/#begin"></a><img src="image.png">')
    (tmp_path / "guide" / "index.html").write_text(
        '<h2 id="begin"></h2><a href="../#top"></a><a href="#begin"></a><a href="https://example.com/nowhere"></a>'
    )
    return tmp_path


def test_a_site_without_broken_links(site: Path) -> None:
    assert broken_links(site) == []


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<a href="../nowhere/"></a>', "../nowhere/: no such file"),
        ('<img src="nowhere.png">', "nowhere.png: no such file"),
        ('<a href="/image.png"></a>', "/image.png: no such file"),
        ('<a href="../../outside.html"></a>', "../../outside.html: no such file"),
        ('<a href="../#nowhere"></a>', "../#nowhere: no such anchor on that page"),
        ('<a href="#nowhere"></a>', "#nowhere: no such anchor on that page"),
    ],
)
def test_a_broken_link(site: Path, html: str, problem: str) -> None:
    page = site / "guide" / "index.html"
    page.write_text(page.read_text() + html)
    assert broken_links(site) == [f"guide/index.html: {problem}"]


def test_a_page_that_no_other_links_to(site: Path) -> None:
    (site / "lonely.html").write_text('<a href="lonely.html"></a>')
    assert broken_links(site) == ["lonely.html: no page links here"]
