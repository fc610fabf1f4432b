"""The data in a pickle, without what pickles can do.

A pickle is a program for a stack machine whose instructions import and call what they please. This
machine knows the instructions that make plain data, and a call is looked up in a table of the few
names that PyTorch writes around tensors: nothing is ever imported or called by name. Any other
name is refused with an error that says it.

Only the standard library's parser of instructions (pickletools) is used, which executes none.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

from rwkvcpp.errors import ModelFormatError, UnsupportedError

# Every name that is known: PyTorch's storages by the type of their elements, its data types, and
# the functions that put tensors together.
STORAGE_TYPES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
ITEM_BYTES = {
    "float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "int64": 8, "int32": 4, "int16": 2,
    "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip
LONGEST_NAME = 120  # of a name in a message


class StorageType(NamedTuple):
    """torch.FloatStorage and the like; "untyped" has bytes."""

    dtype: str


class Storage(NamedTuple):
    """A named run of numbers in the file, which a tensor is a view of."""

    dtype: str
    key: str
    n_elements: int


class TensorView(NamedTuple):
    """A tensor as PyTorch describes it; the last two in elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Function(NamedTuple):
    """A name that may be called, with what it makes of its arguments."""

    name: str
    call: Callable[..., Any]


class _Mark:
    """The bottom of a list of arguments on the stack."""


def load(stream: io.BytesIO, where: str, *, find_storage: Callable[[Any], Storage]) -> Any:
    """The object that the next pickle of `stream` describes.

    where: begins every message, "model.pth: data.pkl".
    find_storage: what a persistent id stands for.
    """
    machine = _Machine(where, find_storage)
    position = 0
    try:
        for operation, argument, at in pickletools.genops(stream):
            position = at or 0
            if operation.name == "STOP":
                return machine.result()
            machine.run(operation.name, argument)
    except (ModelFormatError, UnsupportedError):
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ModelFormatError(
            f"{where}: is damaged near byte {position}: {type(error).__name__}: {error}"[:400]
        ) from error
    raise ModelFormatError(f"{where}: ends before its pickle does")


class _Machine:
    """The stack and the memory of one pickle."""

    def __init__(self, where: str, find_storage: Callable[[Any], Storage]) -> None:
        self._where = where
        self._find_storage = find_storage
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self._stack.append(argument)
        elif name in _NEW:
            self._stack.append(_NEW[name]())
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, argument)
        elif name == "INST":
            self._refuse_name(*argument.split(" ", 1))
        else:
            raise UnsupportedError(
                f"{self._where}: asks for the pickle instruction {name}, which no weights need"
            )

    def result(self) -> Any:
        if len(self._stack) != 1:
            raise ModelFormatError(
                f"{self._where}: ends with {len(self._stack)} objects on the stack, expected 1"
            )
        return self._stack[0]

    # Names and calls

    def global_name(self, argument: str) -> None:
        self._push_name(*argument.split(" ", 1))

    def stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ModelFormatError(f"{self._where}: asks for a global whose name is no text")
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        known = _NAMES.get((module, name))
        if known is None:
            self._refuse_name(module, name)
        self._stack.append(known)

    def _refuse_name(self, module: str, name: str = "") -> None:
        asked = f"{module}.{name}"[:LONGEST_NAME]
        raise UnsupportedError(
            f"{self._where}: asks for {asked!r}, which is not needed to read tensors; "
            "nothing was executed"
        )

    def reduce(self, _: None) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Function) or not isinstance(arguments, tuple):
            raise ModelFormatError(
                f"{self._where}: calls {_kind(function)} with {_kind(arguments)}, "
                "expected a known function with a tuple"
            )
        self._stack.append(function.call(*arguments))

    def build(self, _: None) -> None:
        """Attributes of an OrderedDict (`_metadata` of a state_dict): of no use here."""
        self._stack.pop()
        if not isinstance(self._stack[-1], dict):
            raise ModelFormatError(
                f"{self._where}: sets attributes of {_kind(self._stack[-1])}, expected a dict"
            )

    def persistent_id(self, _: None) -> None:
        self._stack.append(self._find_storage(self._stack.pop()))

    # Containers

    def pop(self, _: None) -> None:
        self._stack.pop()

    def pop_mark(self, _: None) -> None:
        self._above_mark()

    def duplicate(self, _: None) -> None:
        self._stack.append(self._stack[-1])

    def make_tuple(self, _: None) -> None:
        self._stack.append(tuple(self._above_mark()))

    def make_list(self, _: None) -> None:
        self._stack.append(self._above_mark())

    def make_dict(self, _: None) -> None:
        items = self._above_mark()
        self._stack.append({})
        self._fill(items)

    def append(self, _: None) -> None:
        item = self._stack.pop()
        self._list().append(item)

    def appends(self, _: None) -> None:
        items = self._above_mark()
        self._list().extend(items)

    def set_item(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._fill([key, value])

    def set_items(self, _: None) -> None:
        self._fill(self._above_mark())

    def _list(self) -> list[Any]:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise ModelFormatError(f"{self._where}: appends to {_kind(target)}, expected a list")
        return target

    def _fill(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ModelFormatError(f"{self._where}: sets items of {_kind(target)}, expected a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):  # nothing whose hash could run deep
                raise ModelFormatError(
                    f"{self._where}: has {_kind(key)} as a key, expected the name of a tensor"
                )
            target[key] = value

    def _above_mark(self) -> list[Any]:
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                items = self._stack[i + 1 :]
                del self._stack[i:]
                return items
        raise ModelFormatError(f"{self._where}: takes objects down to a mark that is not there")

    # Memory

    def put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, index: int) -> None:
        self._stack.append(self._memo[index])


def _kind(value: Any) -> str:
    """What an object is, for messages: never its contents, which may be endless."""
    if isinstance(value, _Function):
        return f"the function {value.name}"
    return f"a {type(value).__name__}"


# ---- what PyTorch writes around tensors ----------------------------------------------------------


def is_count(value: Any) -> bool:
    """An integer that can be a number of elements."""
    return type(value) is int and 0 <= value < 2**63


def _numbers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(map(is_count, values)):
        raise ValueError("a shape or stride is no tuple of integers from 0 to 2^63")
    return values


def _view(storage: Any, offset: Any, shape: Any, strides: Any, dtype: str | None) -> TensorView:
    if not isinstance(storage, Storage) or not is_count(offset):
        raise ValueError("a tensor has no storage or no offset")
    return TensorView(storage, dtype or storage.dtype, offset, _numbers(shape), _numbers(strides))


def _tensor_v2(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorView:
    return _view(storage, offset, shape, strides, None)


def _tensor_v3(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _grad: Any,
    _hooks: Any,
    dtype: Any,
    *_: Any,
) -> TensorView:
    if not isinstance(dtype, StorageType):
        raise ValueError("a tensor has no data type")
    return _view(storage, offset, shape, strides, dtype.dtype)


def _parameter(data: Any, *_: Any) -> TensorView:
    if not isinstance(data, TensorView):
        raise ValueError("a parameter holds no tensor")
    return data


def _ordered_dict(*arguments: Any) -> dict[Any, Any]:
    if arguments:
        raise ValueError("an OrderedDict is made with arguments")
    return {}


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor"): _tensor_v2,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _numbers,
}
_NAMES: dict[tuple[str, str], Any] = {
    **{key: _Function(".".join(key), call) for key, call in _FUNCTIONS.items()},
    **{("torch", name): StorageType(dtype) for name, dtype in STORAGE_TYPES.items()},
    **{("torch", dtype): StorageType(dtype) for dtype in STORAGE_TYPES.values()},
    ("torch.storage", "UntypedStorage"): StorageType("untyped"),
}

# ---- the instructions ----------------------------------------------------------------------------

_MARK = _Mark()
_IGNORED = frozenset(["PROTO", "FRAME"])
_CONSTANTS: dict[str, Any] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
    "MARK": _MARK,
}
_LITERALS = frozenset([
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
])  # fmt: skip
_NEW: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict}


def _tuple_of(n: int) -> Callable[[_Machine, Any], None]:
    def make(machine: _Machine, _: Any) -> None:
        if len(machine._stack) < n:
            raise IndexError("the stack is empty")
        items = machine._stack[-n:]
        machine._stack[-n:] = [tuple(items)]

    return make


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "GLOBAL": _Machine.global_name,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "TUPLE": _Machine.make_tuple,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": _Machine.make_list,
    "DICT": _Machine.make_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
}
