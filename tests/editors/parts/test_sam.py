"""SAM: rebuilt from the shapes of its weights as the library builds it, and masks as the library's predictor gives."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from segment_anything import SamPredictor, sam_model_registry

from maskedit.editors.core.errors import ModelError
from maskedit.editors.core.images import image_to_bytes
from maskedit.editors.parts.sam import SamMasks, build_sam, infer_sizes, load_sam

BOXES = torch.tensor([[0.0, 0.0, 30.0, 30.0], [10.0, 5.5, 50.0, 40.0], [3.0, 20.0, 20.0, 47.0]])
Make = Callable[..., torch.Tensor]


@pytest.fixture
def sam(sam_file: Path) -> SamMasks:
    return load_sam(str(sam_file), device="cpu")


@pytest.mark.parametrize("size", ["vit_b", "vit_l", "vit_h"])
def test_published_sizes_are_told_from_their_shapes(size: str) -> None:
    with torch.device("meta"):
        published = sam_model_registry[size]()
        rebuilt = build_sam(published.state_dict())
    shapes = {name: value.shape for name, value in published.state_dict().items()}
    assert {name: value.shape for name, value in rebuilt.state_dict().items()} == shapes
    # These take part in the computation and leave no trace in the shapes of the network.
    for ours, theirs in zip(rebuilt.image_encoder.blocks, published.image_encoder.blocks, strict=True):
        assert ours.window_size == theirs.window_size
        assert (ours.attn.num_heads, ours.attn.scale) == (theirs.attn.num_heads, theirs.attn.scale)
        assert ours.norm1.eps == theirs.norm1.eps
    assert rebuilt.image_encoder.img_size == published.image_encoder.img_size
    assert rebuilt.prompt_encoder.input_image_size == published.prompt_encoder.input_image_size
    assert rebuilt.prompt_encoder.image_embedding_size == published.prompt_encoder.image_embedding_size
    assert rebuilt.mask_decoder.num_mask_tokens == published.mask_decoder.num_mask_tokens
    attention = "final_attn_token_to_image"
    heads = [getattr(network.mask_decoder.transformer, attention).num_heads for network in (rebuilt, published)]
    assert heads[0] == heads[1]


def test_normalisation_is_the_published_one() -> None:
    published = sam_model_registry["vit_b"]
    with torch.device("meta"):
        weights = published().state_dict()
    rebuilt = build_sam(weights)
    assert rebuilt.get_buffer("pixel_mean").flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert rebuilt.get_buffer("pixel_std").flatten().tolist() == pytest.approx([58.395, 57.12, 57.375])


def test_every_weight_comes_from_the_file(sam_file: Path) -> None:
    stored = load_file(sam_file)
    network = build_sam(stored)
    assert all(torch.equal(value, stored[name]) for name, value in network.state_dict().items())
    assert not network.training


def test_half_precision_files_run_in_float32(sam_file: Path, tmp_path: Path) -> None:
    save_file(
        {name: value.to(torch.bfloat16) for name, value in load_file(sam_file).items()}, tmp_path / "s.safetensors"
    )
    masks = load_sam(str(tmp_path / "s.safetensors"), device="cpu").masks(torch.rand(3, 48, 80), BOXES)
    assert masks.shape == (3, 48, 80)


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (90, 60)])
def test_masks_are_those_of_the_library(sam: SamMasks, sam_file: Path, pictures: Make, size: tuple[int, int]) -> None:
    image = pictures(1, *size)
    predictor = SamPredictor(build_sam(load_file(sam_file)))
    predictor.set_image(image_to_bytes(image)[0].numpy())
    expected = [predictor.predict(box=box.numpy(), multimask_output=False)[0][0] for box in BOXES]
    masks = sam.masks(image[0], BOXES)
    assert masks.dtype == torch.bool
    for mask, reference in zip(masks, expected, strict=True):
        assert (mask.numpy() == reference).mean() > 0.999
        assert 0 < mask.float().mean() < 1


def test_a_picture_is_encoded_once(sam: SamMasks, pictures: Make) -> None:
    first, second = pictures(2, 48, 80)
    alone = sam.masks(first, BOXES[:1])
    sam.masks(second, BOXES)
    again = sam.masks(first.clone(), BOXES[:1])
    assert torch.equal(alone, again)
    assert sam.encoded == 2


def test_more_boxes_than_fit_at_once(sam: SamMasks, pictures: Make) -> None:
    picture = pictures(1, 48, 80)[0]
    many = sam.masks(picture, BOXES.repeat(7, 1))
    assert many.shape == (21, 48, 80)
    assert (many[18:] == sam.masks(picture, BOXES)).float().mean() > 0.999


def test_a_published_file_is_read_without_running_it(
    sam_file: Path, sam: SamMasks, tmp_path: Path, pictures: Make
) -> None:
    torch.save(load_file(sam_file), tmp_path / "sam.pth")
    loaded = load_sam("sam.pth", device="cpu", model_dir=tmp_path)
    picture = pictures(1, 48, 80)[0]
    assert torch.equal(loaded.masks(picture, BOXES), sam.masks(picture, BOXES))


class Harm:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("protocol", ["torch", "pickle"])
def test_a_file_that_runs_code_is_refused(tmp_path: Path, protocol: str) -> None:
    trace, path = tmp_path / "trace", tmp_path / "sam.pth"
    if protocol == "torch":
        torch.save({"image_encoder.pos_embed": Harm(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Harm(trace)))
    with pytest.raises(ModelError, match=r"sam.pth holds more than weights and may run code") as caught:
        load_sam(str(path), device="cpu")
    assert not trace.exists()
    assert "\n" not in str(caught.value)


def test_other_contents_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match=r"expected the weights of SAM in .*, got something else"):
        load_sam(str(path), device="cpu")
    save_file({"unet.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"is no SAM checkpoint .*fetch sam_vit_b, sam_vit_l or sam_vit_h"):
        load_sam(str(tmp_path / "other.safetensors"), device="cpu")
    (tmp_path / "broken.safetensors").write_bytes(b"\1" * 100)
    with pytest.raises(ModelError, match=r"cannot read the weights of SAM at .*broken.safetensors"):
        load_sam(str(tmp_path / "broken.safetensors"), device="cpu")


@pytest.mark.parametrize("damage", ["missing", "reshaped"])
def test_missing_weights_are_not_made_up(sam_file: Path, damage: str) -> None:
    weights = load_file(sam_file)
    name = "mask_decoder.iou_token.weight"
    if damage == "missing":
        del weights[name]
    else:
        weights[name] = torch.zeros(1, 5)
    with pytest.raises(ModelError, match=rf"no complete SAM checkpoint: fetch it again .*{name}") as caught:
        build_sam(weights)
    assert "\n" not in str(caught.value)


def test_windows_that_contradict_each_other_are_refused(sam_file: Path) -> None:
    shapes = {name: tuple(value.shape) for name, value in load_file(sam_file).items()}
    assert infer_sizes(shapes)["encoder"]["window_size"] == 3
    shapes["image_encoder.blocks.1.attn.rel_pos_h"] = (3, 8)
    with pytest.raises(ValueError, match=r"windows of \[2, 3\] cells"):
        infer_sizes(shapes)
