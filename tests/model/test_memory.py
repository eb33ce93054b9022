"""What a block leaves behind: little of it can be collected later, much of it is not looked through again."""

from __future__ import annotations

import gc
import weakref

import pytest

from analyzer.model import memory


class Cycle:
    def __init__(self) -> None:
        self.own = self


@pytest.mark.parametrize("many", [1 << 30, 0])
def test_only_what_is_many_is_kept_from_the_collector(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MANY", many)
    with memory.uncollected():
        assert not gc.isenabled()
        left = weakref.ref(Cycle())
    assert gc.isenabled()
    gc.collect()
    assert (left() is None) == bool(many)
    gc.unfreeze()
