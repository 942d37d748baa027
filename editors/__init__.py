"""Every image editor, on one shared editing core. This file is the only door: import from here."""

from .core.optimize import OptimizeConfig as OptimizeConfig
from .core.optimize import OptimizeProgress as OptimizeProgress
from .core.optimize import optimize as optimize
from .core.errors import InputError as InputError
from .core.errors import MaskeditError as MaskeditError
from .core.errors import MissingExtraError as MissingExtraError
from .core.errors import ModelError as ModelError
from .core.errors import NothingFoundError as NothingFoundError
from .core.errors import SessionError as SessionError
from .core.types import Image as Image
from .core.types import Mask as Mask
from .parts.request import Editor as Editor
from .parts.request import EditRequest as EditRequest
from .parts.request import EditResult as EditResult
from .parts.request import EditTrace as EditTrace
from .parts.request import Instruction as Instruction
from .parts.request import KeepOutside as KeepOutside
from .core.attention import AttentionStore as AttentionStore
from .core.attention import attention_control as attention_control
from .parts.tokens import compose_instructions as compose_instructions
