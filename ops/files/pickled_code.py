"""What a model file in a pickle format would import when it is loaded, beyond what weights need.

Three containers are known: PyTorch's ZIP archive, its older form of five pickles
and the tensors' bytes, and a bare pickle. Nothing is loaded, imported or run.

Source: PyTorch, torch/serialization.py and torch/_weights_only_unpickler.py (what ``weights_only`` takes),
read 2026-11; numpy's names before and after 2.0.
"""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Final

from ops.files.pickle_globals import Budget, LongPickle, UnreadablePickle, read_globals
from ops.models.categories import PICKLED

_ZIP: Final = b"PK\x03\x04"
_LONGEST_MEMBER: Final = 64 * 1024 * 1024
_DEEPEST: Final = 3
_PICKLES_OF_TORCH: Final = 5
"""In PyTorch's older form: a magic number, a version, the system, the object, the tensors' keys."""
_SHOWN: Final = 5

_KINDS: Final = (
    "Double", "Float", "Half", "Long", "Int", "Short", "Char", "Byte", "Bool", "BFloat16",
    "ComplexDouble", "ComplexFloat", "QUInt8", "QInt8", "QInt32", "QUInt4x2", "QUInt2x4", "Untyped",
)  # fmt: skip
_DTYPES: Final = (
    "float16", "float32", "float64", "half", "float", "double", "bfloat16", "complex32", "complex64",
    "complex128", "cfloat", "cdouble", "chalf", "uint8", "uint16", "uint32", "uint64", "int8", "int16",
    "int32", "int64", "short", "int", "long", "bool", "quint8", "qint8", "qint32", "quint4x2", "quint2x4",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    "bits1x8", "bits2x4", "bits4x2", "bits8", "bits16",
)  # fmt: skip
_REBUILDERS: Final = (
    "tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state", "qtensor", "sparse_tensor",
    "sparse_csr_tensor", "nested_tensor", "meta_tensor_no_storage", "wrapper_subclass",
    "device_tensor_from_numpy", "device_tensor_from_cpu_tensor", "xla_tensor",
)  # fmt: skip
_NUMPY_DTYPES: Final = (
    "Bool", "Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "LongLong",
    "ULongLong", "Float16", "Float32", "Float64", "LongDouble", "Complex64", "Complex128", "CLongDouble",
    "Bytes", "Str",
)  # fmt: skip
_BUILTINS: Final = ("set", "frozenset", "bytes", "bytearray", "complex")
_ALLOWED: Final = frozenset(
    {
        "collections.OrderedDict",
        "collections.Counter",
        "collections.defaultdict",
        "_codecs.encode",
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _BUILTINS),
        *(f"torch.{prefix}{kind}Storage" for prefix in ("", "cuda.") for kind in _KINDS),
        *(f"torch.{prefix}{kind}Tensor" for prefix in ("", "cuda.") for kind in _KINDS),
        *(f"torch.{name}" for name in (*_DTYPES, "Tensor", "Size", "device", "Generator")),
        *(f"torch.storage.{name}Storage" for name in ("Typed", "Untyped", "_Typed", "_Untyped")),
        *(f"torch._utils._rebuild_{name}" for name in _REBUILDERS),
        "torch._tensor._rebuild_from_type",
        "torch._tensor._rebuild_from_type_v2",
        "torch.nn.parameter.Parameter",
        "torch.nn.parameter.Buffer",
        "torch.serialization._get_layout",
        "torch.jit._pickle.build_intlist",
        "torch.jit._pickle.build_tensorlist",
        "torch.jit._pickle.build_doublelist",
        "torch.jit._pickle.build_boollist",
        "torch.jit._pickle.build_tensor_from_id",
        "torch.jit._pickle.restore_type_tag",
        "numpy.ndarray",
        "numpy.dtype",
        *(f"numpy.{core}.multiarray.{n}" for core in ("core", "_core") for n in ("_reconstruct", "scalar")),
        *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
        *(f"numpy.dtypes.{name}DType" for name in _NUMPY_DTYPES),
    }
)


@dataclass(frozen=True, slots=True)
class PickleProblem:
    """Why a file in a pickle format is not just weights.

    Attributes:
        sentence: its end, after "it holds" or the like.
        damaged: the pickle cannot be read to its end, so that fetching it again may help.
    """

    sentence: str
    damaged: bool = False


def pickle_problem(file: BinaryIO) -> PickleProblem | None:
    """Look for imports beyond what weights need.

    Args:
        file: the file, which can seek; it is read from its beginning.

    Returns:
        What was found; None for weights only, and for what is not a pickle.
    """
    found: dict[str, None] = {}
    problem = None
    try:
        _look(file, found, Budget(), 0)
    except LongPickle:
        problem = PickleProblem("its pickle is too long to be looked through")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError):
        problem = PickleProblem("its pickle is packed in a way that cannot be read")
    except UnreadablePickle:
        problem = PickleProblem("its pickle is damaged, or its end is missing", damaged=True)
    foreign = [name for name in found if not _is_for_weights(name)]
    if foreign:
        names = ", ".join(ascii(name)[1:-1][:80] for name in foreign[:_SHOWN])
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        return PickleProblem(f"it holds pickled code beyond what weights need: {names}{more}")
    return problem


def _is_for_weights(name: str) -> bool:
    """Tell whether an import is among those that weights need.

    TorchScript's own classes, in ``__torch__``, are not Python's: its reader never imports them.
    """
    return name in _ALLOWED or name.startswith("__torch__.")


def _look(file: BinaryIO, found: dict[str, None], budget: Budget, depth: int) -> None:
    """Add the imports of a file's pickles, in whichever container they are."""
    file.seek(0)
    start = file.read(len(_ZIP))
    file.seek(0)
    if start == _ZIP:
        _look_in_archive(file, found, budget, depth)
        return
    for number in range(_PICKLES_OF_TORCH):
        where = file.tell()
        starts = _starts_pickle(file)
        file.seek(where)
        try:
            read_globals(file, found.setdefault, budget)
        except UnreadablePickle:
            # Text protocols have no mark of their own: other formats and trailing bytes end here.
            if starts and number == 0:
                raise
            return


def _starts_pickle(file: BinaryIO) -> bool:
    """Tell whether the next bytes are a pickle's PROTO opcode with a protocol that exists."""
    start = file.read(2)
    return len(start) == 2 and start[0] == 0x80 and start[1] <= 5


def _look_in_archive(file: BinaryIO, found: dict[str, None], budget: Budget, depth: int) -> None:
    """Add the imports of an archive's pickles, and of archives in it; names that occur twice are all read."""
    if depth == _DEEPEST:
        raise NotImplementedError("archives within archives")
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if PurePosixPath(info.filename).suffix.lower() not in PICKLED | {".zip"}:
                continue
            with archive.open(info) as member:
                content = member.read(_LONGEST_MEMBER + 1)
            if len(content) > _LONGEST_MEMBER:
                raise LongPickle
            _look(io.BytesIO(content), found, budget, depth + 1)
