"""Arrays and images from files: as they stand, in every order, and what is wrong with them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clew.config import Data
from clew.data import inputs
from clew.data.images import scanned
from clew.data.inputs import NumberInput
from clew.data.sources import read_table
from clew.data.table import kind
from clew.errors import DataError


def saved(file: Path, **arrays: np.ndarray) -> Path:
    np.savez(file, **arrays)
    return file


def test_each_array_is_a_column(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {
        "number": random.random(5),
        "flag": random.random(5) > 0.5,
        "name": np.array(list("abcde")),
        "series": random.random((5, 7)).astype(np.float16),
        "image": random.integers(0, 255, (5, 4, 3)).astype(np.uint8),
        "video": random.random((5, 2, 4, 3, 3)).astype(np.float32),
    }
    table = read_table(saved(tmp_path / "a.npz", **arrays))
    assert table.columns == list(arrays)
    assert table.rows == 5
    kinds = [kind(table, name) for name in table.columns]
    assert kinds == ["number", "flags", "text", "numbers", "vectors", "vectors"]
    for name, shape in {"series": (7, 1), "image": (4, 3), "video": (2, 36)}.items():
        source = inputs.find(table, [name], [])
        raws = source.read(table)
        assert [raw.shape for raw in raws] == [shape] * 5
        np.testing.assert_array_equal(np.stack(raws).ravel(), arrays[name].ravel().astype(np.float64))


def test_pixels_are_scaled_alike_and_channels_each(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {"image": random.integers(0, 255, (5, 4, 3)).astype(np.uint8), "series": random.random((5, 4, 3))}
    table = read_table(saved(tmp_path / "a.npz", **arrays))

    def means(name: str, scale: str) -> int:
        source = inputs.find(table, [name], [], Data(scale=scale))
        return len(set(source.fit(source.read(table)).scaler.mean.tolist()))

    assert [means("image", scale) for scale in ("auto", "each", "all")] == [1, 3, 1]
    assert [means("series", scale) for scale in ("auto", "each", "all")] == [3, 3, 1]


def test_one_array_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(3, 2))
    assert read_table(tmp_path / "a.npy").columns == ["values"]


def npz(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name + ".npy", content)
    return out.getvalue()


def npy(array: np.ndarray, **how: bool) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **how)
    return out.getvalue()


def huge() -> bytes:
    """A header that tells of more than any machine holds."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    return out.getvalue()


BAD = {
    "no zip": (b"text", "no whole file of arrays"),
    "cut": (npz(x=npy(np.arange(100.0)))[:-40], "no whole file of arrays"),
    "cut inside": (npz(x=npy(np.arange(100.0))[:-40]), "no whole file of arrays"),
    "objects": (npz(x=npy(np.array([{}, 1], dtype=object), allow_pickle=True)), "objects of Python"),
    "no array": (npz(x=b"text"), "no whole file"),
    "complex": (npz(x=npy(np.zeros(3, complex))), "neither numbers nor texts"),
    "no rows": (npz(x=npy(np.array(3.0))), "no rows"),
    "empty": (npz(x=npy(np.zeros((0, 3)))), "no rows"),
    "of different many": (npz(x=npy(np.zeros(3)), y=npy(np.zeros(4))), "4 rows, where 'x' has 3"),
    "texts of two axes": (npz(x=npy(np.array([["a"]]))), "texts of several axes"),
    "no arrays": (npz(), "no arrays"),
    "more than there is": (npz(x=huge()), "no whole file"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(tmp_path: Path, name: str) -> None:
    content, what = BAD[name]
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=what):
        read_table(tmp_path / "a.npz")


def test_scans() -> None:
    image = np.arange(24.0).reshape(2, 12)  # two rows of four pixels of three colours
    pixels = image.reshape(2, 4, 3)
    np.testing.assert_array_equal(scanned(image, "rows", 3), image)
    np.testing.assert_array_equal(scanned(image, "pixels", 3)[5], pixels[1, 1])
    columns = scanned(image, "columns", 3)
    assert columns.shape == (4, 6)
    np.testing.assert_array_equal(columns[2], [*pixels[0, 2], *pixels[1, 2]])
    with pytest.raises(DataError, match="cannot be cut into pixels"):
        scanned(image, "columns", 5)


def pictures(folder: Path, sizes: list[tuple[int, int]], mode: str = "L") -> list[np.ndarray]:
    random, found = np.random.default_rng(0), []
    folder.mkdir(exist_ok=True)
    for i, (height, width) in enumerate(sizes):
        shape = (height, width) if mode == "L" else (height, width, 3)
        found.append(random.integers(0, 255, shape).astype(np.uint8))
        Image.fromarray(found[-1]).save(folder / f"{i}.png")
    return found


def table_of(folder: Path, names: list[str]) -> Path:
    file = folder / "t.csv"
    file.write_text("path,label\n" + "".join(f"{name},a\n" for name in names))
    return file


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images(tmp_path: Path, mode: str) -> None:
    found = pictures(tmp_path / "im", [(5, 4)] * 3, mode)
    table = read_table(table_of(tmp_path, [f"im/{i}.png" for i in range(3)]))
    source = inputs.find(table, [], ["label"])
    assert isinstance(source, NumberInput)
    assert source.layout == "images"
    for raw, image in zip(source.read(table), found, strict=True):
        np.testing.assert_array_equal(raw, image.reshape(5, -1))
    columns = inputs.find(table, [], ["label"], Data(scan="columns")).read(table)
    np.testing.assert_array_equal(columns[1], found[1].reshape(5, 4, -1).transpose(1, 0, 2).reshape(4, -1))
    fitted = source.fit(source.read(table))
    assert len(set(fitted.scaler.mean.tolist())) == 1  # pixels have one mean, wherever they stand
    assert inputs.from_json(fitted.to_json(), "plan").to_json() == fitted.to_json()


def test_videos(tmp_path: Path) -> None:
    """A folder a row, its images in the order of their names."""
    for name in "ab":
        pictures(tmp_path / name, [(4, 4)] * 3)
    table = read_table(table_of(tmp_path, ["a/", "./b"]))
    source = inputs.find(table, ["path"], ["label"], Data(image=[4, 4]))
    assert isinstance(source, NumberInput)
    raws = source.read(table)
    assert [raw.shape for raw in raws] == [(3, 16)] * 2
    assert source.fit(raws).frame == (4, 4, 1)


def test_images_of_different_size(tmp_path: Path) -> None:
    pictures(tmp_path / "im", [(5, 4), (6, 4)])
    table = read_table(table_of(tmp_path, ["im/0.png", "im/1.png"]))
    with pytest.raises(DataError, match="6 x 4 pixels, where the first is 5 x 4") as error:
        inputs.find(table, [], ["label"]).read(table)
    assert error.value.row == 3
    resized = inputs.find(table, [], ["label"], Data(image=[3, 8])).read(table)
    assert [raw.shape for raw in resized] == [(3, 8)] * 2


def test_pixels_of_other_kinds(tmp_path: Path) -> None:
    """16 bits lose their lower half, what cannot be seen through lies on white, and fractions are refused."""
    (tmp_path / "im").mkdir()
    deep = np.array([[0, 256], [40_000, 65_535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "im" / "a.png")
    ink = np.zeros((2, 2, 4), np.uint8)
    ink[0, 0, 3] = 255  # one black pixel
    Image.fromarray(ink).save(tmp_path / "im" / "b.png")
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "im" / "c.tif")
    for name, expected in {"a.png": deep // 256, "b.png": [[0, 0, 0, 255, 255, 255], [255] * 6]}.items():
        table = read_table(table_of(tmp_path, [f"im/{name}"]))
        np.testing.assert_array_equal(inputs.find(table, [], ["label"]).read(table)[0], expected)
    table = read_table(table_of(tmp_path, ["im/c.tif"]))
    with pytest.raises(DataError, match="holds fractions"):
        inputs.find(table, [], ["label"])


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    for n in (1, 2, 10):
        Image.fromarray(np.full((2, 2), n, np.uint8)).save(tmp_path / "clip" / f"frame{n}.png")
    table = read_table(table_of(tmp_path, ["clip"]))
    assert inputs.find(table, ["path"], ["label"]).read(table)[0][:, 0].tolist() == [1, 2, 10]


def test_colours_are_those_of_the_training_part(tmp_path: Path) -> None:
    pictures(tmp_path / "im", [(3, 2)], "RGB")
    Image.fromarray(np.zeros((3, 2), np.uint8)).save(tmp_path / "im" / "grey.png")
    table = read_table(table_of(tmp_path, ["im/0.png"]))
    source = inputs.find(table, [], ["label"])
    fitted = source.fit(source.read(table))
    raws = fitted.read(read_table(table_of(tmp_path, ["im/grey.png"])))
    assert fitted.encode(raws[0]).shape == (3, 6)


@pytest.mark.parametrize("text", ["a / b " * 900, "x" * 300 + "/y", "a/b\0c".replace("\0", " ")])
def test_texts_with_a_stroke_are_texts(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"{text} {i},{i % 2}\n" for i in range(9)))
    assert inputs.find(read_table(tmp_path / "t.csv"), [], ["label"]).columns == ["text"]


@pytest.mark.parametrize(
    ("content", "what"), [(b"no image", "is no image"), (None, "does not exist"), (b"", "is no image")]
)
def test_images_that_are_none(tmp_path: Path, content: bytes | None, what: str) -> None:
    pictures(tmp_path / "im", [(5, 4)] * 2)
    if content is not None:
        (tmp_path / "im" / "x.png").write_bytes(content)
    table = read_table(table_of(tmp_path, ["im/0.png", "im/1.png", "im/x.png"]))
    with pytest.raises(DataError, match=f"x.png {what}") as error:
        inputs.find(table, [], ["label"]).read(table)
    assert error.value.row == 4
