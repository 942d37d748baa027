"""Flags of editors: what is shared, what is one editor's own, and what a complaint names."""

from dataclasses import replace

import pytest

from maskedit.app.options import SHARED, FoIFlags, OptionError, SharedFlags, join_options, split_options
from maskedit.editors import FoIConfig, IP2PConfig


def test_flags_join_to_the_options_of_either_editor() -> None:
    shared, foi = SharedFlags(steps=7, keep_outside="paper"), FoIFlags(boost=0.2)
    assert join_options("ip2p", shared, foi) == IP2PConfig(steps=7, keep_outside="paper")
    assert join_options("foi", shared, foi) == FoIConfig(steps=7, keep_outside="paper", boost=0.2)
    assert type(join_options("foi", shared, foi)) is FoIConfig


@pytest.mark.parametrize("options", [IP2PConfig(steps=3), FoIConfig(mask_threshold="sample", size=64), FoIConfig()])
def test_splitting_is_undone_by_joining(options: IP2PConfig | FoIConfig) -> None:
    name = "foi" if isinstance(options, FoIConfig) else "ip2p"
    assert join_options(name, *split_options(options)) == options


def test_flags_start_from_the_editors_own_defaults() -> None:
    assert join_options("foi", SharedFlags(), FoIFlags()) == FoIConfig()
    assert join_options("ip2p", SharedFlags(), FoIFlags()) == IP2PConfig()


def test_complaints_name_the_flag() -> None:
    with pytest.raises(OptionError, match=r"^--guidance-scale must be above 1, got 0.5"):
        SharedFlags(guidance_scale=0.5)
    with pytest.raises(OptionError, match=r"^--foi.mask-threshold must be in \(0, 1\], got 2"):
        FoIFlags(mask_threshold=2.0)


def test_options_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(OptionError, match=r"rerun_first_step|rerun-first-step"):
        replace(FoIFlags(), rerun_first_step=True, extract_at=0.5)


def test_every_shared_option_exists_in_every_editor() -> None:
    assert {"steps", "keep_outside", "guidance_scale"} <= set(SHARED)
    assert set(SHARED) <= set(FoIConfig.__dataclass_fields__)
