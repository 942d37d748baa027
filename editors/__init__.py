"""Every image editor, on one shared editing core. This file is the only door: import from here."""

from .core.optimize import OptimizeConfig as OptimizeConfig
from .core.optimize import OptimizeProgress as OptimizeProgress
from .core.optimize import optimize as optimize
