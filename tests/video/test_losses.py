"""The losses of a fit."""

import torch
import torch.nn.functional as F

from maskedit.video.fields import DenseDeformation, FieldShape
from maskedit.video.losses import color_loss, flow_loss, gradient_loss

SHAPE = FieldShape(frames=4, height=16, width=32, margin=8)


def translating(per_frame: tuple[float, float]) -> DenseDeformation:
    """Offsets that undo a translation of so many pixels (x, y) a frame."""
    field = DenseDeformation(SHAPE, finest_cell=4.0)
    shift = torch.tensor([-per_frame[0] / SHAPE.width, -per_frame[1] / SHAPE.height])
    offsets = torch.arange(4.0).view(4, 1, 1, 1) * shift.view(1, 2, 1, 1)
    field.start_from(offsets.expand(4, 2, 16, 32), torch.ones(4, 1, 16, 32))
    return field


def flow_of(per_frame: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(per_frame).view(1, 2, 1, 1).expand(3, 2, 16, 32)


def loss_of(field: DenseDeformation, flow: torch.Tensor, trusted: torch.Tensor) -> float:
    rows = torch.arange(3)
    return flow_loss(field, field.on_grid(rows, 16, 32), rows, flow, trusted).item()


def test_true_offsets_of_a_translation_cost_nothing_and_others_do() -> None:
    trusted = torch.ones(3, 16, 32, dtype=torch.bool)
    field = translating((2.0, 1.0))
    assert loss_of(field, flow_of((2.0, 1.0)), trusted) < 1e-6
    # Width and height differ, so that a swap of the axes would show.
    assert loss_of(field, flow_of((1.0, 2.0)), trusted) > 0.01
    assert loss_of(field, flow_of((0.0, 0.0)), trusted) > 0.01


def test_unreliable_flow_does_not_count_whatever_its_values() -> None:
    trusted = torch.zeros(3, 16, 32, dtype=torch.bool)
    trusted[:, 2:5] = True
    flow = flow_of((2.0, 1.0)).clone()
    flow[:, :, 5:] = torch.tensor([50.0, -50.0]).view(1, 2, 1, 1)
    assert loss_of(translating((2.0, 1.0)), flow, trusted) < 1e-6


def test_flow_loss_is_the_mean_distance() -> None:
    field = DenseDeformation(SHAPE, finest_cell=4.0)
    trusted = torch.ones(3, 16, 32, dtype=torch.bool)
    wanted = (3.0 / 32 + 1.0 / 16) / 2
    assert abs(loss_of(field, flow_of((3.0, -1.0)), trusted) - wanted) < 1e-6


def test_color_loss_is_the_mean_over_the_mask() -> None:
    predicted, frames = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    predicted[0, :, :4] = 0.5
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :2] = 1
    assert float(color_loss(predicted, frames, mask)) == 0.25
    assert float(color_loss(predicted, frames)) == 0.25 * 32 / 128
    assert float(color_loss(predicted, frames, 1 - torch.ones_like(mask))) == 0.0


def test_gradient_loss_is_blind_to_constants_and_zero_for_equal_pictures() -> None:
    frames = torch.rand(1, 3, 12, 10)
    assert float(gradient_loss(frames, frames)) == 0
    assert float(gradient_loss(frames + 0.25, frames)) < 1e-6


def test_gradient_loss_agrees_with_sobel_of_each_picture() -> None:
    a, b = torch.rand(2, 3, 12, 10), torch.rand(2, 3, 12, 10)
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])

    def responses(picture: torch.Tensor) -> torch.Tensor:
        luma = (0.299 * picture[:, 0] + 0.587 * picture[:, 1] + 0.114 * picture[:, 2])[:, None]
        padded = F.pad(luma, (1, 1, 1, 1), mode="replicate")
        return torch.cat([F.conv2d(padded, kernel[None, None]), F.conv2d(padded, kernel.T[None, None])], 1)

    wanted = (responses(a) - responses(b)).abs().mean()
    torch.testing.assert_close(gradient_loss(a, b), wanted, atol=1e-5, rtol=1e-4)
