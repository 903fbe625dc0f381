"""What a pickle of plain containers says, without doing any of what it asks for.

A pickle is a program for a machine with a stack. Here the instructions that make numbers, strings and containers are
followed; those that name a function or call it only leave a Call behind, which says what was to be called.
"""

import pickletools
from dataclasses import dataclass
from typing import Any

LITERALS = frozenset((
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"))
CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
SILENT = frozenset(("PROTO", "FRAME"))
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(eq=False)
class Call:
    """A function that the pickle names, as "module name"; what it was to be called with; what its result was to be
    told. eq=False: hashed and compared by identity."""

    function: str
    arguments: Any = ()
    state: Any = None


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def last(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def containers(self, name: str) -> bool:
        """Whether the instruction was one that makes or fills a container."""
        stack = self.stack
        if name in TUPLES:
            stack.append(tuple(self.last(TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(self.since_mark()))
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if name == "EMPTY_LIST" else {})
        elif name in ("APPEND", "APPENDS"):
            items = self.last(1) if name == "APPEND" else self.since_mark()
            _expect(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.last(2) if name == "SETITEM" else self.since_mark()
            for key, value in zip(items[::2], items[1::2], strict=True):
                _expect(stack[-1], dict)[_expect(key, (str, bytes, int))] = value
        else:
            return False
        return True

    def calls(self, name: str, argument: Any) -> bool:
        """Whether the instruction was one of those that are noted down instead of being followed."""
        if name == "GLOBAL":
            self.stack.append(Call(argument))
        elif name == "STACK_GLOBAL":
            self.stack.append(Call(" ".join(_expect(part, str) for part in self.last(2))))
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = self.last(2)
            self.stack.append(Call(_expect(function, Call).function, _expect(arguments, tuple)))
        elif name == "BUILD":
            state, = self.last(1)
            _expect(self.stack[-1], Call).state = state
        else:
            return False
        return True

    def memory(self, name: str, argument: Any) -> bool:
        """Whether the instruction was one that keeps the top of the stack or brings something back."""
        if name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        else:
            return False
        return True


def read_plain(data: bytes) -> Any:
    """The content of a pickle; strings of Python 2 have a character for each byte. Raises ValueError."""
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name in LITERALS or name in CONSTANTS:
                machine.stack.append(CONSTANTS.get(name, argument))
            elif name == "STOP":
                return machine.stack.pop()
            elif not (name in SILENT or machine.memory(name, argument) or machine.containers(name)
                      or machine.calls(name, argument)):
                raise ValueError(f"its instruction {name} is none that a pickle of plain data needs")
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"its instructions do not fit together ({type(error).__name__})") from None
    raise ValueError("it has no end")


def _expect(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"its instructions do not fit together (a {type(value).__name__})")
    return value
