"""Reading for a backbone: what goes into which branch, what is remembered, what does not fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.editors import BackboneConfig, InputError, ModelError
from maskedit.editors.core.backbone import Backbone
from maskedit.editors.parts.smartedit_options import SmartEditConfig
from maskedit.editors.smartedit.files import load_smartedit
from maskedit.editors.smartedit.model import SmartEditModel
from maskedit.editors.smartedit.reader import Reader, SmartEditTools, lay_out_reading

Pictures = Callable[..., torch.Tensor]
TEXT = "make the cube red"


@pytest.fixture(scope="session")
def loaded(smartedit_checkpoint: Path) -> SmartEditModel:
    """The model of the tiny checkpoint; never changed."""
    return load_smartedit(smartedit_checkpoint, BackboneConfig(device="cpu"))


@pytest.fixture
def reader(loaded: SmartEditModel, variant: Callable[..., Backbone]) -> Reader:
    """A reader that remembers nothing yet."""
    return Reader(loaded, variant())


def test_a_reading_is_what_the_model_says(reader: Reader, loaded: SmartEditModel, pictures: Pictures) -> None:
    image = pictures(2)
    with torch.no_grad():
        context, features = loaded.condition(loaded.read(image, [TEXT] * 2), (16, 16))
    read, seen = reader.read(image, TEXT, size=(16, 16))
    torch.testing.assert_close(read, context)
    torch.testing.assert_close(seen, features)
    assert features.abs().max() > 1e-3
    other, _ = reader.read(image, "make the cube blue", size=(16, 16))
    assert not torch.equal(other, read)


def test_a_pair_is_read_once_and_by_itself(reader: Reader, pictures: Pictures) -> None:
    both = reader.read(pictures(2), TEXT, size=(16, 16))
    assert reader.readings == 2
    again = reader.read(pictures(2)[1:], TEXT, size=(16, 16))
    assert reader.readings == 2
    for kept, first in zip(again, both, strict=True):
        assert torch.equal(kept, first[1:])
    reader.read(pictures(2)[1:], TEXT, size=(8, 16))
    assert reader.readings == 2
    reader.read(pictures(2)[1:], "make the ball red", size=(16, 16))
    reader.read(pictures(1, seed=5), TEXT, size=(16, 16))
    assert reader.readings == 4


@pytest.mark.parametrize("drop", [False, True])
def test_branches_get_what_the_released_code_gives_them(reader: Reader, pictures: Pictures, drop: bool) -> None:
    backbone, image = reader.backbone, pictures(2)
    condition = backbone.encode(image)
    made = reader.under(image, TEXT, template=0, drop_features=drop)(condition)
    context, features = reader.read(image, TEXT, size=(16, 16))
    empty = backbone.embed([""]).expand(2, -1, -1)
    assert made.branches == ("text", "image", "uncond")
    assert torch.equal(made.embeds, torch.cat([context, empty, empty]))
    assert torch.equal(made.channels, torch.cat([condition, condition, torch.zeros_like(condition)]))
    others = torch.zeros_like(features) if drop else features
    assert torch.equal(made.features, torch.cat([features, others, others]))


def test_without_features_nothing_is_added(reader: Reader, pictures: Pictures) -> None:
    condition = reader.backbone.encode(pictures())
    context, _ = reader.read(pictures(), TEXT, size=(16, 16))
    assert lay_out_reading(reader.backbone, condition, context, None).features is None


def test_the_language_model_may_be_elsewhere(
    smartedit_checkpoint: Path, pictures: Pictures, backbone: Backbone
) -> None:
    """A device without memory tells where each tensor is sent, up to the first number that would be needed."""
    model = load_smartedit(smartedit_checkpoint, BackboneConfig(device="cpu"), mllm_device="meta")
    assert (model.mllm.device.type, model.device.type) == ("meta", "cpu")
    assert model.look(pictures()).device.type == "meta"
    with pytest.raises(RuntimeError, match="meta tensor"):
        Reader(model, backbone).read(pictures(), TEXT, size=(16, 16))


def test_templates_are_those_of_the_checkpoint(reader: Reader, pictures: Pictures) -> None:
    with pytest.raises(InputError, match=r"expected a template in \[0, 0\], .* got 1: leave it out"):
        reader.read(pictures(), TEXT, template=1, size=(16, 16))
    tools = SmartEditTools(reader.backbone, SmartEditConfig(template=1), model=reader.model)
    with pytest.raises(InputError, match="got 1: leave it out"):
        tools.check()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"context_width": 64}, "reads 32 columns of its context, and its language model gives 64"),
        ({"queries": 7}, "reads 77 rows of its context, and its language model gives 7"),
        ({"unet_width": 320}, "reads 16 channels behind its first convolution, .* gives 320"),
    ],
)
def test_a_unet_of_another_shape_is_refused(
    loaded: SmartEditModel, backbone: Backbone, sizes: dict[str, Any], expected: str
) -> None:
    other = SmartEditModel(loaded.mllm, loaded.qformer, loaded.interaction, replace(loaded.architecture, **sizes))
    with pytest.raises(ModelError, match=expected):
        Reader(other, backbone)


def test_without_interaction_features_need_not_fit(loaded: SmartEditModel, backbone: Backbone) -> None:
    sizes = replace(loaded.architecture, interaction="none", unet_width=320)
    assert Reader(SmartEditModel(loaded.mllm, loaded.qformer, loaded.interaction, sizes), backbone).readings == 0


def test_tools_load_the_checkpoint_s_own_model_once(smartedit_checkpoint: Path, ip2p_folder: Path) -> None:
    loaded = Backbone.load(BackboneConfig(model=str(smartedit_checkpoint), device="cpu"), "smartedit")
    tools = SmartEditTools(loaded, SmartEditConfig())
    assert tools.reader is tools.reader
    assert tools.reader.model.architecture.queries == 77
    plain = Backbone.load(BackboneConfig(model=str(ip2p_folder), device="cpu"), "smartedit")
    with pytest.raises(ModelError, match=r"smartedit/config\.json"):
        _ = SmartEditTools(plain, SmartEditConfig()).reader
