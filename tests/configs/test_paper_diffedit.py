"""The published settings of DiffEdit stay published, whatever a checkpoint's own preset says."""

from pathlib import Path

from maskedit.configs import PAPER_DIFFEDIT
from maskedit.editors import Backbone, BackboneConfig, CaptionPreset, CheckpointPreset, make_editor


def test_every_setting_is_the_papers(sd_folder: Path) -> None:
    backbone = Backbone.load(BackboneConfig(model=str(sd_folder)))
    backbone.preset = CheckpointPreset(caption=CaptionPreset(steps=3, guidance_scale=2.0, encoding_ratio=0.9))
    editor = make_editor(PAPER_DIFFEDIT.options, backbone)
    settings = editor.settings  # pyright: ignore[reportAttributeAccessIssue]
    assert (settings.steps, settings.guidance_scale) == (50, 7.5)
    assert PAPER_DIFFEDIT.options.encoding_ratio == 0.5
    assert PAPER_DIFFEDIT.options.keep_outside == "paper"
    assert (PAPER_DIFFEDIT.options.mask_threshold, PAPER_DIFFEDIT.options.mask_maps) == (0.5, 10)
    assert (PAPER_DIFFEDIT.options.mask_strength, PAPER_DIFFEDIT.options.mask_clip) == (0.5, 3.0)
