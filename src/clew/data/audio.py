"""Sounds: files to samples (through soundfile), and samples to log-mel frames, whole or chunk by chunk.

frame[t] = log(max(M |rfft(hann * samples[t hop - (win - hop) : t hop + hop])|^2, floor))

before the first sample is silence, so that a frame ends where its hop does: T = N // hop frames, the same ones however
the samples are cut. M has triangles that stand evenly on the mel scale, 2595 log10(1 + f / 700)
(Davis & Mermelstein 1980, doi:10.1109/TASSP.1980.1163420; the scale as O'Shaughnessy 1987 has it).

N samples, T frames, F frequencies, M mels
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clew.errors import ConfigError, DataError

SUFFIXES = (".wav", ".flac", ".ogg", ".aiff", ".aif", ".mp3")
FLOOR = 1e-10  # of a frame's power; samples are within -1 and 1
FASTEST = 1_000_000  # samples a second
LONGEST = 1 << 28  # samples of a file
BLOCK = 1 << 20  # samples that are read at once: a file may claim more than it has
UNKNOWN_SIZE = 0x7FFFF000  # bytes; from here on a header says that it does not know
LOUDEST = {"PCM_U8": 1.0 - 2**-7, "PCM_S8": 1.0 - 2**-7}  # a sample at the edge, by how samples are kept
CLIPPED = 0.1  # the share of samples at the very edge from which on a sound is refused


@dataclass(frozen=True)
class Sound:
    """The samples (N,) float32 of a file, from -1 to 1; how many a second."""

    samples: np.ndarray
    rate: int


def read_sound(file: Path, rate: int = 0) -> Sound:
    """A file of any kind that soundfile reads.

    Args:
        rate: samples a second that it must have; 0 for any.

    Raises:
        DataError: no such file, no sound, one cut short, empty, silent, clipped, of several channels or another rate.
        ConfigError: soundfile is not installed.
    """
    library = _soundfile()
    if not file.exists():
        raise DataError("no such file", file=file, hint="paths are looked up beside the table that names them")
    try:
        with library.SoundFile(str(file)) as sound:
            found, told, loudest = sound.samplerate, sound.frames, LOUDEST.get(sound.subtype, 1.0 - 2**-15)
            if sound.channels > 1:
                hint = "convert it, for example with: sox IN.wav -c 1 OUT.wav"
                raise DataError(f"has {sound.channels} channels, where one is wanted", file=file, hint=hint)
            blocks, count = [], 0
            while len(block := sound.read(BLOCK, dtype="float32")):
                blocks.append(block)
                count += len(block)
                if count > LONGEST:
                    hint = "cut it into pieces"
                    raise DataError(f"is longer than {LONGEST:,} samples", file=file, hint=hint)
    except (library.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        raise DataError("is no sound that can be read", file=file, hint="write it as WAV, 16 bit") from error
    if count < max(told, _promised(file)):
        raise DataError(f"is cut short: {count:,} samples are there", file=file, hint="copy it again")
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if not np.isfinite(samples).all():
        raise DataError("holds samples that are no numbers", file=file, hint="write it as WAV, 16 bit")
    if not samples.any():
        what = "is silent" if len(samples) else "holds no samples"
        raise DataError(what, file=file, hint="record it again, or drop its row")
    if (clipped := float((np.abs(samples) >= loudest).mean())) > CLIPPED:
        what = f"is clipped: {clipped:.0%} of its samples are as loud as a sample can be"
        raise DataError(what, file=file, hint="record it again, not as loud, or drop its row")
    if rate and found != rate:
        hint = f"convert it, for example with: sox IN.wav -r {rate} OUT.wav"
        raise DataError(f"has {found:,} samples a second, where {rate:,} are wanted", file=file, hint=hint)
    return Sound(samples, found)


def _promised(file: Path) -> int:
    """The samples that a WAV file's header says it has, which a file cut short has not; 0 where nobody says."""
    with file.open("rb") as stream:
        if stream.read(4) != b"RIFF" or stream.read(8)[4:] != b"WAVE":
            return 0
        bytes_a_step = 0
        while len(head := stream.read(8)) == 8:
            name, size = head[:4], int.from_bytes(head[4:], "little")
            if name == b"data":  # what writes into a pipe cannot know how much there will be
                return size // bytes_a_step if bytes_a_step and size < UNKNOWN_SIZE else 0
            if name == b"fmt ":
                bytes_a_step = int.from_bytes(stream.read(16)[12:14], "little")
                size -= 16
            stream.seek(size + size % 2, 1)
    return 0


@dataclass(frozen=True)
class LogMel:
    """Args:
    rate: samples a second.
    mels: M.
    window: seconds of a frame.
    hop: seconds from a frame to the next.
    """

    rate: int
    mels: int = 40
    window: float = 0.025
    hop: float = 0.010

    def __post_init__(self) -> None:
        whole = isinstance(self.rate, int) and isinstance(self.mels, int) and 1 <= self.rate <= FASTEST
        whole = whole and 0 < self.window <= 1 and 0 < self.hop <= 1
        if not (whole and 0 < self.hop_size <= self.window_size and 1 <= self.mels <= self.window_size // 2):
            what = f"{self.mels} mels of {self.window} s every {self.hop} s do not fit {self.rate:,} samples a second"
            raise ConfigError(what, hint="set data.mels lower")

    @property
    def hop_size(self) -> int:
        return round(self.rate * self.hop)

    @property
    def window_size(self) -> int:
        return round(self.rate * self.window)

    def silence(self) -> Tensor:
        """What comes before the first sample."""
        return torch.zeros(self.window_size - self.hop_size)

    def frames(self, samples_N: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """The frames (T, M) that samples complete, and what the next samples need.

        Args:
            before: `silence`, or what the samples before these left.
        """
        known = torch.cat([before, samples_N.to(torch.float32)])
        count = max(0, (len(known) - (self.window_size - self.hop_size)) // self.hop_size)
        rest = known[count * self.hop_size :]
        if not count:
            return known.new_zeros(0, self.mels), rest
        cut = known.unfold(0, self.window_size, self.hop_size)[:count]
        window_N, bank_FM = _analysis(self)
        power_TF = torch.fft.rfft(cut * window_N).abs() ** 2
        return (power_TF @ bank_FM).clamp(min=FLOOR).log(), rest

    def of(self, sound: Sound) -> np.ndarray:
        """All frames of a sound."""
        return self.frames(torch.from_numpy(sound.samples), self.silence())[0].numpy()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@functools.lru_cache(maxsize=8)
def _analysis(front: LogMel) -> tuple[Tensor, Tensor]:
    """The window (N,), and what each frequency adds to each mel, (F, M)."""
    frequencies = np.arange(front.window_size // 2 + 1) * front.rate / front.window_size
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + front.rate / 1400), front.mels + 2) / 2595) - 1)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rise = (frequencies[:, None] - low) / (middle - low)
    fall = (high - frequencies[:, None]) / (high - middle)
    bank = np.clip(np.minimum(rise, fall), 0, None)
    # The lowest mels can be narrower than the distance of two frequencies: they take the nearest one.
    for m in np.flatnonzero(bank.sum(0) == 0):
        bank[np.abs(frequencies - middle[m]).argmin(), m] = 1.0
    window = torch.hann_window(front.window_size, periodic=False, dtype=torch.float64)
    return window.float(), torch.from_numpy(bank).float()


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError as error:
        raise ConfigError("sounds need the library soundfile", hint="pip install 'clew[audio]'") from error
    return soundfile
