"""The globals that a pickle would import, read without importing or running any of them.

A pickle is a program for a small stack machine. Whatever it calls, it must first
import by module and name. This module follows the opcodes as far as the real
machine would, keeps the strings that are on its stack and in its memo, and
reports every import. What it cannot follow is an error, never "harmless".

Source: CPython's pickletools (opcodes and their arguments) and pickle; read 2026-11.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Final

MOST_OPCODES: Final = 4_000_000
"""A checkpoint with 2,500 tensors has about 100,000."""
_LONGEST_TEXT: Final = 64 * 1024
"""Longer arguments are skipped: a module's name is never that long."""
_CHUNK_BYTES: Final = 1024 * 1024
_OPCODES: Final = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_LENGTHS: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: (1, False),
    pickletools.TAKEN_FROM_ARGUMENT4: (4, True),
    pickletools.TAKEN_FROM_ARGUMENT4U: (4, False),
    pickletools.TAKEN_FROM_ARGUMENT8U: (8, False),
}
"""An argument's kind → the bytes of the length before it, and whether that is signed."""


class UnreadablePickle(Exception):
    """The bytes are not a pickle from here on: Python's own reader stops here as well."""


class LongPickle(Exception):
    """There are more opcodes than are looked at."""


@dataclass(slots=True)
class Budget:
    """Opcodes that may still be read, over all pickles of a file."""

    opcodes: int = MOST_OPCODES

    def spend(self) -> None:
        """Count one opcode.

        Raises:
            LongPickle: none is left.
        """
        self.opcodes -= 1
        if self.opcodes < 0:
            raise LongPickle


@dataclass(slots=True)
class _Machine:
    """The stack and the memo: strings as they are, everything else as None.

    Attributes:
        stack: what lies above the last mark.
        below: the stacks below the marks, the innermost last.
        memo: index → value.
    """

    stack: list[str | None] = field(default_factory=list)
    below: list[list[str | None]] = field(default_factory=list)
    memo: dict[int, str | None] = field(default_factory=dict)

    def pop(self) -> str | None:
        """Take the topmost value."""
        if not self.stack:
            raise UnreadablePickle("stack underflow")
        return self.stack.pop()

    def pop_mark(self) -> None:
        """Drop everything above the last mark, and the mark."""
        if not self.below:
            raise UnreadablePickle("no mark")
        self.stack = self.below.pop()

    def top(self) -> str | None:
        """Return the topmost value."""
        if not self.stack:
            raise UnreadablePickle("stack underflow")
        return self.stack[-1]


def read_globals(file: BinaryIO, add: Callable[[str], object], budget: Budget) -> None:
    """Read one pickle, from the file's position to behind its STOP.

    Args:
        file: the bytes; it can seek.
        add: called with each import, as ``module.name``; also before an error.
        budget: opcodes that may be read.

    Raises:
        UnreadablePickle: it ends early, or goes on with something else.
        LongPickle: the budget is spent.
    """
    machine = _Machine()
    while True:
        budget.spend()
        opcode = _OPCODES.get(file.read(1))
        if opcode is None:
            raise UnreadablePickle("not an opcode, or the end")
        if opcode.name == "STOP":
            machine.top()
            return
        argument = _argument(file, opcode)
        _apply(machine, opcode, argument, add)


def _argument(file: BinaryIO, opcode: pickletools.OpcodeInfo) -> bytes | None:
    """Read an opcode's argument as it is written, without its length; None where it is too long to matter."""
    if opcode.arg is None:
        return b""
    if opcode.arg.n == pickletools.UP_TO_NEWLINE:
        first = _line(file)
        if opcode.name not in {"GLOBAL", "INST"}:
            return first
        second = _line(file)
        if first is None or second is None:
            raise UnreadablePickle("a name that is too long to be one")
        return first + b"\n" + second
    size = opcode.arg.n
    if size in _LENGTHS:
        width, signed = _LENGTHS[size]
        size = int.from_bytes(_exactly(file, width), "little", signed=signed)
        if size < 0:
            raise UnreadablePickle("a negative length")
    if size <= _LONGEST_TEXT:
        return _exactly(file, size)
    file.seek(size, 1)
    return None


def _exactly(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise UnreadablePickle("the end")
    return content


def _line(file: BinaryIO) -> bytes | None:
    """Read up to a newline; a long line is skipped and gives None."""
    line = file.readline(_LONGEST_TEXT)
    if line.endswith(b"\n"):
        return line[:-1]
    while line:
        line = file.readline(_CHUNK_BYTES)
        if line.endswith(b"\n"):
            return None
    raise UnreadablePickle("the end")


def _apply(
    machine: _Machine, opcode: pickletools.OpcodeInfo, argument: bytes | None, add: Callable[[str], object]
) -> None:
    """Do to the stack and the memo what an opcode does to them."""
    match opcode.name:
        case "MARK":
            machine.below.append(machine.stack)
            machine.stack = []
        case "POP":
            if machine.stack:
                machine.stack.pop()
            else:
                machine.pop_mark()
        case "DUP":
            machine.stack.append(machine.top())
        case "PUT" | "BINPUT" | "LONG_BINPUT":
            machine.memo[_index(opcode, argument)] = machine.top()
        case "MEMOIZE":
            machine.memo[len(machine.memo)] = machine.top()
        case "GET" | "BINGET" | "LONG_BINGET":
            index = _index(opcode, argument)
            if index not in machine.memo:
                raise UnreadablePickle("nothing in the memo")
            machine.stack.append(machine.memo[index])
        case "GLOBAL" | "INST":
            if opcode.name == "INST":
                machine.pop_mark()
            add(_decoded(argument or b"", "utf-8").replace("\n", "."))
            machine.stack.append(None)
        case "STACK_GLOBAL":
            name, module = machine.pop(), machine.pop()
            add(f"{module or '(computed)'}.{name or '(computed)'}")
            machine.stack.append(None)
        case "EXT1" | "EXT2" | "EXT4":
            raise UnreadablePickle("an extension code, which only a running program could know")
        case _:
            if any(item is pickletools.markobject for item in opcode.stack_before):
                machine.pop_mark()
                taken = opcode.stack_before.index(pickletools.markobject)
            else:
                taken = len(opcode.stack_before)
            for _ in range(taken):
                machine.pop()
            text = _text(opcode.name, argument)
            machine.stack.extend([text] * len(opcode.stack_after))


def _index(opcode: pickletools.OpcodeInfo, argument: bytes | None) -> int:
    """Read the number of a memo's entry."""
    if opcode.name in {"PUT", "GET"}:
        try:
            return int(argument or b"")
        except ValueError:
            raise UnreadablePickle("a memo's index that is not a number") from None
    return int.from_bytes(argument or b"", "little")


def _text(name: str, argument: bytes | None) -> str | None:
    """Return the string that an opcode pushes, or None where it pushes something else or it is not known."""
    if argument is None:
        return None
    try:
        match name:
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8":
                return argument.decode("utf-8", "surrogatepass")
            case "UNICODE":
                return argument.decode("raw-unicode-escape")
            case "SHORT_BINSTRING" | "BINSTRING":
                return argument.decode("ascii")
            case "STRING":
                # In quotes. One with escapes counts as unknown: a name needs none.
                return None if b"\\" in argument else argument.strip()[1:-1].decode("ascii")
            case _:
                return None
    except ValueError:
        return None


def _decoded(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise UnreadablePickle("a name that is not text") from None
