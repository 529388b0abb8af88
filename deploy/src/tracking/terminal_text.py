"""Texts of others as a terminal may show them. Pure."""


def terminal_text(text: str) -> str:
    """The text with everything escaped that shows nothing by itself: controls, and what reorders its
    surroundings.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
