"""Image files as arrays (through Pillow): a column of them, or of folders with the frames of a video each.

An image is H steps of W C numbers, row by row from the top, the C colours of a pixel side by side; a video is T steps
of H W C numbers. `scanned` reads an image in another order.

H height, W width, C colours: 1 (grey) or 3
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clew.data.table import TEXTS, Table, texts
from clew.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
LARGEST = 1 << 26  # pixels of an image: what a small file may ask memory for
GREY = ("1", "L", "LA", "I", "I;16")
PROBED = 5  # cells that are looked up, to tell whether a column names folders


def names_images(table: Table, name: str) -> bool:
    """Whether most cells of a column that hold anything are the names of image files, or of folders of them."""
    cells = table.column(name).drop_nulls().to_list() if table.schema[name] in TEXTS else []
    cells = [cell.strip() for cell in map(str, cells) if cell.strip()]
    if sum(cell.lower().endswith(SUFFIXES) for cell in cells) > len(cells) / 2:
        return True
    probed = cells[:PROBED]
    return bool(probed) and all(_frames_of(_place(table, cell)) for cell in probed)


def colours_of(table: Table, column: str) -> int:
    """C of the first image. Raises DataError, with its row, where it cannot be read."""
    return _images_of(table, table.lines[0], column, texts(table, column)[0], (), 0, None)[0].shape[2]


def read_images(table: Table, column: str, size: Sequence[int], colours: int) -> list[np.ndarray]:
    """What each row names, an image (H, W C) or a video (T, H W C), uint8.

    Args:
        size: H and W that all are brought to; empty for those of the first.
        colours: C that all are brought to.

    Raises:
        DataError: with its row: no such file, no image, one of another size, one too large.
    """
    found: list[np.ndarray] = []
    shape: tuple[int, ...] | None = None
    for row, name in zip(table.lines, texts(table, column), strict=True):
        frames = _images_of(table, row, column, name, size, colours, shape)
        shape = frames[0].shape
        if _is_image(Path(name.strip())):
            found.append(frames[0].reshape(len(frames[0]), -1))
        else:
            found.append(np.stack([frame.reshape(-1) for frame in frames]))
    return found


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


def _place(table: Table, cell: str) -> Path:
    return Path(table.name).parent / cell.strip()


def _frames_of(folder: Path) -> list[Path]:
    """The images of a folder, in the order of their names, numbers in them by size; none where it is no folder."""
    try:
        files = [file for file in folder.iterdir() if _is_image(file)] if folder.is_dir() else []
    except OSError:  # a text that is too long for a name
        return []
    return sorted(
        files,
        key=lambda file: [
            (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", file.name)
        ],
    )


def _images_of(
    table: Table,
    row: int,
    column: str,
    name: str,
    size: Sequence[int],
    colours: int,
    shape: tuple[int, ...] | None,
) -> list[np.ndarray]:
    """The images (H, W, C) that a cell names, one or the frames of a video."""
    place = {"file": table.name, "row": row, "column": column}
    if not name.strip():
        raise DataError("the cell is empty", **place, hint="name an image, or drop the row")
    file, found = _place(table, name), []
    for each in _frames_of(file) or [file]:
        try:
            found.append(_read(each, size, colours, shape))
        except DataError as error:
            raise DataError(f"{each.name[:80]} {error.what}", **place, hint=error.hint) from error
        shape = found[0].shape
    return found


def _read(file: Path, size: Sequence[int], colours: int, shape: tuple[int, ...] | None) -> np.ndarray:
    """(H, W, C): of the shape where there is one, of so many colours where they are said (0: as many as it has)."""
    try:
        there = file.is_file()
    except OSError:
        there = False
    if not there:
        raise DataError("does not exist", hint="paths are looked up beside the table that names them")
    from PIL import Image  # takes a while, and few runs need it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                if image.width * image.height > LARGEST:
                    raise DataError(f"has more than {LARGEST:,} pixels", hint="make it smaller")
                if image.mode == "F":
                    raise DataError("holds fractions, where pixels are whole numbers", hint="write it as PNG")
                grey = colours == 1 or (not colours and image.mode in GREY)
                if image.mode.startswith("I"):  # 16 bits
                    image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
                if image.has_transparency_data:  # on white paper
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
                pixels = image.convert("L" if grey else "RGB")
                found = np.asarray(pixels.resize((size[1], size[0])) if size else pixels, dtype=np.uint8)
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError("is no image that can be read", hint="write it as PNG") from error
    found = found[..., None] if found.ndim == 2 else found
    if shape is not None and found.shape != shape:
        what = f"is {found.shape[0]} x {found.shape[1]} pixels, where the first is {shape[0]} x {shape[1]}"
        raise DataError(what, hint="set data.image = [HEIGHT, WIDTH] to bring all to one size")
    return found
