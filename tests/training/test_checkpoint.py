"""Files that survive kills, full disks and damage; CLEW_KILLS=1000 makes the long run."""

from __future__ import annotations

import builtins
import errno
import json
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from clew.errors import RunError
from clew.training import checkpoint, load_weights, read_json, save_weights, weights, write_atomic

KILLS = int(os.environ.get("CLEW_KILLS", "20"))
DAMAGES = int(os.environ.get("CLEW_DAMAGES", "100"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_strange_tensors_go_round(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    tensors = {
        "base": base,
        "shared": base,
        "strided": base.T[1:],
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "bits": torch.tensor([True, False]),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "learns": nn.Parameter(torch.ones(2)),
    }
    path = checkpoint.save(tmp_path, 7, tensors, {"note": 'say "é"', "big": 1e300})
    saved, skipped = checkpoint.newest(tmp_path)
    assert saved is not None
    assert saved.step == 7
    assert saved.meta == {"note": 'say "é"', "big": 1e300}
    assert not skipped
    assert saved.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(saved.tensors[name], value)
        assert saved.tensors[name].dtype == value.dtype
    first = path.read_bytes()
    checkpoint.save(tmp_path, 7, tensors, {"note": 'say "é"', "big": 1e300})
    assert path.read_bytes() == first  # equal content, equal bytes
    assert safetensors.torch.load_file(path).keys() == tensors.keys()  # any library reads it


def test_the_newest_two_stay(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) == (None, [])
    (tmp_path / ".step-000000001.safetensors.99.tmp").write_bytes(b"half")
    (tmp_path / "mine.txt").write_text("not a checkpoint")
    for step in (10, 20, 30):
        checkpoint.save(tmp_path, step, {}, {})
    assert names(tmp_path) == ["mine.txt", "step-000000020.safetensors", "step-000000030.safetensors"]
    checkpoint.save(tmp_path, 25, {}, {})  # 30 is of another run now
    assert names(tmp_path)[1:] == ["step-000000020.safetensors", "step-000000025.safetensors"]
    checkpoint.clear(tmp_path)
    assert names(tmp_path) == ["mine.txt"]


def test_kill_9_in_the_middle_of_a_save(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("killer.py")), str(tmp_path), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20 + KILLS)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert found["kills"] == KILLS
    assert found["in the middle"] >= KILLS // 2
    assert (found["lost"], found["damaged"], found["left over"]) == (0, 0, 0)


def damage(content: bytes, draw: random.Random) -> bytes:
    kind = draw.choice(["flip", "flip", "header", "cut", "empty", "zeros", "long"])
    if kind in ("flip", "header"):
        place = draw.randrange(len(content) if kind == "flip" else min(400, len(content)))
        return content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]
    cut = draw.randrange(len(content))
    return {
        "cut": content[:cut],
        "empty": b"",
        "zeros": content[:cut] + bytes(len(content) - cut),
        "long": content + b"x",
    }[kind]


def test_damaged_files_are_skipped(tmp_path: Path) -> None:
    draw = random.Random(1)
    tensors = {"a": torch.randn(300), "b": torch.randn(2, 3)}
    checkpoint.save(tmp_path, 1, tensors, {"n": 1})
    content = checkpoint.save(tmp_path, 2, tensors, {"n": 2}).read_bytes()
    for _ in range(DAMAGES):
        (tmp_path / "step-000000002.safetensors").write_bytes(damage(content, draw))
        saved, skipped = checkpoint.newest(tmp_path)
        assert saved is not None
        assert saved.step == 1
        assert len(skipped) == 1
        assert torch.equal(saved.tensors["a"], tensors["a"])
    (tmp_path / "step-000000002.safetensors").write_bytes((tmp_path / "step-000000001.safetensors").read_bytes())
    assert checkpoint.newest(tmp_path)[1] == ["step-000000002.safetensors is no checkpoint of this step"]
    (tmp_path / "step-000000002.safetensors").write_bytes(safetensors.torch.save(tensors))  # without a checksum
    assert len(checkpoint.newest(tmp_path)[1]) == 1


CALLS = {"open": (builtins, "open"), "fsync": (os, "fsync"), "replace": (os, "replace")}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk(call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    tensors = {"a": torch.ones(5)}
    checkpoint.save(tmp_path, 1, tensors, {})
    before = names(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(*CALLS[call], fail)
        with pytest.raises(RunError, match=r"step-000000002\.safetensors: cannot be written") as caught:
            checkpoint.save(tmp_path, 2, tensors, {})
    assert ("make room" in str(caught.value)) == (code == errno.ENOSPC)
    assert names(tmp_path) == before
    saved, skipped = checkpoint.newest(tmp_path)
    assert saved is not None
    assert saved.step == 1
    assert not skipped


def test_a_write_that_the_kernel_cuts_short(tmp_path: Path) -> None:
    """A limit on the size of files fails as a full disk does: in the middle of the write."""
    path = tmp_path / "model.safetensors"
    save_weights(path, nn.Linear(2, 2))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(RunError, match="make room"):
            save_weights(path, nn.Linear(100, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert names(tmp_path) == ["model.safetensors"]


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "none", tmp_path]).returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        checkpoint.save(tmp_path, 1, {"a": torch.ones(2000)}, {})
        for size in (16_000, 20_000, 100_000):
            with pytest.raises(RunError, match="make room"):
                checkpoint.save(tmp_path, 2, {"a": torch.ones(size)}, {})
            assert names(tmp_path) == ["step-000000001.safetensors"]
        assert checkpoint.newest(tmp_path)[0] is not None
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_second_ctrl_c_during_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    write_atomic(tmp_path / "a.json", "[1]")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomic(tmp_path / "a.json", "[2]")
    assert read_json(tmp_path / "a.json") == [1]
    assert names(tmp_path) == ["a.json"]


def test_json_errors(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is missing"):
        read_json(tmp_path / "none.json")
    for content in ("{", "", "[" * 100_000, b"\xff\xfe\x00"):
        write_atomic(tmp_path / "a.json", content)
        with pytest.raises(RunError, match=r"a\.json: is damaged"):
            read_json(tmp_path / "a.json")
    with pytest.raises(RunError, match=r"cannot be written.*\n.*folder exists"):
        write_atomic(tmp_path / "no" / "a.json", "")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.register_buffer("empty", torch.zeros(0))


def test_weights_go_round(tmp_path: Path) -> None:
    module, other = Tied(), Tied()
    save_weights(tmp_path / "m", module)
    load_weights(tmp_path / "m", other)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in module.state_dict().items())
    assert other.a.weight is other.b.weight
    safetensors.torch.save_file({"weight": torch.ones(1, 2), "bias": torch.ones(1)}, tmp_path / "other")
    linear = nn.Linear(2, 1)
    load_weights(tmp_path / "other", linear)  # from another program: no checksum
    assert linear.bias.item() == 1


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    save_weights(tmp_path / "m", nn.Linear(2, 3))
    wider, module = nn.Linear(4, 3), Tied()
    before = {k: v.clone() for k, v in wider.state_dict().items()}
    with pytest.raises(RunError, match=r"wrong shape: 'weight' is \(3, 2\), the model's is \(3, 4\)"):
        load_weights(tmp_path / "m", wider)
    assert all(torch.equal(v, wider.state_dict()[k]) for k, v in before.items())
    with pytest.raises(RunError, match=r"missing: 'empty', 'a\.weight', .* and 1 more; unexpected: 'bias', 'weight'"):
        load_weights(tmp_path / "m", module)
    with pytest.raises(RunError, match="is missing"):
        load_weights(tmp_path / "none", module)
    with pytest.raises(RunError, match="cannot be read"):
        load_weights(tmp_path, module)


def test_attacks_on_weights(tmp_path: Path) -> None:
    huge = (2**62).to_bytes(8, "little")
    liar = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    deep = json.dumps({"__metadata__": {"clew": "[" * 50_000}}).encode()
    contents = [
        huge + b"{}",
        b"\x00" * 8,
        len(liar).to_bytes(8, "little") + liar,
        len(deep).to_bytes(8, "little") + deep,
    ]
    contents += [len(body).to_bytes(8, "little") + body for body in (b'{"__metadata__":{"clew":"[1]"}}', b"[]", b"{")]
    contents += [len(body).to_bytes(8, "little") + body for body in (b'{"__metadata__":{"clew":"{\\"sha256\\": 3}"}}',)]
    for content in contents:
        (tmp_path / "m").write_bytes(content)
        with pytest.raises(RunError, match="is damaged"):
            load_weights(tmp_path / "m", nn.Linear(1, 1))
    good = weights.pack(nn.Linear(5, 5).state_dict(), {})
    draw = random.Random(2)
    for _ in range(DAMAGES):
        (tmp_path / "m").write_bytes(damage(good, draw))
        with pytest.raises(RunError):
            load_weights(tmp_path / "m", nn.Linear(5, 4))
