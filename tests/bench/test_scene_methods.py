"""Methods of the scene bench are flags that the plugin has, and edit as many views in as many steps."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from maskedit.bench.scene_methods import EDIT_PERIOD, METHODS, SMALL_FIELD, with_flags
from maskedit.editors import InputError
from maskedit.plugin.config import maskedit_tiny


@dataclass(frozen=True)
class _Inner:
    rate: float = 1.0
    samples: tuple[int, ...] = (3, 4)


@dataclass
class _Outer:
    inner: _Inner = field(default_factory=_Inner)
    many: dict[str, Any] = field(default_factory=lambda: {"two_words": _Inner(), "list": [{"max_res": 1}, {}]})


def test_flags_reach_what_they_name_and_nothing_else() -> None:
    given = _Outer()
    flags = {"inner.samples": 5, "many.two-words.rate": 2.0, "many.list.0.max-res": 7}
    found = with_flags(given, flags)
    assert found.inner.samples == (5,)
    assert found.many == {"two_words": _Inner(rate=2.0), "list": [{"max_res": 7}, {}]}
    assert given == _Outer()


@pytest.mark.parametrize("flag", ["inner.speed", "other", "many.list.2.max-res", "many.list.0.min-res", "inner.rate.x"])
def test_unknown_flags_are_refused(flag: str) -> None:
    with pytest.raises(InputError, match=f"no flag --{flag}: leave out the method"):
        with_flags(_Outer(), {flag: 1})


@pytest.mark.parametrize("name", METHODS)
def test_the_plugin_has_the_flags_of_every_method(name: Any) -> None:
    config = with_flags(maskedit_tiny.config, {**SMALL_FIELD, **METHODS[name].flags})
    assert config.pipeline.model.num_proposal_samples_per_ray == (24,)
    assert config.optimizers["proposal_networks"]["optimizer"].lr == 0.02
    assert config.pipeline.lower_bound == METHODS[name].flags["pipeline.lower-bound"]
    # The method of the plugin itself is as it was.
    assert maskedit_tiny.config.pipeline.model.num_levels == 16


def test_together_is_all_that_ties_views() -> None:
    full = METHODS["foi-full"].flags
    for name in ("foi", "foi-lifted", "foi-protect", "foi-anchored", "foi-shared"):
        assert METHODS[name].flags.items() <= full.items()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_edits_a_tenth_of_the_steps(name: Any) -> None:
    flags = METHODS[name].flags
    assert EDIT_PERIOD % flags["pipeline.edit-rate"] == 0
    assert 10 * flags["pipeline.edit-count"] == flags["pipeline.edit-rate"]
