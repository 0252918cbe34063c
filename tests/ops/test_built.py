"""A build that fails installs without the compiled part, and its tests skip: so this one must not."""

from __future__ import annotations

import shutil

import pytest

from clew.ops import native


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler here")
def test_the_compiled_part_is_there_where_it_can_be() -> None:
    assert native.native_info() is not None
