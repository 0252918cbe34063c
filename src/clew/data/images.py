"""Image files as arrays (through Pillow): a column of them, or of folders with the frames of a video each.

An image is H steps of W C numbers, row by row from the top, the C colours of a pixel side by side; a video is T steps
of H W C numbers. `scanned` reads an image in another order.

H height, W width, C colours: 1 (grey) or 3
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clew.data.table import TEXTS, Table, texts
from clew.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
LARGEST = 1 << 26  # pixels of an image: what a small file may ask memory for
GREY = ("1", "L", "I", "I;16", "F")


def names_images(table: Table, name: str) -> bool:
    """Whether most cells of a column that hold anything are the names of image files, or of folders of them."""
    cells = table.column(name).drop_nulls().to_list() if table.schema[name] in TEXTS else []
    cells = [cell.strip() for cell in map(str, cells) if cell.strip()]
    if sum(cell.lower().endswith(SUFFIXES) for cell in cells) > len(cells) / 2:
        return True
    first = cells[0] if cells else ""
    folder = Path(table.name).parent / first
    return "/" in first and folder.is_dir() and any(_is_image(file) for file in folder.iterdir())


def read_images(table: Table, column: str, size: Sequence[int] = ()) -> tuple[list[np.ndarray], int]:
    """What each row names, an image (H, W C) or a video (T, H W C), uint8; and C, that of the first.

    Args:
        size: H and W that all are brought to; empty for those of the first.

    Raises:
        DataError: with its row: no such file, no image, one of another size, one too large.
    """
    found: list[np.ndarray] = []
    shape: tuple[int, int, int] | None = None
    for row, name in zip(table.lines, texts(table, column), strict=True):
        place = Path(table.name).parent / name.strip()
        try:
            files = sorted(filter(_is_image, place.iterdir())) if name.strip() and place.is_dir() else [place]
            if not name.strip() or not files:
                what = "holds no images" if name.strip() else "the cell is empty"
                raise DataError(what, hint="name an image, or drop the row")
            frames = []
            for file in files:
                frames.append(_read(file, size, shape))
                shape = frames[0].shape if shape is None else shape
        except DataError as error:
            what = error.what if error.what.startswith("the cell") else f"{Path(name).name} {error.what}"
            raise DataError(what, file=table.name, row=row, column=column, hint=error.hint) from error
        if place.is_dir():
            found.append(np.stack([frame.reshape(-1) for frame in frames]))
        else:
            found.append(frames[0].reshape(len(frames[0]), -1))
    return found, shape[2] if shape else 1


def scanned(image: np.ndarray, order: str, colours: int = 1) -> np.ndarray:
    """An image (H, W C) as steps: its rows, its columns (W, H C), or its pixels (H W, C).

    Raises:
        DataError: a row that does not hold whole pixels.
    """
    if order == "rows":
        return image
    height, wide = image.shape
    if wide % colours:
        what = f"{wide} numbers a row of an image cannot be cut into pixels of {colours}"
        raise DataError(what, hint="data.channels must divide them")
    pixels = image.reshape(height, wide // colours, colours)
    if order == "columns":
        return pixels.transpose(1, 0, 2).reshape(wide // colours, -1)
    return pixels.reshape(-1, colours)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _read(file: Path, size: Sequence[int], shape: tuple[int, ...] | None) -> np.ndarray:
    """(H, W, C), of the shape where there is one."""
    if not file.exists():
        raise DataError("does not exist", hint="paths are looked up beside the table that names them")
    from PIL import Image  # takes a while, and few runs need it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                if image.width * image.height > LARGEST:
                    raise DataError(f"has more than {LARGEST:,} pixels", hint="make it smaller")
                grey = image.mode in GREY if shape is None else shape[2] == 1
                if size:
                    pixels = image.convert("L" if grey else "RGB").resize((size[1], size[0]))
                else:
                    pixels = image.convert("L" if grey else "RGB")
                found = np.asarray(pixels, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError("is no image that can be read", hint="write it as PNG") from error
    found = found[..., None] if found.ndim == 2 else found
    if shape is not None and found.shape != shape:
        what = f"is {found.shape[0]} x {found.shape[1]} pixels, where the first is {shape[0]} x {shape[1]}"
        raise DataError(what, hint="set data.image = [HEIGHT, WIDTH] to bring all to one size")
    return found
