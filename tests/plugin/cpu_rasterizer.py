"""A rasteriser of Gaussians in plain torch, for machines without a GPU: dense, slow, differentiable and exact.

It stands in the place of `gsplat.rasterization` where splatfacto calls it, and nowhere else: `rasterize_on_cpu` is the
single seam, and the two other lines of splatfacto that ask for CUDA (moving the intrinsics there, compiling the
camera's matrix) are answered there as well. Projection and harmonics are gsplat's own plain versions of its kernels;
compositing is written out: nearest first, alpha at most 0.999 and skipped below 1/255, as the kernels have it. Nothing
here says anything about the kernels themselves.
"""

from typing import Any

import pytest
import torch
from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci, _spherical_harmonics
from nerfstudio.models import splatfacto
from torch import Tensor


def composite_weights(
    means2d: Tensor, conics: Tensor, opacities: Tensor, seen: Tensor, depths: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Share of each Gaussian in each pixel, and the offsets of pixels from centres, whose gradients are of interest."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).reshape(-1, 2).to(means2d)
    offsets = means2d[None] - pixels[:, None]
    x, y = offsets[..., 0], offsets[..., 1]
    power = 0.5 * (conics[:, 0] * x**2 + conics[:, 2] * y**2) + conics[:, 1] * x * y
    alphas = (opacities * torch.exp(-power)).clamp(max=0.999)
    alphas = torch.where((power >= 0) & (alphas >= 1 / 255) & seen, alphas, 0.0)
    order = torch.argsort(depths)
    through = torch.cumprod(1 - alphas[:, order], dim=-1)
    before = torch.cat([torch.ones_like(through[:, :1]), through[:, :-1]], dim=-1)
    shares = torch.zeros_like(alphas).index_copy(1, order, alphas[:, order] * before)
    return shares, offsets


def rasterization(
    *,
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    render_mode: str,
    rasterize_mode: str,
    packed: bool,
    sh_degree: int | None = None,
    absgrad: bool = False,
    sparse_grad: bool = False,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """What `gsplat.rasterization` returns, for one camera."""
    assert not packed and not sparse_grad and len(viewmats) == 1
    covars, _ = _quat_scale_to_covar_preci(torch.nn.functional.normalize(quats, dim=-1), scales, compute_preci=False)
    assert covars is not None
    radii, means2d, depths, conics, compensations = _fully_fused_projection(
        means, covars, viewmats, Ks, width, height, 0.3, near_plane, far_plane, rasterize_mode == "antialiased"
    )
    opacities = opacities if compensations is None else opacities * compensations[0]
    shares, offsets = composite_weights(means2d[0], conics[0], opacities, radii[0] > 0, depths[0], height, width)
    if sh_degree is not None:
        away = means - torch.inverse(viewmats)[0, :3, 3]
        colors = (_spherical_harmonics(sh_degree, away, colors) + 0.5).clamp_min(0)
    alpha = shares.sum(dim=-1, keepdim=True)
    channels = [shares @ colors]
    if render_mode == "RGB+ED":
        channels.append(shares @ depths[0][:, None] / alpha.clamp_min(1e-10))
    if absgrad and offsets.requires_grad:
        # The kernels add up the sizes of what each pixel asks for, before opposite wishes cancel out.
        offsets.register_hook(lambda wishes: setattr(means2d, "absgrad", wishes.abs().sum(dim=0)[None]))
    info = {"width": width, "height": height, "n_cameras": 1, "radii": radii, "means2d": means2d, "gaussian_ids": None}
    shape = (1, height, width, -1)
    return torch.cat(channels, dim=-1).view(shape), alpha.view(shape), info


def rasterize_on_cpu(patch: pytest.MonkeyPatch) -> None:
    """Let splatfacto rasterise without a GPU."""
    patch.setattr(splatfacto, "rasterization", rasterization)
    patch.setattr(splatfacto, "get_viewmat", splatfacto.get_viewmat.__wrapped__)
    patch.setattr(Tensor, "cuda", lambda self: self)
