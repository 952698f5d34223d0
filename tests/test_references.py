"""What code, tests and documents say of a document is there: the file, its section, its heading.

A reference names a Markdown file, from the citing file's folder or one above it, or by the end of a path that
only one file has. Behind it may stand what of it is meant:

    RULES.md 2.1    RULES.md 2, steps 1, 3 and 5, and 2.3    RULES.md 2.1, rule 4    RULES.md 7, example 13
    RULES.md section 4, Assign    RULES.md 4 (Assign, Periods)    CONTRACTS.md "CDR"    CONTRACTS.md, Events

A decision is named by its number: decision 0025.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "src" / "rater" / "decisions"
CITING = (".py", ".lua", ".yaml", ".yml", ".toml", ".md", ".acl", ".sh")
PLACES = ("src", "tests", "benchmarks", "config", "findings", "deploy", ".github", ".ci")

FILE = re.compile(r"(?P<file>(?:/|\.\./|\./)?(?:[\w.-]+/)*[\w-][\w.-]*\.md)\b(?![\w/])")
NUMBER = re.compile(r"(?:,? and |, | to |; | )?(?:sections? )?(?P<number>\d+(?:\.\d+)*)(?![\w%])")
ITEMS = re.compile(
    r",? (?P<kind>step|rule|example)s? (?P<items>\d+(?!\.?\d)(?:(?:, and |, | and | to )\d+(?!\.?\d))*)"
)
NAME = re.compile(r'(?:,? and |, | \(| )(?:(?P<capital>[A-Z][^,;:.()"]*)|\(?"(?P<quoted>[^"]+)")')
DECISION = re.compile(r"\b[Dd]ecisions? (?P<numbers>\d{4}(?:(?:, | and )\d{4})*)\b")
LINK = re.compile(r"\[[^\]\n]*(?:\n[^\]\n]*)?\]\((?P<target>[^)\s]+)\)")


def citing(root: Path) -> list[Path]:
    """Return the files whose references are followed; not this one, whose examples are none."""
    found = [path for place in PLACES for path in sorted((root / place).rglob("*"))]
    found += sorted(root.glob("*"))
    return [
        path
        for path in found
        if path.is_file()
        and (path.suffix in CITING or path.name == "Makefile")
        and path.name != Path(__file__).name
    ]


class Document:
    """The headings of a Markdown file, and what stands below each."""

    def __init__(self, text: str) -> None:
        """Read its headings; those in code blocks are none."""
        self.anchors: set[str] = set()
        self._below: list[tuple[str, str, list[str]]] = []
        levels: list[tuple[int, tuple[str, str, list[str]]]] = []
        fenced = False
        for line in text.splitlines():
            fenced ^= line.startswith("```")
            heading = None if fenced else re.fullmatch(r"(#+) ((?:(\d+(?:\.\d+)*)\.? )?(.+))", line)
            if heading is None:
                for _, (_, _, lines) in levels:
                    lines.append(line)
                continue
            level, whole, number, name = len(heading[1]), heading[2], heading[3] or "", heading[4]
            self.anchors.add(anchor(whole))
            levels = [one for one in levels if one[0] < level]
            for _, (_, _, lines) in levels:
                lines.append(line)
            levels.append((level, (number, name, [])))
            self._below.append(levels[-1][1])

    def section(self, number: str) -> list[str] | None:
        """Return the lines below the heading of that number, sub-headings included; None: there is none."""
        return next((lines for found, _, lines in self._below if found == number), None)

    def named(self, text: str, within: list[str] | None, *, whole: bool) -> str | None:
        """Return the longest heading that the text begins with (or is, if `whole`); None: there is none."""
        names = [name for _, name, _ in self._below]
        if within is not None:
            inside = Document("\n".join(within))
            names = [name for _, name, _ in inside._below]
        fits = [
            name
            for name in names
            if (text == name if whole else re.match(re.escape(name) + r"(?!\w)", text) is not None)
        ]
        return max(fits, key=len, default=None)


def anchor(heading: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


@lru_cache(maxsize=512)
def document(path: Path) -> Document:
    """Return a file's headings."""
    return Document(path.read_text(encoding="utf-8"))


def folded(text: str) -> str:
    """Return the text in one line: a reference may go on in the next line of a comment."""
    return re.sub(r"\s*\n[ \t]*(?:#(?= |$)|--(?= ))?[ \t]*", " ", text)


def resolve(name: str, path: Path, root: Path) -> Path | None:
    """Return the file that is meant; None: there is none, or it lies outside of the repository."""
    if name.startswith("/"):
        return None
    folders = [path.parent] if name.startswith(".") else [path.parent, *path.parent.parents]
    for folder in folders:
        if not folder.is_relative_to(root):
            break
        found = (folder / name).resolve()
        if found.is_file() and found.is_relative_to(root):
            return found
    ends = [one for one in markdown(root) if one.as_posix().endswith("/" + name)]
    return ends[0] if len(ends) == 1 else None


@lru_cache(maxsize=8)
def markdown(root: Path) -> tuple[Path, ...]:
    """Return all Markdown files that may be meant."""
    return tuple(path for path in citing(root) if path.suffix == ".md")


def faults(path: Path, root: Path = ROOT) -> Iterator[str]:
    """Yield a sentence for each reference of a file that leads nowhere."""
    try:
        raw = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    where = path.relative_to(root)
    text = folded(raw)
    for match in FILE.finditer(text):
        if text[: match.start()].endswith((":", ":/", "*", "}", "<")):
            continue  # an address, a pattern, a name that is put together
        target = resolve(match["file"], path, root)
        if target is None:
            yield f"{where}: {match['file']} is no file of this repository"
        else:
            for problem in unfound(text[match.end() :], document(target)):
                yield f"{where}: {match['file']} {problem}"
    known = {found.name[:4] for found in (root / DECISIONS.relative_to(ROOT)).glob("[0-9]*.md")}
    for match in DECISION.finditer(text):
        for number in re.findall(r"\d{4}", match["numbers"]):
            if number not in known:
                yield f"{where}: there is no decision {number}"
    if path.suffix == ".md":
        yield from broken_links(raw, path, root)


def unfound(rest: str, of: Document) -> Iterator[str]:
    """Yield what the text behind a file's name names and the file has not."""
    at, within, first = 0, None, True
    while True:
        if number := NUMBER.match(rest, at):
            within = of.section(number["number"])
            if within is None:
                yield f"has no section {number['number']}"
            at = number.end()
            if items := ITEMS.match(rest, at):
                yield from (f"{number['number']} {problem}" for problem in lacking(items, within or []))
                at = items.end()
        elif first and (items := ITEMS.match(rest, at)):
            yield f"is cited by a {items['kind']} without a section"
            at = items.end()
        elif name := NAME.match(rest, at):
            if FILE.match(rest, name.start("capital")):
                return
            said = name["quoted"] or name["capital"].rstrip()
            found = of.named(said, within, whole=name["quoted"] is not None)
            if found is None:
                if name[0][:1] != " " or name["quoted"] or name[0].startswith(" ("):
                    yield f"has no heading {said!r}" + (" there" if within is not None else "")
                return
            at = name.end() if name["quoted"] else name.start("capital") + len(found)
        else:
            return
        first = False


def lacking(items: re.Match[str], within: list[str]) -> Iterator[str]:
    """Yield which of the steps (numbered items) or examples (rows of a table) are not there."""
    form = r"\| (\d+) \|" if items["kind"] == "example" else r"(\d+)\. "
    there = {match[1] for line in within if (match := re.match(form, line))}
    for number in re.findall(r"\d+", items["items"]):
        if number not in there:
            yield f"has no {items['kind']} {number}"


def broken_links(raw: str, path: Path, root: Path) -> Iterator[str]:
    """Yield the links of a Markdown file that lead to no file, out of the repository, or to no heading."""
    plain = re.sub(r"^```.*?^```", "", raw, flags=re.DOTALL | re.MULTILINE)
    for match in LINK.finditer(re.sub(r"`[^`\n]*`", "", plain)):
        target, _, fragment = match["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (path.parent / target).resolve() if target else path
        if not found.exists() or not found.is_relative_to(root):
            yield f"{path.relative_to(root)}: the link to {match['target']} leads nowhere"
        elif fragment and found.suffix == ".md" and fragment not in document(found).anchors:
            yield f"{path.relative_to(root)}: the link to {match['target']} leads to no heading"


def test_every_reference_leads_somewhere() -> None:
    """Each document, section, step, heading, decision and link that a file names is in this repository."""
    assert [fault for path in citing(ROOT) for fault in faults(path)] == []


def test_the_rules_are_cited() -> None:
    """References are found at all: the rules, the contracts and the protocol are cited by the code."""
    cited = {
        match["file"].rpartition("/")[2]
        for path in citing(ROOT)
        if path.suffix == ".py" and path.is_relative_to(ROOT / "src")
        for match in FILE.finditer(path.read_text(encoding="utf-8"))
    }
    assert cited >= {"RULES.md", "CONTRACTS.md", "PROTOCOL.md"}


GOOD = """# Rules

## 2 Rating

1. **Number.** One.
2. **Client.** Two.

### 2.1 Which limits

1. First.

## 4 Client package

### Assign

## 7 Worked examples

| # | calls |
|---|---|
| 1 | one |
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a repository with one document of rules."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "RULES.md").write_text(GOOD)
    markdown.cache_clear()
    document.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    "said",
    [
        "RULES.md",
        "src/RULES.md 2.1, rule 1",
        "RULES.md 2, steps 1 and 2, and 2.1.",
        "RULES.md section 4 (Assign) and 2.1; see there",
        'RULES.md "Assign"',
        "RULES.md 4, Assign, and more",
        "RULES.md 7, example 1",
        "RULES.md says it. A sentence follows",
        "RULES.md\n# section\n# 2.1",
    ],
)
def test_what_is_there_is_found(small: Path, said: str) -> None:
    """References to what is there, in all forms, are no faults."""
    (small / "src" / "a.py").write_text(f"# {said}\n")
    assert list(faults(small / "src" / "a.py", small)) == []


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("OTHER.md", "OTHER.md is no file of this repository"),
        ("../../outside/RULES.md", "../../outside/RULES.md is no file of this repository"),
        ("/etc/RULES.md", "/etc/RULES.md is no file of this repository"),
        ("RULES.md 3", "RULES.md has no section 3"),
        ("RULES.md 2.1 to 2.4", "RULES.md has no section 2.4"),
        ("RULES.md\n# 2, steps 1 and 5", "RULES.md 2 has no step 5"),
        ("RULES.md 7, example 2", "RULES.md 7 has no example 2"),
        ("RULES.md 4, Periods", "RULES.md has no heading 'Periods' there"),
        ("RULES.md 2, Assign", "RULES.md has no heading 'Assign' there"),
        ('RULES.md "Fees"', "RULES.md has no heading 'Fees'"),
        ("RULES.md, Fees", "RULES.md has no heading 'Fees'"),
        ("decision 0009", "there is no decision 0009"),
    ],
)
def test_what_is_missing_is_named(small: Path, said: str, fault: str) -> None:
    """A file, section, step, example, heading or decision that is not there is a fault."""
    (small / "src" / "a.py").write_text(f"# {said}\n")
    assert list(faults(small / "src" / "a.py", small)) == [f"src/a.py: {fault}"]


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("[a](RULES.md#21-which-limits)", None),
        ("[a](https://example.org/b.md)", None),
        ("[a](nothing.txt)", "the link to nothing.txt leads nowhere"),
        ("[a](../../outside)", "the link to ../../outside leads nowhere"),
        ("[a](RULES.md#fees)", "the link to RULES.md#fees leads to no heading"),
    ],
)
def test_links_lead_somewhere(small: Path, link: str, fault: str | None) -> None:
    """A relative link leads to a file of the repository, and its anchor to a heading."""
    (small / "src" / "a.md").write_text(f"See {link}.\n")
    expected = [] if fault is None else [f"src/a.md: {fault}"]
    assert list(faults(small / "src" / "a.md", small)) == expected


def test_every_decision_is_in_the_index() -> None:
    """Each decision has its number, title and date, and the index has a line for it and for no other."""
    index = {}
    for line in (DECISIONS / "README.md").read_text(encoding="utf-8").splitlines():
        if row := re.fullmatch(r"\| \[(\d{4})\]\((\S+)\) \| (.+) \| (\d{4}-\d\d-\d\d) \|", line):
            index[row[2]] = (row[1], row[3], row[4])
    found = {}
    for path in DECISIONS.glob("*.md"):
        if path.name != "README.md":
            head = path.read_text(encoding="utf-8").split("\n", 5)
            title = re.fullmatch(r"# (\d{4})[.:]? (.+)", head[0])
            day = re.search(r"\d{4}-\d\d-\d\d", "\n".join(head[1:5]))
            assert title is not None, f"{path.name} begins with no number and title"
            assert day is not None, f"{path.name} has no date below its title"
            assert re.fullmatch(rf"{title[1]}(-[a-z0-9]+)+\.md", path.name), f"{path.name}: number and name"
            date.fromisoformat(day[0])
            found[path.name] = (title[1], title[2], day[0])
    assert index == found
    assert len({number for number, _, _ in found.values()}) == len(found)
