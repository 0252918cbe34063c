"""Whatever is done to a file, it is read or refused: never a traceback, and never for long."""

from __future__ import annotations

import gzip
import io
import random
import time

import polars as pl
import pytest

from clew.data.sources import read_table
from clew.errors import DataError

UD = "# text = Dogs\n1\tDogs\tdog\tNOUN\tNNS\t_\t2\tnsubj\t_\t_\n2\tbark\tbark\tVERB\tVBP\t_\t0\troot\t_\t_\n\n"
FILES = {
    "a.csv": 't,"na ""me",x\n1,"a,b\nc",0.5\n2,é,1.5\n3,,-2\n',
    "b.csv": "1,5;2\n3,25;4\n",
    "c.csv": "y\n1\n\n2\n",
    "a.tsv": "add\tAdd a song\tO O O\nadd\tAdd it\tO O\nplay\tPlay é\tO O\n",
    "a.txt": "Once upon a time,\r\nthere was é.\n",
    "a.jsonl": '{"a": 1, "b": "é", "c": [1, 2.5], "d": [[1, 2]]}\n{"a": null, "b": "x", "e": ["x"], "f": true}\n',
    "a.conll": "EU\tB-ORG\nrejects\tO\n\nPeter\tB-PER\n",
    "b.conll": "EU  B-ORG\nrejects O\n\nPeter B-PER\n",
    "a.conllu": UD + UD,
    "a.ts": "@dimensions 2\n@equalLength true\n@seriesLength 2\n@classLabel true a b\n@data\n1,2:3,4:a\n5,6:7,8:b\n",
}


def parquet() -> bytes:
    out = io.BytesIO()
    frame = pl.DataFrame(
        {"a": [1.5, None] * 20, "b": ["x", "yy"] * 20, "c": [[1, 2], []] * 20, "d": [[["x"]], []] * 20}
    )
    frame.write_parquet(out)
    return out.getvalue()


def contents() -> list[tuple[str, bytes]]:
    plain = [(name, text.encode()) for name, text in FILES.items()]
    return [*plain, *((f"{name}.gz", gzip.compress(content)) for name, content in plain), ("a.parquet", parquet())]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One to three bytes flipped, left out, put in or doubled; the end cut off; a line doubled or left out."""
    broken = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at, what = rng.randrange(len(broken) + 1), rng.choice("flip cut insert special end line")
        if what == "f":
            broken[at : at + 1] = bytes(byte ^ (1 << rng.randrange(8)) for byte in broken[at : at + 1])
        elif what == "c":
            del broken[at : at + rng.randint(1, 9)]
        elif what == "i":
            broken[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 4)))
        elif what == "s":
            broken[at:at] = rng.choice([b'"', b"\n", b"\r", b"\t", b",", b":", b";", b"\0", b"@", b"#", b"[", b"\x85"])
        elif what == "e":
            del broken[at:]
        else:
            lines = broken.splitlines(keepends=True)
            if lines:
                i = rng.randrange(len(lines))
                lines[i : i + 1] = [lines[i]] * rng.choice([0, 2])
            broken = bytearray(b"".join(lines))
    return bytes(broken)


@pytest.mark.parametrize(("name", "content"), contents(), ids=lambda x: x if isinstance(x, str) else "")
def test_damage(tmp_path, name, content):
    path, rng = tmp_path / name, random.Random(name)
    path.write_bytes(content)
    assert read_table(path).frame.height, "whole, it is read"
    errors: list[DataError] = []
    before = time.perf_counter()
    for _ in range(300):
        path.write_bytes(damaged(content, rng))
        try:
            table = read_table(path)
            assert table.frame.height == table.rows == len(table.lines) > 0
            assert table.frame.columns == table.columns
        except DataError as error:
            errors.append(error)
    assert len(errors) > 10, "the damage does harm"
    assert all(error.file == str(path) and error.hint for error in errors)
    assert time.perf_counter() - before < 30, "it takes 0.5 s on a machine that does nothing else"
