"""A checkpoint is written and read back bit for bit, and what does not belong together is refused."""

from pathlib import Path

import torch

from maskedit.editors.core.backbone import Backbone
from maskedit.editors.core.checkpoint import BackboneConfig
from maskedit.editors.smartedit.files import load_smartedit

CPU = BackboneConfig(device="cpu")


def test_a_checkpoint_loads_and_reads(smartedit_folder: Path) -> None:
    model = load_smartedit(smartedit_folder, CPU)
    reading = model.read(torch.rand(2, 3, 48, 64), ["make it red", "remove the cube"])
    context, features = model.condition(reading, (6, 8))
    assert context.shape == (2, 7, 32)
    assert features is not None and features.shape == (2, 16, 6, 8)
    backbone = Backbone.load(BackboneConfig(model=str(smartedit_folder), device="cpu"), "smartedit")
    assert backbone.unet.config.in_channels == 8
