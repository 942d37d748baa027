"""Fields of networks: offsets of 0 to begin with, smooth until the grid fades in, colours that learn a picture."""

import pytest
import torch

from maskedit.editors import InputError
from maskedit.video.fields import CanonicalField, DeformationField, FieldShape, pixel_centres
from maskedit.video.hash_fields import (
    FrequencyCanonical,
    FrequencyCanonicalConfig,
    FrequencyDeformation,
    FrequencyDeformationConfig,
    HashCanonical,
    HashCanonicalConfig,
    HashDeformation,
    HashDeformationConfig,
)
from maskedit.video.hash_grid import HashGrid, HashGridConfig
from maskedit.video.render import render_frames

SHAPE = FieldShape(frames=6, height=12, width=20, margin=4)
GRID = HashGridConfig(levels=6, table_size=2**10, base_resolution=4)
DEFORMATIONS = ("hash", "frequency")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_deformation(kind: str, seed: int = 0) -> HashDeformation | FrequencyDeformation:
    if kind == "hash":
        return HashDeformation(SHAPE, HashDeformationConfig(grid=GRID, width=16), generator=seeded(seed))
    return FrequencyDeformation(SHAPE, FrequencyDeformationConfig(width=16), generator=seeded(seed))


def moved_deformation(kind: str) -> HashDeformation | FrequencyDeformation:
    """A field as it could be after training: no weight is 0, and the table has its say."""
    field = make_deformation(kind)
    torch.nn.init.normal_(field.network.last.weight, std=0.2, generator=seeded(1))
    if isinstance(field, HashDeformation):
        torch.nn.init.normal_(field.grid.get_parameter("table"), generator=seeded(2))
    return field


def make_canonical(kind: str) -> HashCanonical | FrequencyCanonical:
    if kind == "hash":
        return HashCanonical(SHAPE, HashCanonicalConfig(grid=GRID, width=32), generator=seeded())
    return FrequencyCanonical(SHAPE, FrequencyCanonicalConfig(width=32), generator=seeded())


def some_points(frames: int, seed: int = 3) -> torch.Tensor:
    return torch.rand((frames, 9, 2), generator=seeded(seed))


@pytest.mark.parametrize("kind", DEFORMATIONS)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_offsets_begin_at_zero(kind: str, share: float) -> None:
    field = make_deformation(kind)
    offsets = field(some_points(2), torch.tensor([0, 5]), share)
    assert offsets.shape == (2, 9, 2)
    assert not offsets.any()


@pytest.mark.parametrize("kind", DEFORMATIONS)
def test_each_frame_has_its_own_points_and_offsets(kind: str) -> None:
    field, points, frames = moved_deformation(kind), some_points(3), torch.tensor([4, 0, 4])
    together = field(points, frames)
    for row, frame in enumerate(frames):
        alone = field(points[row : row + 1], frame[None])
        torch.testing.assert_close(together[row : row + 1], alone)
    same = field(points[:1].expand(3, -1, -1), frames)
    torch.testing.assert_close(same[0], same[2])
    assert (same[0] - same[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", DEFORMATIONS)
def test_all_pixels_of_frames_can_be_asked_for(kind: str) -> None:
    field, frames = moved_deformation(kind), torch.tensor([1, 3])
    offsets = field.on_grid(frames, 5, 7)
    assert offsets.shape == (2, 5, 7, 2)
    pixel = pixel_centres(5, 7)[2, 6].expand(2, 1, 2)
    torch.testing.assert_close(offsets[:, 2, 6], field(pixel, frames)[:, 0])


def test_time_is_counted_up_to_one() -> None:
    """The field is a function of x, y and (f + 1) / F, scaled by a fifth: a network of one line shows it."""
    config = HashDeformationConfig(grid=GRID, width=1, hidden_layers=1)
    field = HashDeformation(SHAPE, config, generator=seeded())
    with torch.no_grad():
        first = field.network.hidden[0].get_parameter("weight")
        first.zero_()
        first[0, 2] = 1.0
        field.network.last.weight.copy_(torch.tensor([[1.0], [-2.0]]))
    offsets = field(some_points(3), torch.tensor([0, 2, 5]))
    times = torch.tensor([1 / 6, 3 / 6, 1.0])
    torch.testing.assert_close(offsets[:, 0], torch.stack([times, -2 * times], 1) / 5)
    torch.testing.assert_close(offsets, offsets[:, :1].expand_as(offsets))


def test_the_grid_has_no_say_before_it_fades_in() -> None:
    field, points, frames = moved_deformation("hash"), some_points(2), torch.tensor([1, 2])
    assert isinstance(field, HashDeformation) and isinstance(field.grid, HashGrid)
    early, late = field(points, frames, 0.4), field(points, frames, 0.9)
    assert torch.equal(late, field(points, frames))
    assert (early - late).abs().max() > 1e-3
    early.sum().backward()
    assert field.grid.table.grad is None
    late.sum().backward()
    assert field.grid.table.grad.any()
    with torch.no_grad():
        field.grid.table.zero_()
    assert torch.equal(field(points, frames, 0.4), early)
    torch.testing.assert_close(field(points, frames, 0.9), early)


def test_bands_fade_in_as_well() -> None:
    field, points, frames = moved_deformation("frequency"), some_points(2), torch.tensor([1, 2])
    assert torch.equal(field(points, frames, 0.5), field(points, frames))
    assert not torch.equal(field(points, frames, 0.1), field(points, frames))


@pytest.mark.parametrize("kind", DEFORMATIONS)
def test_a_field_learns_a_movement(kind: str) -> None:
    field = make_deformation(kind)
    frames = torch.arange(SHAPE.frames)
    points = some_points(SHAPE.frames)
    truth = torch.stack([0.02 * (frames - 2.5), -0.01 * frames], 1)[:, None] * (1 + points)
    optimizer = torch.optim.Adam(field.parameters(), lr=3e-3)
    errors = list[float]()
    for step in range(80):
        loss = (field(points, frames, step / 80) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.05 * errors[0]


@pytest.mark.parametrize("kind", DEFORMATIONS)
def test_frames_of_other_clips_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"frames must be in 0\.\.5, got 6\.\.6"):
        make_deformation(kind)(some_points(1), torch.tensor([6]))


@pytest.mark.parametrize("kind", DEFORMATIONS)
def test_the_margin_is_squeezed_into_the_unit_square(kind: str) -> None:
    field, seen = make_canonical(kind), list[torch.Tensor]()
    field.encoding.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    corners = torch.tensor([[[-0.2, -1 / 3], [1.2, 4 / 3], [0.5, 0.5], [-5.0, 0.5]]])
    colors = field(corners)
    expected = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [0.0, 0.5]])
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=0)
    assert colors.shape == (1, 4, 3)


@pytest.mark.parametrize("kind", DEFORMATIONS)
def test_the_border_goes_on_outside(kind: str) -> None:
    field = make_canonical(kind)
    # Written as ratios of whole pixels, the border is hit exactly.
    near = torch.tensor([[[1 + 4 / 20, 0.3], [0.7, -4 / 12]]])
    far = torch.tensor([[[3.0, 0.3], [0.7, -2.0]]])
    torch.testing.assert_close(field(far), field(near), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", DEFORMATIONS)
def test_colors_learn_a_picture(kind: str) -> None:
    field = make_canonical(kind)
    points = pixel_centres(SHAPE.height, SHAPE.width).reshape(1, -1, 2)
    checks = ((points[..., 0] * 5).floor() + (points[..., 1] * 3).floor()) % 2
    truth = torch.stack([0.2 + 0.6 * checks, points[..., 0], points[..., 1]], 2)
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2)
    errors = list[float]()
    for _ in range(80):
        loss = (field(points) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    # Sines of at most 128 radians see the checks, not their edges.
    assert errors[-1] < {"hash": 0.002, "frequency": 0.03}[kind]
    image = field.image(SHAPE)
    assert image.shape == (1, 3, 20, 28)
    assert image.min() >= 0 and image.max() <= 1


def test_only_the_field_without_hash_bounds_its_colors() -> None:
    for kind in DEFORMATIONS:
        field = make_canonical(kind)
        with torch.no_grad():
            field.network.last.bias.fill_(3.0)
        colors = field(some_points(1))
        assert bool((colors > 1).any()) is (kind == "hash")
        assert colors.max() > 0.9


def test_the_published_networks() -> None:
    def inputs(field: torch.nn.Module) -> list[int]:
        return [value.shape[1] for name, value in field.named_parameters() if name.endswith("weight")]

    assert inputs(HashDeformation(SHAPE)) == [35] + [64] * 8
    assert inputs(HashCanonical(SHAPE)) == [34, 64, 64]
    assert inputs(FrequencyDeformation(SHAPE)) == [42, 128, 128, 128, 170, 128, 128]
    assert inputs(FrequencyCanonical(SHAPE)) == [34, 256, 256, 256, 290, 256, 256, 256, 256]
    assert HashCanonicalConfig(finest_cell=0.0).grid_for(SHAPE).resolutions[-1] == 3798


@pytest.mark.parametrize("kind", DEFORMATIONS)
def test_a_generator_or_a_seed_decides(kind: str) -> None:
    def numbers(generator: torch.Generator | None) -> torch.Tensor:
        deformation = HashDeformation if kind == "hash" else FrequencyDeformation
        canonical = HashCanonical if kind == "hash" else FrequencyCanonical
        fields = deformation(SHAPE, generator=generator), canonical(SHAPE, generator=generator)
        assert isinstance(fields[0], DeformationField) and isinstance(fields[1], CanonicalField)
        return torch.cat([value.detach().flatten() for field in fields for value in field.parameters()])

    first, other = numbers(seeded(1)), numbers(seeded(2))
    assert torch.equal(first, numbers(seeded(1)))
    assert not torch.equal(first, other)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        drawn = numbers(None)
        torch.manual_seed(7)
        assert torch.equal(drawn, numbers(None))


def learn_clip(finest_cell: float) -> tuple[float, float]:
    """Fidelity in dB of a moving picture as the fields give it, and as their canonical image does."""
    shape = FieldShape(frames=4, height=24, width=32, margin=8)
    # Unless limited, the finest level has 266 cells over 48 pixels.
    grid = HashGridConfig(levels=8, table_size=2**14, base_resolution=8, growth=1.65)
    deformation = HashDeformation(shape, HashDeformationConfig(grid=GRID, hidden_layers=2), generator=seeded(1))
    config = HashCanonicalConfig(grid=grid, finest_cell=finest_cell)
    canonical = HashCanonical(shape, config, generator=seeded(2))
    frames, points = torch.arange(4), pixel_centres(24, 32).reshape(1, -1, 2).expand(4, -1, -1)
    moved = points + 0.03 * (frames - 1.5)[:, None, None]
    truth = 0.5 + 0.4 * torch.stack(
        [(14 * moved[..., 0]).sin(), (11 * moved[..., 1]).cos(), (9 * moved.sum(2)).sin()], 2
    )
    optimizer = torch.optim.Adam([*deformation.parameters(), *canonical.parameters()], lr=5e-3)
    for step in range(150):
        offsets = deformation(points, frames, step / 150)
        loss = (canonical(points + offsets) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        offsets = deformation(points, frames)
        given = canonical(points + offsets)
        sampled = render_frames(canonical.image(shape), offsets.unflatten(1, (24, 32)), shape).permute(0, 2, 3, 1)
    errors = ((each.flatten(1, -2) - truth).square().mean() for each in (given, sampled))
    first, second = (-10 * error.log10().item() for error in errors)
    return first, second


def test_the_canonical_image_gives_back_what_was_learned() -> None:
    given, sampled = learn_clip(finest_cell=1.0)
    assert given > 45
    assert sampled > 38
    # Cells far below a pixel hide colours between the centres of pixels, where the canonical image does not see them.
    given, sampled = learn_clip(finest_cell=0.0)
    assert given > 45
    assert sampled < 26


def test_positions_of_the_margin_are_no_weights() -> None:
    field = make_canonical("hash")
    assert "margins" not in field.state_dict()
    assert torch.equal(field.margins, torch.tensor([4 / 20, 4 / 12]))


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (HashDeformationConfig, {"width": 0}),
        (HashDeformationConfig, {"hidden_layers": 0}),
        (HashDeformationConfig, {"anneal_begin": 1.5}),
        (HashDeformationConfig, {"anneal_span": 0.0}),
        (HashCanonicalConfig, {"hidden_layers": 0}),
        (HashCanonicalConfig, {"finest_cell": -1.0}),
        (FrequencyDeformationConfig, {"bands": 0}),
        (FrequencyDeformationConfig, {"frame_code": 0}),
        (FrequencyDeformationConfig, {"anneal_span": 2.0}),
        (FrequencyCanonicalConfig, {"bands": 0}),
        (FrequencyCanonicalConfig, {"width": -1}),
    ],
)
def test_settings_out_of_range_are_refused(config: type, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config(**wrong)
