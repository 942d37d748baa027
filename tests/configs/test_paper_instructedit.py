"""The published settings of InstructEdit stay published, whatever a checkpoint's own preset says."""

from pathlib import Path

from maskedit.configs import PAPER_INSTRUCTEDIT
from maskedit.editors import Backbone, BackboneConfig, CaptionPreset, CheckpointPreset, make_editor


def test_every_setting_is_the_papers(sd_folder: Path) -> None:
    backbone = Backbone.load(BackboneConfig(model=str(sd_folder)))
    backbone.preset = CheckpointPreset(caption=CaptionPreset(steps=3, guidance_scale=2.0, encoding_ratio=0.9))
    editor = make_editor(PAPER_INSTRUCTEDIT.options, backbone)
    settings = editor.settings  # pyright: ignore[reportAttributeAccessIssue]
    assert (settings.steps, settings.guidance_scale) == (50, 7.5)
    assert PAPER_INSTRUCTEDIT.options.encoding_ratio == 0.5
    assert PAPER_INSTRUCTEDIT.options.keep_outside == "paper"
    assert PAPER_INSTRUCTEDIT.options.language.provider == "openai"
    assert PAPER_INSTRUCTEDIT.options.captioner.enabled
    assert PAPER_INSTRUCTEDIT.options.grounding.segmenter == "grounded-sam"
