"""What a session has made of the photos, as files: pictures under the photos' own names, masks, and a dataset.

    images/NAME        the edited photo, or in a dataset the photo itself where a view was not edited
    masks/NAME.png     where the edit acted; masks/NAME-1.png, ... = of each instruction, where there are several
    compared/NAME.png  photo | edited photo
    index.json         which file is what, written last
    transforms.json    nerfstudio's description of the dataset, with the cameras of the views

Photos that the run held out for evaluation are no part of it: nobody has edited them.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Picture

from ..editors import InputError
from .session import EditSession
from .session_records import EditRecord
from .storage import read_image, write_atomic, write_image, write_json

JPEG_QUALITY = 95
TRANSFORMS = "transforms.json"
_ALONG = {"w": 1, "fl_x": 1, "cx": 1, "h": 0, "fl_y": 0, "cy": 0}
"""Intrinsics in pixels, and the axis of the picture they are along."""
_LENS = ("k1", "k2", "k3", "k4", "p1", "p2")
"""Parameters of lens distortion."""
_LEFT_OUT = ("depth_file_path", "mask_path", "semantic_path")
"""Files of a frame that do not belong to its edited photo."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported, and how."""

    step: int
    """The edit step before which the session is shown."""
    masks: bool = True
    compared: bool = False
    """Whether each photo and its edit are written side by side."""
    lossless: bool = False
    """Whether every picture is a PNG; otherwise it is what its photo was, and a JPEG loses a little."""
    dataset: bool = False
    """Whether all views are written, with their cameras."""


def export_session(session: EditSession, folder: Path, options: ExportOptions) -> dict[str, Any]:
    """Write what the views show.

    Args:
        session: of a run that is over or going on.
        folder: new or empty.
        options: what to write.

    Returns:
        The content of index.json.

    Raises:
        InputError: if the folder holds something, no view was edited, or photos that are needed are gone.
        SessionError: if the disk refuses.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"expected a new or empty folder, got {folder}: choose another")
    shown = session.working_set(options.step)
    if not shown:
        raise InputError(f"no edit is in force at edit step {options.step}: nothing to export")
    source = _find_dataset(session) if options.dataset else None
    views = range(len(session.photos)) if options.dataset else sorted(shown)
    names = {view: _name(session, view, shown.get(view), source, options.lossless) for view in views}
    if len(set(names.values())) < len(names):
        raise InputError("photos in different folders have the same name: pass --dataset to keep their folders")
    if options.compared or options.dataset:
        _check_photos(session)
        _check_worked_on(session)
    entries = [_write_view(session, folder, view, shown.get(view), names[view], options) for view in views]
    if source is not None:
        write_json(folder / TRANSFORMS, _transforms(session, source, folder, names))
    index = {
        "session": str(session.root),
        "edit_step": options.step,
        "generation": session.generation,
        "instructions": [each.describe() for each in session.history(options.step)],
        "views": entries,
    }
    write_json(folder / "index.json", index)
    return index


def _write_view(
    session: EditSession, folder: Path, view: int, record: EditRecord | None, name: str, options: ExportOptions
) -> dict[str, Any]:
    entry: dict[str, Any] = {"view": view, "image": name, "is_edited": record is not None}
    if session.photos:
        entry["photo"] = str(session.photos[view])
    if record is None:
        _copy_photo(session, view, folder / name)
        return entry
    entry |= {"photo": entry.get("photo", record.photo), "edit": _without_files(record)}
    image = session.image_of(record)
    _write_picture(folder / name, image)
    plain = Path(name.removeprefix("images/")).with_suffix("")
    if options.masks:
        files = {f"masks/{plain}.png": str(record.mask)}
        if len(record.masks) > 1:
            files |= {f"masks/{plain}-{number + 1}.png": file for number, file in enumerate(record.masks)}
        for target, file in files.items():
            write_image(folder / target, session.mask_at(file))
        entry["masks"] = list(files)
    if options.compared:
        entry["compared"] = f"compared/{plain}.png"
        write_image(folder / entry["compared"], torch.cat([_photo(session, view, tuple(image.shape)), image], dim=1))
    return entry


def _without_files(record: EditRecord) -> dict[str, Any]:
    left_out = {"image", "mask", "masks", "strip", "view", "photo"}
    return {name: value for name, value in asdict(record).items() if name not in left_out}


def _photo(session: EditSession, view: int, shape: tuple[int, ...]) -> Any:
    """What stood for a view's photo when it was edited: the photo, or what an earlier session left of it."""
    base = _base(session, view)
    photo = read_image(session.photos[view]) if base is None else base
    if tuple(photo.shape) != shape:
        raise InputError(f"{session.photos[view]} has changed since it was edited: put the photo of then back")
    return photo


def _base(session: EditSession, view: int) -> Any:
    """What an earlier session left of a view, if anything; only its own file is read."""
    file = session.root / "base" / f"{view:05d}.png"
    return read_image(file) if file.is_file() else None


def _copy_photo(session: EditSession, view: int, target: Path) -> None:
    base = _base(session, view)
    photo = session.photos[view]
    if base is not None or target.suffix.lower() != photo.suffix.lower():
        _write_picture(target, read_image(photo) if base is None else base)
        return
    with photo.open("rb") as content:
        write_atomic(target, lambda file: shutil.copyfileobj(content, file))


def _write_picture(path: Path, image: Any) -> None:
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        write_image(path, image)
        return
    picture = Picture.fromarray(image.contiguous().numpy())
    write_atomic(path, lambda file: picture.save(file, format="JPEG", quality=JPEG_QUALITY, subsampling=0))


def _check_photos(session: EditSession) -> None:
    if not session.photos:
        raise InputError(
            "this session is of an older version, which did not note where its photos are: leave --dataset and "
            "--compared out"
        )
    missing = [path for path in session.photos if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} photos are gone, such as {missing[0]}: put them back")


def _check_worked_on(session: EditSession) -> None:
    """Refuse photos that the run did not work on as they lie there; splats are trained without lens distortion."""
    source = _dataset_above(session.photos[0])
    if session.settings.get("scene") != "splatfacto" or source is None:
        return
    content = _read_transforms(source)
    if any(_is_distorted(camera) for camera in (content, *content["frames"])):
        raise InputError(
            f"the run freed its photos of the lens distortion that {source} names, so that its edits fit neither these "
            "photos nor their cameras: leave --dataset and --compared out, or undistort the photos first"
        )


def _is_distorted(camera: Mapping[str, Any]) -> bool:
    lens = [*(camera.get(name) for name in _LENS), *(camera.get("distortion_params") or ())]
    return any(lens)


def _find_dataset(session: EditSession) -> Path:
    """The transforms.json that describes the photos."""
    _check_photos(session)
    source = _dataset_above(session.photos[0])
    if source is not None:
        return source
    raise InputError(
        f"expected {TRANSFORMS} above {session.photos[0].parent}, found none: only scenes in nerfstudio's own layout "
        "can be exported with --dataset"
    )


def _dataset_above(photo: Path) -> Path | None:
    return next((folder / TRANSFORMS for folder in photo.parents if (folder / TRANSFORMS).is_file()), None)


def _read_transforms(source: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(source.read_text())
        return {**content, "frames": [{**frame, "file_path": frame["file_path"]} for frame in content["frames"]]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {source} ({error}): mend it, or leave --dataset and --compared out") from error


def _name(session: EditSession, view: int, record: EditRecord | None, source: Path | None, lossless: bool) -> str:
    """Name of a view's picture in the export: below `images` as it lies in the dataset."""
    photo = session.photos[view] if session.photos else Path(str(record.photo if record else view))
    inner = Path("images") / photo.name
    if source is not None and photo.is_relative_to(source.parent.resolve()):
        inner = photo.relative_to(source.parent.resolve())
    return inner.with_suffix(".png").as_posix() if lossless else inner.as_posix()


def _transforms(session: EditSession, source: Path, folder: Path, names: Mapping[int, str]) -> dict[str, Any]:
    """The description of the exported dataset: cameras of the views, at the size of the pictures."""
    content = _read_transforms(source)
    frames = {_frame_file(source, frame): frame for frame in content["frames"]}
    by_name = {path.name: frame for path, frame in frames.items()}
    _, height, width = session.settings["photos"]
    kept = {k: v for k, v in content.items() if not k.endswith("_filenames") and k != "frames"}
    chosen: list[dict[str, Any]] = []
    for view, name in names.items():
        frame = frames.get(session.photos[view], by_name.get(session.photos[view].name))
        if frame is None:
            raise InputError(f"expected {session.photos[view].name} among the frames of {source}, found none: mend it")
        own = {key: value for key, value in frame.items() if key not in _LEFT_OUT}
        size = (frame.get("h", content.get("h")), frame.get("w", content.get("w")))
        chosen.append({**_scaled(own, size, (height, width)), "file_path": name})
    cloud = kept.get("ply_file_path")
    if cloud is not None and (source.parent / cloud).is_file():
        with (source.parent / cloud).open("rb") as points:
            write_atomic(folder / Path(cloud).name, lambda file: shutil.copyfileobj(points, file))
        kept["ply_file_path"] = Path(cloud).name
    else:
        kept.pop("ply_file_path", None)
    return {**_scaled(kept, (content.get("h"), content.get("w")), (height, width)), "frames": chosen}


def _frame_file(source: Path, frame: Mapping[str, Any]) -> Path:
    return (source.parent / frame["file_path"]).resolve()


def _scaled(camera: Mapping[str, Any], was: tuple[Any, Any], now: tuple[int, int]) -> dict[str, Any]:
    """Intrinsics for pictures of another size than they were written for."""
    scaled = dict(camera)
    for name, axis in _ALONG.items():
        if name in camera and was[axis]:
            scaled[name] = now[axis] if name in ("w", "h") else camera[name] * now[axis] / was[axis]
    return scaled
