"""The scene before the first edit: what the photos show, and what is kept outside a region."""

from pathlib import Path
from typing import Any

from .checkpoint import read_checkpoint
from .model import MaskeditModel
from .replica import SceneReplica
from .session import EditSession
from .working_set import EditedPhotos

_PREFIX = "_model."
_IGNORED = "_model.lpips."


def start_checkpoint(session: EditSession) -> Path | None:
    """The checkpoint of the scene before the first edit; None = there is none, as in a dry run without a scene."""
    path = session.start_checkpoint if session.start_checkpoint.is_file() else session.source
    return path if path is not None and path.is_file() else None


class StartScene:
    """The scene before the first edit, read when it is first needed and forgotten on request.

    Masks belong to photos, and the photos show this scene: what edits have made of it since must not move the masks
    of an instruction that is given later, nor those of a run that is resumed.

    Args:
        model: the scene that trains, whose class, options and device it shares.
        data: the cameras that look at it.
        session: says where its checkpoint lies.
    """

    def __init__(self, model: Any, data: EditedPhotos, session: EditSession) -> None:
        self._model, self._data, self._session = model, data, session
        self._scene: Any = None

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return start_checkpoint(self._session) is not None

    def get(self) -> Any:
        """A `SceneModel` with the weights of before the first edit, which nothing trains.

        Raises:
            ModelError: if its checkpoint is damaged.
        """
        if self._scene is None:
            path = start_checkpoint(self._session)
            assert path is not None
            replica = SceneReplica(self._model, self._data, self._model.device)
            replica.copy()
            scene: Any = replica.replica
            state = read_checkpoint(path, None)
            stored = {name.removeprefix("module."): each for name, each in state["pipeline"].items()}
            names = [name for name in stored if name.startswith(_PREFIX) and not name.startswith(_IGNORED)]
            scene.load_state_dict({name.removeprefix(_PREFIX): stored[name] for name in names})
            # Gaussians are told apart by what training remembers of them.
            scene.restore_training_state(int(state["step"]), state.get("maskedit", {}))
            self._scene = scene.requires_grad_(False).eval()
            if isinstance(scene, MaskeditModel):
                scene.stay()
        return self._scene

    def forget(self) -> None:
        """Free its memory; it is read again when it is needed again."""
        self._scene = None
