"""Text from outside, fit to be shown: a file's name may hold any byte, a command to the terminal too."""


def visible(text: str, *, lines: bool = True) -> str:
    """Write what no terminal shows as an escape.

    Args:
        text: anything; a byte of a name that is not UTF-8 is written as itself (``\\xff``).
        lines: leave line breaks as they are.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or (lines and char == "\n") else _escape(char) for char in text)


def _escape(char: str) -> str:
    point = ord(char)
    byte = point - 0xDC00 if 0xDC80 <= point <= 0xDCFF else point  # see os.fsdecode
    return repr(char)[1:-1] if byte == point else f"\\x{byte:02x}"
