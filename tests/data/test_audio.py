"""Sounds to frames: chunks are wholes, a tone is where it belongs, and what is wrong with a file is said."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from clew.data.audio import FLOOR, LogMel, Sound, read_sound
from clew.data.sounds import find_sounds
from clew.data.sources import read_table
from clew.errors import ConfigError, DataError

soundfile = pytest.importorskip("soundfile")
RATE = 8000


def tone(frequency: float, seconds: float = 0.3, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def test_chunks_are_the_whole() -> None:
    front, samples = LogMel(RATE, 24), torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, 3000)).float()
    whole = front.of(Sound(samples.numpy(), RATE))
    assert whole.shape == (3000 // front.hop_size, 24)
    random = np.random.default_rng(1)
    for _ in range(20):
        pieces, rest, at = [], front.silence(), 0
        while at < len(samples):
            n = int(random.integers(0, 400))
            frames, rest = front.frames(samples[at : at + n], rest)
            pieces.append(frames)
            at += n
        np.testing.assert_allclose(torch.cat(pieces).numpy(), whole, rtol=1e-5, atol=1e-5)


def test_a_frame_is_what_the_equation_says() -> None:
    """Of its last window of samples, silence before the first; nothing later is seen."""
    front, x = LogMel(RATE, 6), np.random.default_rng(0).normal(0, 0.1, 500).astype(np.float32)
    frames = front.of(Sound(x, RATE))
    known = np.concatenate([np.zeros(front.window_size - front.hop_size), x])
    window = np.hanning(front.window_size)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), 8) / 2595) - 1)
    frequencies = np.fft.rfftfreq(front.window_size, 1 / RATE)
    for t in (0, 3, len(frames) - 1):
        power = np.abs(np.fft.rfft(window * known[t * front.hop_size :][: front.window_size])) ** 2
        bank = [np.interp(frequencies, edges[m : m + 3], [0, 1, 0]) for m in range(6)]
        np.testing.assert_allclose(frames[t], np.log(np.maximum(bank @ power, FLOOR)), rtol=1e-4, atol=1e-4)


def test_a_tone_is_where_it_belongs() -> None:
    loudest = [int(LogMel(RATE, 20).of(Sound(tone(f), RATE))[10:].mean(0).argmax()) for f in (200, 600, 1500, 3500)]
    assert loudest == sorted(set(loudest))


def test_frames_that_cannot_be(tmp_path: Path) -> None:
    for settings in ({"mels": 200}, {"hop": 0.05}, {"hop": 0.0}, {"mels": 0}):
        with pytest.raises(ConfigError, match="do not fit"):
            LogMel(RATE, **settings)
    assert np.isfinite(LogMel(RATE, 80).of(Sound(tone(440), RATE))).all()


def write(folder: Path, name: str, samples: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(folder / name, samples, rate)
    return folder / name


def test_what_is_wrong_with_a_sound_is_said(tmp_path: Path) -> None:
    good = write(tmp_path, "good.wav", tone(440))
    whole = good.read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.wav").write_text("this is no sound " * 20)
    (tmp_path / "nothing.wav").write_bytes(b"")
    write(tmp_path, "silent.wav", np.zeros(2000, np.float32))
    write(tmp_path, "empty.wav", np.zeros(0, np.float32))
    write(tmp_path, "stereo.wav", np.stack([tone(440), tone(220)], 1))
    write(tmp_path, "loud.wav", np.clip(9 * tone(440), -1, 1))
    write(tmp_path, "fast.wav", tone(440, rate=16000), 16000)
    for name, says in {
        "cut": "is cut short: [0-9,]+ samples are there",
        "text": "is no sound that can be read",
        "nothing": "is no sound that can be read",
        "silent": "is silent",
        "empty": "holds no samples",
        "stereo": "has 2 channels, where one is wanted",
        "loud": "is clipped: 8[0-9]% of its samples",
        "fast": "has 16,000 samples a second, where 8,000 are wanted",
        "none": "no such file",
    }.items():
        with pytest.raises(DataError, match=says) as error:
            read_sound(tmp_path / f"{name}.wav", RATE)
        assert error.value.hint
    found = read_sound(good)
    assert found.rate == RATE
    np.testing.assert_allclose(found.samples, tone(440), atol=1e-4)


def test_what_a_header_says(tmp_path: Path) -> None:
    """Comments before the samples, lengths that a pipe could not know and samples of 8 and 24 bits are no mistake."""
    with soundfile.SoundFile(tmp_path / "told.wav", "w", RATE, 1) as sound:
        sound.comment = "metadata: training data"
        sound.write(tone(440))
    for subtype in ("PCM_U8", "PCM_24", "FLOAT"):
        soundfile.write(tmp_path / f"{subtype}.wav", tone(440), RATE, subtype=subtype)
    raw = bytearray(write(tmp_path, "pipe.wav", tone(440)).read_bytes())
    raw[40:44] = (0x7FFFF000).to_bytes(4, "little")
    (tmp_path / "pipe.wav").write_bytes(raw)
    for file in tmp_path.iterdir():
        np.testing.assert_allclose(read_sound(file).samples, tone(440), atol=0.01)
    soundfile.write(tmp_path / "loud.wav", np.clip(9 * tone(440), -1, 1), RATE, subtype="PCM_U8")
    with pytest.raises(DataError, match="is clipped"):
        read_sound(tmp_path / "loud.wav")


def test_a_file_may_not_be_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.data.audio.LONGEST", 1000)
    with pytest.raises(DataError, match="is longer than 1,000 samples"):
        read_sound(write(tmp_path, "a.wav", tone(440)))


def test_the_row_of_a_bad_sound_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.wav", tone(440))
    write(tmp_path, "b.wav", np.zeros(900, np.float32))
    write(tmp_path, "c.wav", tone(440)[:50])
    for last, says in {
        "b.wav": "b.wav is silent",
        "c.wav": "c.wav is shorter than one frame",
        "d.wav": "there is no file d.wav",
        " ": "the cell is empty",
    }.items():
        (tmp_path / "list.csv").write_text(f"path,text\na.wav,one\n{last},two\na.wav,three\n")
        table = read_table(tmp_path / "list.csv")
        source = find_sounds(table, table.columns, 20)
        assert source is not None
        with pytest.raises(DataError, match=re.escape(f"list.csv, row 3, column 'path': {says}")):
            source.read(table)


def test_sounds_alone_are_a_table(tmp_path: Path) -> None:
    files = [write(tmp_path, name, tone(440)) for name in ("b.wav", "a.wav")]
    one, both = read_table(files[0]), read_table(tmp_path)
    assert (one.columns, one.rows, both.rows) == (["file"], 1, 2)
    assert both.column("file").to_list() == [str(file) for file in sorted(files)]
    assert one.sha256 != both.sha256


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "a.wav", tone(440))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ConfigError, match="sounds need the library soundfile"):
        read_sound(file)
