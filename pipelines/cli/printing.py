"""Text for a terminal."""


def printable(text: str) -> str:
    """Escapes what a terminal would obey: the text may quote what a hostile upstream sent."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
