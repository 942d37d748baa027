"""The scene before the first edit: what the photos show, and what is kept outside a region."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..editors import SessionError
from .checkpoint import MODEL_PREFIX, SceneKind, model_weights, read_checkpoint
from .model import MaskeditModel
from .replica import SceneReplica, copy_numbers
from .session import EditSession
from .working_set import EditedPhotos


def start_checkpoint(session: EditSession) -> Path | None:
    """The checkpoint of the scene before the first edit; None = there is none, as in a dry run without a scene."""
    path = session.start_checkpoint if session.start_checkpoint.is_file() else session.source
    return path if path is not None and path.is_file() else None


def read_start(session: EditSession, kind: SceneKind | None = None) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of the scene before the first edit, and what it holds.

    Args:
        session: says where it lies.
        kind: of the scene; None = any that can be edited.

    Raises:
        ModelError: if it is damaged or of another kind of scene.
        SessionError: if it is gone.
    """
    path = start_checkpoint(session)
    if path is None:
        gone = session.source or session.start_checkpoint
        raise SessionError(f"the scene before the first edit is gone ({gone}): put it back, or begin a new run")
    return path, read_checkpoint(path, kind)


class StartScene:
    """The scene before the first edit, read for each who asks for it.

    Masks belong to photos, and the photos show this scene: what edits have made of it since must not move the masks
    of an instruction that is given later, nor those of a run that is resumed.

    The thread that edits looks at it to lift masks, and the thread that trains holds on to it; each has one of its own.

    Args:
        model: the scene that trains, whose class, options and device it shares.
        data: the cameras that look at it.
        session: says where its checkpoint lies.
    """

    def __init__(self, model: Any, data: EditedPhotos, session: EditSession) -> None:
        self._model, self._data, self._session = model, data, session
        self._lock = threading.Lock()

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return start_checkpoint(self._session) is not None

    @contextmanager
    def lend(self) -> Iterator[Any]:
        """A `SceneModel` with the weights of before the first edit, which nobody else has and nothing trains.

        Raises:
            ModelError: if its checkpoint is damaged.
            SessionError: if its checkpoint is gone.
        """
        scene = self._read()
        try:
            yield scene
        finally:
            if isinstance(scene, MaskeditModel):
                # Models of nerfstudio refer to themselves, so what they remember would stay until Python looks.
                scene.forget_rays()

    def _read(self) -> Any:
        path, state = read_start(self._session)
        # While a model is built, classes of nerfstudio are exchanged, which two threads must not do at a time.
        with self._lock:
            scene: Any = SceneReplica(self._model, self._data, self._model.device).replica
        copy_numbers(self._model, scene)
        expected = {f"{MODEL_PREFIX}{name}": each for name, each in scene.state_dict().items()}
        weights = model_weights(path, state["pipeline"], expected)
        scene.load_state_dict({name.removeprefix(MODEL_PREFIX): each for name, each in weights.items()})
        # Gaussians are told apart by what training remembers of them.
        scene.restore_training_state(int(state["step"]), state.get("maskedit", {}))
        if isinstance(scene, MaskeditModel):
            scene.stay()
        return scene.requires_grad_(False).eval()
