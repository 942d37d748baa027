"""The sets SmartEdit learns from and is judged on, each read from its own layout. This file is the folder's door."""

from .painting import COLORS as COLORS
from .painting import TEMPLATES as TEMPLATES
from .painting import paint as paint
from .reason_edit import ReasonEdit as ReasonEdit
from .reason_edit import ReasonEditItem as ReasonEditItem
from .reason_edit import open_reason_edit as open_reason_edit
from .sources import SOURCES as SOURCES
from .sources import describe_shares as describe_shares
from .sources import open_sources as open_sources
from .sources import published_shares as published_shares
