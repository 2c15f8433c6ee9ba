"""The comparison with others: what is said of them has a source, and links lead somewhere."""

import re
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "ALTERNATIVES.md").read_text(encoding="utf-8")
_OTHERS = ("Jetstream", "Tap", "at-kafka")


def test_sources_are_defined_and_used() -> None:
    body, _, _ = _PAGE.partition("\n[1]: ")
    defined = re.findall(r"^\[(\d+)\]: https://\S+$", _PAGE, re.MULTILINE)
    assert defined == [str(number) for number in range(1, len(defined) + 1)]
    assert set(re.findall(r"\[(\d+)\]", body)) == set(defined)


def test_what_is_said_of_others_in_the_table_has_a_source() -> None:
    _, _, rest = _PAGE.partition("\n## Side by side\n")
    rows = re.findall(r"^\| ([^|]+) \|(.*)\|$", rest.partition("\n## ")[0], re.MULTILINE)
    # Of each row one cell at least. The first two are the head, and the third says what each is.
    assert len(rows) > 10
    for topic, cells in rows[3:]:
        assert re.search(r"\[\d+\]", cells), topic


def test_links_within_the_project_lead_somewhere() -> None:
    links = re.findall(r"\]\(((?!https:)[^)]+)\)", _PAGE)
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        text = (_ROOT / name).read_text(encoding="utf-8") if name else _PAGE
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings}
        assert not anchor or anchor in anchors, link


def test_the_readme_leads_here() -> None:
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    [sentence] = re.findall(r"[^.]*\(ALTERNATIVES\.md\)", readme)
    assert sentence
    introduction, _, _ = readme.partition("\n## Try it\n")
    assert all(name in introduction for name in _OTHERS)
