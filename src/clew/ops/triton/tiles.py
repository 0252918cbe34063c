"""How large tiles are, and how many warps work on one: by kernel, as they were measured on a device, else a guess.

`clew doctor --tune` measures on the GPU that is there (`tune`) and keeps what it found by the device's name in a folder
of the user's; what this package has measured lies beside this file, likewise by name.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch

Sizes = dict[str, int]

# numbers: of all sides of a tile together, where one of them follows from the others
GUESS: dict[str, Sizes] = {
    "elementwise": {"steps": 64, "columns": 32, "num_warps": 4, "num_stages": 3},
    "selective": {"steps": 16, "numbers": 2048, "num_warps": 4, "num_stages": 3},
    "matrix": {"steps": 32, "numbers": 4096, "num_warps": 4, "num_stages": 1},
    "matrix backward": {"steps": 16, "numbers": 2048, "num_warps": 8, "num_stages": 1},
    "classical": {},  # by `classical.shape_name`: how fast it is in percent of cuDNN
}
WORTH = 105  # percent
CHOICES: dict[str, dict[str, tuple[int, ...]]] = {
    "elementwise": {"steps": (16, 64, 128), "columns": (16, 32, 64), "num_warps": (2, 4, 8)},
    "selective": {"steps": (8, 16, 32), "numbers": (1024, 2048, 4096), "num_warps": (4, 8)},
    "matrix": {"steps": (16, 32, 64), "numbers": (1024, 2048, 4096), "num_warps": (4, 8)},
    "matrix backward": {"steps": (16, 32), "numbers": (1024, 2048, 4096), "num_warps": (4, 8)},
}
_trying: dict[str, Sizes] = {}


def of(kernel: str, device: torch.device) -> Sizes:
    """Of a kernel's tiles on a device."""
    return _trying.get(kernel) or GUESS[kernel] | _measured(name_of(device)).get(kernel, {})


def trying(kernel: str, sizes: Sizes | None) -> None:
    """Take these from now on, or what is known; for measuring them."""
    _trying.pop(kernel, None) if sizes is None else _trying.update({kernel: sizes})


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"


def programs(device: torch.device) -> int:
    """How many run side by side at least."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def file_of(name: str, folder: Path | None = None) -> Path:
    """Where a device's sizes are kept; without a folder, in the user's."""
    folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clew" / "tiles"
    return folder / f"{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')}.json"


def keep(name: str, found: Mapping[str, Sizes], folder: Path | None = None) -> Path:
    """Write what was measured on a device; what was known of other kernels stays."""
    path = file_of(name, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_read(path) | dict(found), indent=1) + "\n")
    _measured.cache_clear()
    return path


@functools.cache
def _measured(name: str) -> dict[str, Sizes]:
    return _read(file_of(name, Path(__file__).parent / "measured")) | _read(file_of(name))


def _read(path: Path) -> dict[str, Sizes]:
    """What a file says of kernels; what could not have been measured is passed over."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    kernels = found.items() if isinstance(found, dict) else ()
    return {kernel: sizes for kernel, sizes in kernels if isinstance(sizes, dict) and _possible(kernel, sizes)}


def _possible(kernel: str, sizes: Sizes) -> bool:
    if kernel == "classical":
        return all(type(percent) is int for percent in sizes.values())
    choices = CHOICES.get(kernel, {})
    return all(n in choices.get(name, (GUESS.get(kernel, {}).get(name),)) for name, n in sizes.items())
