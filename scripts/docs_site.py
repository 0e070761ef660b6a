"""``make docs``: builds the documentation site into ``site/``, and fails if a link is broken."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

CHECKOUT = Path(__file__).resolve().parents[1]
#: Has the repository's layout, so that links between pages work both there and on the site.
PAGES = CHECKOUT / "build" / "pages"
SITE = CHECKOUT / "site"
SHOWN = (
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "docs",
    "example_dags",
)


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.add(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


def main() -> None:
    """Build the site and check it."""
    lay_out_pages()
    build()
    if problems := broken_links(SITE):
        sys.exit("\n".join([*problems, f"Broken links: {len(problems)}"]))
    print(f"{SITE.relative_to(CHECKOUT)}/index.html is built, without broken links.")


def lay_out_pages() -> None:
    """Copy the pages of the site: the generator follows no symlinked folders, and must not read the whole checkout."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    for name in SHOWN:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, PAGES / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, PAGES)


def build() -> None:
    """Run the generator; treat its warnings, and the docstring parser's, as errors."""
    shutil.rmtree(SITE, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=CHECKOUT,
        env={**os.environ, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode or re.search(r"^griffe: ", done.stdout, re.MULTILINE):
        sys.exit(re.sub(r"\x1b\[[\d;]*m", "", done.stdout))


def broken_links(site: Path) -> list[str]:
    """
    Find links to missing files and anchors, and pages that no other page links to.

    The generator checks links between pages, but not links to images and other files.

    :param site: The site's folder.
    """
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    # Served at any address, so its links start at the server's root.
    pages.pop(site / "404.html", None)
    problems, linked = [], {site / "index.html"}
    for path, page in pages.items():
        for link in sorted(page.links):
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if target.is_dir():
                target /= "index.html"
            if target != path:
                linked.add(target)
            if not target.is_relative_to(site) or not target.is_file():
                problems.append(f"{path.relative_to(site)}: {link}: no such file")
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].anchors:
                problems.append(f"{path.relative_to(site)}: {link}: no such anchor on that page")
    return problems + [
        f"{path.relative_to(site)}: no page links here" for path in pages if path not in linked
    ]


if __name__ == "__main__":
    main()
