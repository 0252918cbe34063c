"""NumPy's .npz and .npy: each array is a column, its first axis the rows; what is behind are lists, and lists of steps.

(N,) numbers or texts    (N, T) one number a step    (N, T, C) C numbers a step    (N, T, H, W, ...) an image a step
"""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib

import numpy as np
import polars as pl

from clew.errors import DataError

LARGEST = 1 << 33  # bytes of all arrays: what a small file may ask memory for
ALONE = "values"  # the column that a .npy file is
KINDS = "biufU"
BROKEN = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError, SyntaxError)


def parse(name: str, content: bytes) -> tuple[pl.DataFrame, range]:
    """The table, and the number of each row.

    Raises:
        DataError: no such file, one that is damaged or too large, arrays of objects, of no rows or of different many.
    """
    arrays = _arrays(name, content)
    if not arrays:
        raise DataError("holds no arrays", file=name, hint="np.savez(file, x=..., y=...)")
    rows = len(next(iter(arrays.values()))) if next(iter(arrays.values())).ndim else 0
    columns = {}
    for column, array in arrays.items():
        if array.ndim == 0 or not array.size:
            raise DataError("holds no rows", file=name, column=column, hint="its first axis must be the rows")
        if len(array) != rows:
            what = f"{len(array)} rows, where '{next(iter(arrays))}' has {rows}"
            raise DataError(what, file=name, column=column, hint="all arrays of a file have the same first axis")
        if array.ndim > 1 and array.dtype.kind == "U":
            raise DataError("holds texts of several axes", file=name, column=column, hint="one text a row")
        columns[column] = _series(column, array)
    return pl.DataFrame(columns), range(1, rows + 1)


def _arrays(name: str, content: bytes) -> dict[str, np.ndarray]:
    hint = "np.savez(file, x=..., y=...) writes one"
    try:
        if content[:6] == b"\x93NUMPY":
            files = {ALONE: content}
        else:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                infos = archive.infolist()
                if sum(info.file_size for info in infos) > LARGEST:
                    raise DataError(f"holds more than {LARGEST >> 30} GiB", file=name, hint="cut it into several files")
                files = {info.filename.removesuffix(".npy"): archive.read(info) for info in infos}
        arrays = {}
        for column, raw in files.items():
            array = np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)
            if array.dtype.kind not in KINDS:
                what = f"holds '{array.dtype}', neither numbers nor texts"
                raise DataError(what, file=name, column=column, hint="convert it with .astype")
            arrays[column] = array
    except DataError:
        raise
    except (*BROKEN, MemoryError, tokenize.TokenError) as error:
        objects = "allow_pickle" in str(error)
        what = "holds objects of Python, which are not read" if objects else "is no whole file of arrays"
        raise DataError(what, file=name, hint="save arrays of numbers or texts" if objects else hint) from error
    return arrays


def _series(column: str, array: np.ndarray) -> pl.Series:
    """An array as a column: numbers, texts, lists of numbers, or lists of steps."""
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        array = array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
    if array.ndim == 1:
        return pl.Series(column, array.tolist() if array.dtype.kind == "U" else np.ascontiguousarray(array))
    rows, T, C = len(array), array.shape[1], int(np.prod(array.shape[2:], dtype=np.int64))
    flat = pl.Series(column, np.ascontiguousarray(array).reshape(-1))
    shape = (rows, T) if array.ndim == 2 else (rows, T, C)
    series = flat.reshape(shape)
    return series.cast(pl.List(flat.dtype) if array.ndim == 2 else pl.List(pl.List(flat.dtype)))
