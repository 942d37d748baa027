"""Regions that the user gives by hand: boxes in the scene, and marks drawn on what a camera shows.

They are events of the session, so a resumed run comes upon them at the same edit step. Whoever takes them from the user
makes the event and adds it like any other:

    session.add_event(box_event(step, centre=(0, 0, 0.2), size=(0.4, 0.4, 0.4), how="limit"))
    session.add_event(mark_event(session, step, camera=camera, drawn=pixels, says_yes=False))
    session.add_event(clear_event(step))

`step` is the edit step that comes next. From the first edit on that is due then, the masks of all views heed the
region: they are lifted anew, from the masks that were found before. Regions need `--pipeline.masks lifted`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, UInt8
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from ..editors import InputError
from .session_records import Event
from .storage import from_bytes, read_mask, write_image

BoxUse = Literal["limit", "replace"]
Vector = tuple[float, float, float]
Intrinsics = tuple[float, float, float, float]
IDENTITY: tuple[Vector, Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
FOLDER = "regions"


@runtime_checkable
class EventLog(Protocol):
    """What is needed of an edit session."""

    root: Path

    @property
    def events(self) -> tuple[Event, ...]:
        """What the user did, oldest first."""
        ...


@dataclass(frozen=True, kw_only=True)
class BoxRegion:
    """A box in the scene."""

    centre: Vector
    """In the scene's own coordinates; the viewer's are ten times as large."""
    size: Vector
    """Along the box's own axes, in the scene's units."""
    rotation: tuple[Vector, Vector, Vector] = IDENTITY
    """Rows of the matrix that turns the box's axes into the scene's."""
    how: BoxUse = "limit"
    """`limit` = what was found counts inside the box alone; `replace` = everything in the box is the region."""
    instruction: str | None = None
    """Text of the instruction it is for; None = all."""

    def __post_init__(self) -> None:
        if not all(side > 0 for side in self.size):
            raise InputError(f"expected a box with sides above 0, got {self.size}")
        rotation = torch.tensor(self.rotation, dtype=torch.float64)
        if not torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-3):
            raise InputError(f"expected the rotation of a box, got {self.rotation}: give the rows of a rotation matrix")

    def contains(self, points: Float[Tensor, "*shape 3"]) -> Bool[Tensor, "*shape"]:
        """Which points lie in the box."""
        centre, size, rotation = (points.new_tensor(each) for each in (self.centre, self.size, self.rotation))
        return (((points - centre) @ rotation).abs() <= size / 2).all(dim=-1)


@dataclass(frozen=True, kw_only=True)
class MarkRegion:
    """Pixels that the user marked in what a camera shows."""

    pose: tuple[tuple[float, float, float, float], ...]
    """Camera to world, three rows."""
    intrinsics: Intrinsics
    """fx, fy, cx, cy in pixels of the drawing."""
    mask: str
    """File with the marked pixels, relative to the session."""
    says_yes: bool = True
    """Whether what is marked belongs to the region."""
    instruction: str | None = None
    """Text of the instruction it is for; None = all."""

    distortion: tuple[float, ...] = ()
    """k1 to k4, p1 and p2; empty = none."""
    kind: int = CameraType.PERSPECTIVE.value
    """nerfstudio's number of the kind of camera."""

    def camera(self, height: int, width: int) -> Cameras:
        """The camera it was drawn in, with the drawing's size in pixels."""
        return Cameras(
            torch.tensor([self.pose]),
            *self.intrinsics,
            width=width,
            height=height,
            distortion_params=torch.tensor([self.distortion]) if self.distortion else None,
            camera_type=CameraType(self.kind),
        )


UserRegion = BoxRegion | MarkRegion


def box_event(
    step: int,
    *,
    centre: Vector,
    size: Vector,
    rotation: tuple[Vector, Vector, Vector] = IDENTITY,
    how: BoxUse = "limit",
    instruction: str | None = None,
) -> Event:
    """A box, as an event to be added to a session.

    Args:
        step: the edit step that comes next.
        centre: in the scene's own coordinates, in which nerfstudio's cameras lie; the viewer's are ten times as large.
        size: along the box's own axes, in the scene's units.
        rotation: rows of the matrix that turns the box's axes into the scene's, as `OrientedBox.R`.
        how: `limit` = what was found counts inside the box alone; `replace` = everything in the box is the region.
        instruction: text of the instruction it is for; None = all. A later box for the same replaces an earlier one.

    Raises:
        InputError: if it is no box.
    """
    box = BoxRegion(centre=centre, size=size, rotation=rotation, how=how, instruction=instruction)
    return Event(step=step, kind="region", value={"shape": "box", **asdict(box)})


def mark_event(
    session: EventLog,
    step: int,
    *,
    camera: Cameras,
    drawn: UInt8[Tensor, "height width"] | tuple[int, int, int, int],
    says_yes: bool = True,
    instruction: str | None = None,
) -> Event:
    """Marked pixels, as an event to be added to a session; the drawing is stored beside the session at once.

    Args:
        session: whose folder takes the drawing.
        step: the edit step that comes next.
        camera: in which it was drawn: one, of any pose and size, a view's or the viewer's.
        drawn: the marked pixels, 255 = marked; or a rectangle (left, top, right, bottom) in pixels, right and bottom
            excluded.
        says_yes: whether what is marked belongs to the region; it outvotes what was found there, and earlier marks.
        instruction: text of the instruction it is for; None = all.

    Raises:
        InputError: if nothing is marked, or the drawing is not of the camera's size.
        SessionError: if the disk refuses.
    """
    size = (int(camera.height), int(camera.width))
    mask = _draw_rectangle(drawn, size) if isinstance(drawn, tuple) else drawn
    if tuple(mask.shape) != size:
        raise InputError(f"expected a drawing of {size[1]}x{size[0]} pixels, got {mask.shape[1]}x{mask.shape[0]}")
    if not bool((mask > 0).any()):
        raise InputError("expected marked pixels, got none: draw on the picture, or remove the mark")
    name = f"{FOLDER}/{hashlib.sha256(mask.cpu().numpy().tobytes()).hexdigest()[:16]}.png"
    write_image(session.root / name, mask.cpu())
    mark = MarkRegion(
        pose=_as_pose(camera),
        intrinsics=(float(camera.fx), float(camera.fy), float(camera.cx), float(camera.cy)),
        distortion=() if camera.distortion_params is None else tuple(camera.distortion_params.flatten().tolist()),
        kind=int(camera.camera_type),
        mask=name,
        says_yes=says_yes,
        instruction=instruction,
    )
    return Event(step=step, kind="region", value={"shape": "mark", **asdict(mark)})


def clear_event(step: int, instruction: str | None = None) -> Event:
    """Forget the regions that were given so far, as an event to be added to a session.

    Args:
        step: the edit step that comes next.
        instruction: whose; None = all regions.
    """
    return Event(step=step, kind="region", value={"shape": "none", "instruction": instruction})


def regions_at(session: EventLog, step: int) -> tuple[UserRegion, ...]:
    """The regions in force at an edit step, oldest first."""
    regions: list[UserRegion] = []
    for event in session.events:
        if event.kind != "region" or event.step > step:
            continue
        value = dict(event.value)
        shape, instruction = value.pop("shape"), value["instruction"]
        if shape == "none":
            regions = [each for each in regions if instruction not in (None, each.instruction)]
        elif shape == "box":
            regions = [
                each for each in regions if not (isinstance(each, BoxRegion) and each.instruction == instruction)
            ]
            regions.append(_read(BoxRegion, value))
        else:
            regions.append(_read(MarkRegion, value))
    return tuple(regions)


def regions_for(regions: Sequence[UserRegion], instruction: str) -> tuple[UserRegion, ...]:
    """Those of an instruction, and those that are for all."""
    return tuple(each for each in regions if each.instruction in (None, instruction))


def read_mark(root: Path, mark: MarkRegion) -> Float[Tensor, "height width"]:
    """The marked pixels: 1 = marked.

    Raises:
        SessionError: if the drawing is gone.
    """
    return from_bytes(read_mask(root / mark.mask))


def _read(kind: Any, stored: Mapping[str, Any]) -> Any:
    """A region from JSON, whose lists are tuples again."""
    return kind(**{name: _as_tuple(value) for name, value in stored.items()})


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(each) for each in value) if isinstance(value, list | tuple) else value


def _as_pose(camera: Cameras) -> Any:
    return _as_tuple(camera.camera_to_worlds.reshape(3, 4).tolist())


def _draw_rectangle(edges: tuple[int, int, int, int], size: tuple[int, int]) -> UInt8[Tensor, "height width"]:
    left, top, right, bottom = edges
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 255
    return mask
