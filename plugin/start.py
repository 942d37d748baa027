"""Where a run begins: from scratch, from the checkpoint of a scene, or where the same run was interrupted."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from ..editors import InputError, MaskeditError
from .checkpoint import find_checkpoint
from .session import FOLDER, EditSession
from .session_lock import hold_session, release_session

DRY_RUN_FOLDER = "maskedit_dry_run"


class RunStopped(SystemExit, MaskeditError):
    """An error of a run. Uncaught it ends the program with its one line instead of a traceback."""


@contextmanager
def one_line() -> Iterator[None]:
    """End the program with the one line of an expected error."""
    try:
        yield
    except RunStopped:
        raise
    except MaskeditError as error:
        raise RunStopped(f"maskedit: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run begins or goes on."""

    checkpoint: Path | None
    """None = from scratch."""
    session: EditSession | None
    """None = a new one."""


def given_checkpoint(config: Any) -> Path | None:
    """The checkpoint that the user named; None = none.

    Args:
        config: the run's config.

    Raises:
        InputError: if it is not there.
    """
    if config.load_dir is not None:
        return find_checkpoint(Path(config.load_dir), config.load_step, config.pipeline.scene_kind)
    if config.load_checkpoint is not None:
        if not Path(config.load_checkpoint).is_file():
            raise InputError(f"expected a checkpoint at {config.load_checkpoint}, found none: check --load-checkpoint")
        return Path(config.load_checkpoint)
    return None


def continue_in_place(config: Any) -> Any:
    """The config to go on with: in the folder of the checkpoint's run where that is a maskedit run, else as given.

    An interrupted run goes on in its own folder, so that its scene, edits and config stay together.
    """
    if config.pipeline.dry_run or not config.pipeline.resume or EditSession.exists(config.get_base_dir()):
        return config
    source = given_checkpoint(config)
    if source is None:
        return config
    run = source.resolve().parent.parent
    if not EditSession.exists(run) or run == config.get_base_dir().resolve():
        return config
    # A run of the other kind of scene can't be gone on with; reading its checkpoint says so.
    if EditSession.open(run / FOLDER).settings.get("scene", "nerfacto") != config.pipeline.scene_kind:
        return config
    _remove_fresh_folder(config.get_base_dir())
    names = {"timestamp": run.name, "method_name": run.parent.name, "experiment_name": run.parents[1].name}
    return replace(config, output_dir=run.parents[2], **names)


def _remove_fresh_folder(folder: Path) -> None:
    """Remove the folder that ns-train has just made for a new run, if nothing but its config.yml is in it."""
    if folder.is_dir() and [path.name for path in folder.iterdir()] == ["config.yml"]:
        (folder / "config.yml").unlink()
        folder.rmdir()


def _names_own_run(config: Any) -> bool:
    """Whether --load-dir is the folder of this very run, so that --load-step speaks of its steps."""
    own = config.get_checkpoint_dir().resolve()
    return config.load_dir is not None and Path(config.load_dir).resolve() in (own, own.parent)


def _hold_and_open(config: Any) -> EditSession:
    # Held before it is read: another process might change it in between.
    root = config.get_base_dir() / FOLDER
    hold_session(root)
    try:
        session = EditSession.open(root)
        settings = config.pipeline.session_settings(config.machine.seed)
        if not config.pipeline.reconstruct_steps:
            # The session knows where its editing begins; who goes on from a checkpoint need not repeat how it was made.
            del settings["reconstruct steps"]
        session.check_settings(settings)
    except MaskeditError:
        release_session(root)
        raise
    return session


def find_start(config: Any) -> Start:
    """Find the checkpoint and the session to begin with; a session that is gone on with is held.

    Raises:
        InputError: if there is no scene to edit and none is to be reconstructed.
        SessionError: if the run was begun with other settings, or is going on.
    """
    pipeline = config.pipeline
    if EditSession.exists(config.get_base_dir()) and not pipeline.dry_run:
        session = _hold_and_open(config)
        if list(config.get_checkpoint_dir().glob("step-*.ckpt")):
            step = config.load_step if _names_own_run(config) else None
            return Start(checkpoint=find_checkpoint(config.get_checkpoint_dir(), step), session=session)
        return Start(checkpoint=session.source, session=session)
    source = given_checkpoint(config)
    if source is None and not (pipeline.reconstruct_steps or pipeline.dry_run):
        raise InputError(
            f"expected a scene to edit: pass --load-dir RUN/nerfstudio_models of a {pipeline.scene_kind} run, or let "
            "this run reconstruct it with --pipeline.reconstruct-steps 30000"
        )
    return Start(checkpoint=source, session=None)


def remove_newer(checkpoint: Path) -> None:
    """Remove the checkpoints after one that a run goes on from, so that no later run takes them for its newest."""
    for other in checkpoint.parent.glob("step-*.ckpt"):
        if other.name > checkpoint.name:
            other.unlink()


def pictures_left(
    checkpoint: Path | None, step: int, settings: Mapping[str, Any]
) -> dict[int, UInt8[Tensor, "height width 3"]]:
    """What an earlier session made of the photos, where its scene is edited anew; it is to be kept now.

    Args:
        checkpoint: that the new run begins with.
        step: training step of its first step.
        settings: what tells whether the photos are the same.

    Returns:
        By view; views that show their photo are left out.

    Raises:
        SessionError: if the photos are others.
    """
    if checkpoint is None or not EditSession.exists(checkpoint.parent.parent):
        return {}
    earlier = EditSession.open(checkpoint.parent.parent / FOLDER)
    earlier.check_settings(settings)
    shown = earlier.working_set(step - earlier.edit_start)
    return earlier.base() | {view: earlier.image_of(record) for view, record in shown.items()}
