"""A pickle read without running it: tensors and containers, and nothing else.

A pickle is a program, and Python's own reader calls what it names. Here its
instructions are listed by `pickletools`, and those that PyTorch uses for tensors are
interpreted. A name is compared with a short list and never imported.
"""

import math
import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from simcse_tf.checkpoints.bfloat16 import BFLOAT16
from simcse_tf.core.errors import UserError

# The dtypes of PyTorch's storages.
STORAGES = {
    "torch DoubleStorage": "f8",
    "torch FloatStorage": "f4",
    "torch HalfStorage": "f2",
    "torch BFloat16Storage": BFLOAT16[1:],
    "torch LongStorage": "i8",
    "torch IntStorage": "i4",
    "torch ShortStorage": "i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}

# Some tensors carry them as notes.
_DTYPES = {f"torch {name}" for name in ("float64", "float32", "float16", "bfloat16")}


class Storage(NamedTuple):
    """Numbers in a row, somewhere else in the file.

    Attributes:
        kind: string. A key of `STORAGES`.
        key: string. Where they are.
        size: int. How many.
    """

    kind: str
    key: str
    size: int


class StridedTensor(NamedTuple):
    """A tensor's numbers within a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The tensor as a view of its storage.

        Args:
            numbers: Array of one dimension: the storage's numbers.

        Raises:
            UserError: If it reaches past the storage's end.
        """
        reach = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) and self.offset + reach >= len(numbers):
            raise UserError("a tensor reaches past the end of its storage")
        if math.prod(self.shape) > len(numbers):
            raise UserError("a tensor has more numbers than its storage")
        strides = [each * numbers.itemsize for each in self.strides]
        start = numbers[self.offset :] if math.prod(self.shape) else numbers[:0]
        try:
            return np.lib.stride_tricks.as_strided(
                start, self.shape, strides, writeable=False
            )
        except ValueError as error:
            raise UserError(f"a tensor of no possible shape: {error}") from None


class _Name(NamedTuple):
    """A global that a pickle names; `module name`."""

    text: str


def read_pickle(file: IO[bytes]) -> Any:
    """Reads the next pickle of a file as far as it holds tensors and containers.

    Args:
        file: The open file. It stands behind the pickle afterwards.

    Returns:
        What was pickled: dictionaries, lists, tuples, strings, numbers, and
        `StridedTensor` for tensors.

    Raises:
        UserError: If the pickle names any other global, in its words, uses an
            instruction that tensors do not need, or is broken.

    Example:

    ```python
    read_pickle(io.BytesIO(pickle.dumps({"a": [1]}, protocol=2)))  # {"a": [1]}
    ```
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            step = _STEPS.get(opcode.name)
            if step is None:
                raise UserError(
                    f"it uses the instruction {opcode.name}, which no tensor needs: "
                    "it was not run"
                )
            step(machine, argument)
        return machine.result()
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"it is broken: {error}") from None


class _Machine:
    """The stack of a pickle that is being read."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise IndexError("an empty stack")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def container(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise TypeError(f"expected a {kind.__name__}")
        return self.stack[-1]

    def result(self) -> Any:
        [value] = self.stack
        return value


def _set_items(machine: _Machine, values: list[Any]) -> None:
    target = machine.container(dict)
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(key, str | int):
            raise TypeError("expected names for keys")
        target[key] = value


def _append(machine: _Machine, values: list[Any]) -> None:
    machine.container(list).extend(values)


def _named(machine: _Machine, name: str) -> None:
    if name not in _CALLS and name not in STORAGES and name not in _DTYPES:
        raise UserError(
            f"it names {name.replace(' ', '.')}, which is no tensor: nothing of it was "
            "run"
        )
    machine.push(_Name(name))


def _stack_named(machine: _Machine, argument: Any) -> None:
    name, module = machine.pop(), machine.pop()
    if not (isinstance(module, str) and isinstance(name, str)):
        raise TypeError("expected a module and a name")
    _named(machine, f"{module} {name}")


def _call(machine: _Machine, argument: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    if not (isinstance(function, _Name) and function.text in _CALLS):
        raise TypeError("it calls what is no function")
    if type(arguments) is not tuple:
        raise TypeError("expected a tuple of arguments")
    machine.push(_CALLS[function.text](*arguments))


def _build(machine: _Machine, argument: Any) -> None:
    # The state of a dictionary of tensors: PyTorch's notes on versions.
    machine.pop()
    machine.container(dict)


def _persistent(machine: _Machine, argument: Any) -> None:
    kind, storage, key, _, count, *view = machine.pop()
    if kind != "storage" or not isinstance(storage, _Name) or any(view):
        raise TypeError("expected a storage")
    if storage.text not in STORAGES or not isinstance(key, str):
        raise TypeError("expected a storage")
    machine.push(Storage(storage.text, key, _size(count)))


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    # Pickles of old give the items as a list of pairs. Another key, such as tuples of
    # tuples, might take for ever to hash.
    if not all(isinstance(key, str | int) for key, _ in pairs):
        raise TypeError("expected names for keys")
    return dict(pairs)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Any:
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise TypeError("expected a tensor's storage, shape and strides")
    return StridedTensor(
        storage, _size(offset), tuple(map(_size, shape)), tuple(map(_size, strides))
    )


def _parameter(tensor: Any, *_: Any) -> Any:
    if not isinstance(tensor, StridedTensor):
        raise TypeError("expected a tensor")
    return tensor


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("expected a size")
    return value


_CALLS: Mapping[str, Callable[..., Any]] = {
    "collections OrderedDict": _ordered_dict,
    "torch Size": lambda sizes: tuple(map(_size, sizes)),
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
}


def _push_argument(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


def _constant(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, argument: machine.push(value)


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, argument: Any) -> None:
        machine.push(tuple([machine.pop() for _ in range(count)][::-1]))

    return step


def _remember(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, size: None,
    "STOP": lambda machine, argument: None,
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "LONG4"), _push_argument),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINFLOAT"), _push_argument),
    "EMPTY_DICT": lambda machine, argument: machine.push({}),
    "EMPTY_LIST": lambda machine, argument: machine.push([]),
    "EMPTY_TUPLE": _constant(()),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": lambda machine, argument: machine.push(tuple(machine.pop_to_mark())),
    "MARK": lambda machine, argument: machine.marks.append(len(machine.stack)),
    "APPEND": lambda machine, argument: _append(machine, [machine.pop()]),
    "APPENDS": lambda machine, argument: _append(machine, machine.pop_to_mark()),
    "SETITEM": lambda machine, argument: _set_items(
        machine, [machine.pop(), machine.pop()][::-1]
    ),
    "SETITEMS": lambda machine, argument: _set_items(machine, machine.pop_to_mark()),
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": lambda machine, argument: _remember(machine, len(machine.memo)),
    "BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "GLOBAL": _named,
    "STACK_GLOBAL": _stack_named,
    "REDUCE": _call,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
