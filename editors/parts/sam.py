"""Segment Anything of any size: the network is rebuilt from the shapes of its weights, then boxes become masks.

Source: Segment Anything, arXiv 2304.02643, in the package of its authors. The published files carry weights only and
leave it to the user to say whether they are vit_b, vit_l or vit_h; the shapes say it as well.
"""

import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from segment_anything import SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor

from ..core.backbone import resolve_device
from ..core.caching import Remembered, picture_key
from ..core.errors import ModelError
from ..core.images import image_to_bytes
from ..core.loading import quiet_loading
from .places import locate_sam

_DECODER_HEADS = 8
"""Heads of the mask decoder in every published SAM; the only number that no shape tells."""
_PIXEL_MEAN = (123.675, 116.28, 103.53)
_PIXEL_STD = (58.395, 57.12, 57.375)
_BOXES_AT_ONCE = 16
_PICTURES_KEPT = 32


class SamMasks:
    """Fills boxes in; a picture is encoded once, however many boxes and calls it takes part in."""

    def __init__(self, network: Sam) -> None:
        """Hold a network that is already on its device; `load_sam` makes one from a file."""
        self._predictor = SamPredictor(network)
        self._known: Remembered[tuple[Tensor, tuple[int, int]]] = Remembered(_PICTURES_KEPT)
        self.encoded = 0
        """How many pictures were encoded so far."""

    @torch.no_grad()
    def masks(
        self, picture: Float[Tensor, "3 height width"], boxes: Float[Tensor, "boxes 4"]
    ) -> Bool[Tensor, "boxes height width"]:
        """What each box (x1 y1 x2 y2 in pixels) is about, on the network's device."""
        predictor, size = self._predictor, (int(picture.shape[-2]), int(picture.shape[-1]))
        features, inner = self._known.get(picture_key(picture), lambda: self._encode(picture))
        predictor.features, predictor.input_size, predictor.original_size = features, inner, size
        predictor.is_image_set = True
        prompts = predictor.transform.apply_boxes_torch(boxes.to(predictor.device), size)
        return torch.cat(
            [
                predictor.predict_torch(None, None, boxes=some, multimask_output=False)[0][:, 0]
                for some in prompts.split(_BOXES_AT_ONCE)
            ]
        )

    def _encode(self, picture: Tensor) -> tuple[Tensor, tuple[int, int]]:
        self.encoded += 1
        self._predictor.set_image(np.ascontiguousarray(image_to_bytes(picture[None])[0].cpu().numpy()))
        # The library declares both as None, which they are before the first picture.
        predictor: Any = self._predictor
        rows, columns = predictor.input_size
        return predictor.features, (int(rows), int(columns))


def load_sam(name: str, *, device: torch.device | str, model_dir: Path | None = None) -> SamMasks:
    """Load SAM from a file.

    Args:
        name: a .safetensors file, or a published .pth, which is read without running anything in it.
        device: where it runs.
        model_dir: folder in which the file is looked up first.

    Raises:
        ModelError: if the file is missing, holds more than weights, or is no SAM.
    """
    place, _ = resolve_device(str(device), "float32")
    path = locate_sam(name, model_dir=model_dir)
    return SamMasks(build_sam(_read_weights(path), source=str(path)).to(place))


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with quiet_loading():
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than weights and may run code: fetch the published SAM, or convert it to safetensors"
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"cannot read the weights of SAM at {path}: {first}") from error
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise ModelError(f"expected the weights of SAM in {path}, got something else: fetch the published file")
    return stored


def build_sam(weights: Mapping[str, Tensor], *, source: str = "these weights") -> Sam:
    """The network that weights belong to, in float32, with every one of them; nothing is left at random.

    Raises:
        ModelError: if they are no SAM's, or some are missing.
    """
    try:
        options = infer_sizes({name: tuple(value.shape) for name, value in weights.items()})
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"{source} is no SAM checkpoint ({error}): fetch sam_vit_b, sam_vit_l or sam_vit_h") from error
    # On this device the random weights that are replaced below cost nothing; Sam's own two constants need real ones.
    with torch.device("meta"):
        decoder = options["decoder"]
        parts = (
            ImageEncoderViT(**options["encoder"]),
            PromptEncoder(**options["prompt"]),
            MaskDecoder(**decoder, transformer=TwoWayTransformer(**options["transformer"])),
        )
    network = Sam(*parts, pixel_mean=list(_PIXEL_MEAN), pixel_std=list(_PIXEL_STD))
    try:
        network.load_state_dict({name: value.float() for name, value in weights.items()}, strict=True, assign=True)
    except RuntimeError as error:
        detail = " ".join(line.strip() for line in str(error).splitlines()[1:2])
        raise ModelError(f"{source} is no complete SAM checkpoint: fetch it again ({detail[:200]})") from error
    return network.requires_grad_(False).eval()


def infer_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, Any]]:
    """What to build, from the shapes of the weights: options of the encoder, the prompts, the decoder, its transformer.

    Raises:
        KeyError: if a weight that tells a size is missing.
        ValueError: if blocks contradict each other.
    """
    _, grid, _, width = shapes["image_encoder.pos_embed"]
    patch = shapes["image_encoder.patch_embed.proj.weight"][-1]
    depth = _count(shapes, "image_encoder.blocks.")
    spans = [(shapes[f"image_encoder.blocks.{i}.attn.rel_pos_h"][0] + 1) // 2 for i in range(depth)]
    windows = {span for span in spans if span != grid}
    if len(windows) > 1 or not depth:
        raise ValueError(f"blocks with windows of {sorted(windows)} cells")
    channels = shapes["image_encoder.neck.0.weight"][0]
    layer = "mask_decoder.transformer.layers.0."
    return {
        "encoder": {
            "img_size": grid * patch,
            "patch_size": patch,
            "embed_dim": width,
            "depth": depth,
            "num_heads": width // shapes["image_encoder.blocks.0.attn.rel_pos_h"][1],
            "mlp_ratio": shapes["image_encoder.blocks.0.mlp.lin1.weight"][0] / width,
            "out_chans": channels,
            "use_rel_pos": True,
            "norm_layer": partial(torch.nn.LayerNorm, eps=1e-6),
            "window_size": windows.pop() if windows else 0,
            "global_attn_indexes": tuple(i for i, span in enumerate(spans) if span == grid),
        },
        "prompt": {
            "embed_dim": channels,
            "image_embedding_size": (grid, grid),
            "input_image_size": (grid * patch, grid * patch),
            "mask_in_chans": shapes["prompt_encoder.mask_downscaling.3.weight"][0],
        },
        "decoder": {
            "transformer_dim": channels,
            "num_multimask_outputs": shapes["mask_decoder.mask_tokens.weight"][0] - 1,
            "iou_head_depth": _count(shapes, "mask_decoder.iou_prediction_head.layers."),
            "iou_head_hidden_dim": shapes["mask_decoder.iou_prediction_head.layers.0.weight"][0],
        },
        "transformer": {
            "depth": _count(shapes, "mask_decoder.transformer.layers."),
            "embedding_dim": channels,
            "mlp_dim": shapes[layer + "mlp.lin1.weight"][0],
            "num_heads": _DECODER_HEADS,
            "attention_downsample_rate": channels // shapes[layer + "cross_attn_token_to_image.q_proj.weight"][0],
        },
    }


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})
