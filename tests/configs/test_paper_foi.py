"""The published settings of FoI stay published, whatever a checkpoint's own preset says."""

from pathlib import Path

from maskedit.configs import PAPER_FOI
from maskedit.editors import Backbone, BackboneConfig, CheckpointPreset, FoI, FoIPreset, InstructPreset


def test_every_setting_is_the_papers(ip2p_folder: Path) -> None:
    backbone = Backbone.load(BackboneConfig(model=str(ip2p_folder)))
    backbone.preset = CheckpointPreset(
        instruct=InstructPreset(sampler="ddim", steps=3, guidance_scale=2.0, image_guidance_scale=1.0),
        foi=FoIPreset(noise_level=0.1, mask_stride=1),
    )
    settings = FoI(backbone, PAPER_FOI.options).settings
    assert (settings.sampler, settings.steps, settings.noise_level) == ("euler_ancestral", 100, 0.8)
    assert (settings.guidance_scale, settings.image_guidance_scale) == (7.5, 1.5)
    assert PAPER_FOI.options.keep_outside == "paper"
    assert PAPER_FOI.options.mask_threshold == "sample"
    assert (PAPER_FOI.options.mask_squarings, PAPER_FOI.options.mask_stride) == (3, 4)
