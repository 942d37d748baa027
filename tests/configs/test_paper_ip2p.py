"""The published settings of InstructPix2Pix stay published, whatever a checkpoint's own preset says."""

from pathlib import Path

from maskedit.configs import PAPER_IP2P
from maskedit.editors import IP2P, Backbone, BackboneConfig, CheckpointPreset, InstructPreset


def test_every_setting_is_the_papers(ip2p_folder: Path) -> None:
    backbone = Backbone.load(BackboneConfig(model=str(ip2p_folder)))
    backbone.preset = CheckpointPreset(
        instruct=InstructPreset(sampler="ddim", steps=3, guidance_scale=2.0, image_guidance_scale=1.0)
    )
    settings = IP2P(backbone, PAPER_IP2P.options).settings
    assert (settings.sampler, settings.steps, settings.noise_level) == ("euler_ancestral", 100, 1.0)
    assert (settings.guidance_scale, settings.image_guidance_scale) == (7.5, 1.5)
    assert PAPER_IP2P.options.keep_outside == "paper"
