"""Builds the documentation site: `python docs/site/build.py DIRECTORY`; `make docs` runs it with the tools it needs.

The pages are copied as they lie in the repository, with every file that they link to. Anything doubtful fails: a warning of the
generator, a link to a file or anchor that the site does not have, a page that no menu names, a public name without an entry.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import commands
import griffe

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("zensical.toml")
PAGES = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**/*.md"]
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def main(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    pages = collect(directory / "pages")
    generated = directory / "pages" / "docs" / "reference" / "command-line.md"
    generated.write_text(generated.read_text().replace(commands.MARK, commands.reference()))
    (directory / CONFIG.name).write_text(CONFIG.read_text().replace("{root}", str(ROOT)))
    build(directory)
    problems = [*missing_from_menu(pages), *broken_links(directory / "site"), *missing_names(directory / "site")]
    if problems:
        sys.exit("\n".join(problems))
    print(f"built {len(pages)} pages: {directory / 'site' / 'index.html'}")


def collect(target: Path) -> list[str]:
    """Copies the pages, and the files of the repository that they link to; returns the pages' names."""
    pages = sorted(path for pattern in PAGES for path in ROOT.glob(pattern))
    wanted = set(pages)
    for page in pages:
        linked = (page.parent / unquote(match) for match in LINK.findall(page.read_text()))
        wanted |= {path.resolve() for path in linked if path.is_file()}
    for path in wanted:
        copy = target / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return [str(path.relative_to(ROOT)) for path in pages]


def build(directory: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", CONFIG.name]
    run = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    output = run.stdout + run.stderr
    # Strict mode counts what the generator itself finds; its plugins only print what they found.
    if run.returncode or re.search(r"(?i)\b(warning|error|could not)\b", output):
        sys.exit(output)


def missing_from_menu(pages: list[str]) -> list[str]:
    menu = str(tomllib.loads(CONFIG.read_text())["project"]["nav"])
    return [f"{page} is in no menu" for page in pages if f"'{page}'" not in menu]


class Page(HTMLParser):
    """The links and anchors of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.titles: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        values = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        self.titles |= {values.get("title") or ""}
        self.links += [value for name in ("href", "src") if (value := values.get(name))]


def broken_links(site: Path) -> list[str]:
    found = {path: Page(path) for path in site.rglob("*.html")}
    return [
        f"{path.relative_to(site)}: {link} leads nowhere"
        for path, page in found.items()
        # The page for what is not found is shown at any address.
        if path.name != "404.html"
        for link in page.links
        if not is_there(found, path, link)
    ]


def is_there(found: dict[Path, Page], path: Path, link: str) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return False
    return not parts.fragment or target not in found or unquote(parts.fragment) in found[target].anchors


def missing_names(site: Path) -> list[str]:
    """Every name that users may import from the package, and every public member of its classes, has an entry."""
    pages = [Page(path) for path in (site / "docs" / "reference").rglob("*.html")]
    # Fields of dataclasses stand in tables: their full names are titles there.
    named = {name for page in pages for name in page.anchors | page.titles}
    return [f"{name} is not in the reference" for name, home in public_names() if not {name, home} & named]


def public_names() -> list[tuple[str, str]]:
    """Each name as users import it, and as its own module names it."""
    options = tomllib.loads(CONFIG.read_text())["project"]["plugins"]["mkdocstrings"]["handlers"]["python"]["options"]
    hidden = [re.compile(pattern.removeprefix("!")) for pattern in options["filters"]]
    package = griffe.load("nbws", search_paths=[ROOT / "python"])
    names = []
    for name in sorted(str(export) for export in package.exports or ()):
        if name.startswith("__"):
            continue
        home = package[name].canonical_path
        names.append((f"nbws.{name}", home))
        members = package[name].all_members if package[name].is_class else {}
        shown = [member for member in members if not any(hide.search(member) for hide in hidden)]
        names += [(f"nbws.{name}.{member}", f"{home}.{member}") for member in shown]
    return names


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
