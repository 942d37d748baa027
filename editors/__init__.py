"""Every image editor, on one shared editing core. This file is the only door: import from here.

Names that need diffusers or transformers load on first use, so that importing the door stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .core.bases import fingerprint_checkpoint as fingerprint_checkpoint
from .core.bases import locate_part as locate_part
from .core.checkpoint import PRESET_FILE as PRESET_FILE
from .core.checkpoint import PUBLISHED as PUBLISHED
from .core.checkpoint import BackboneConfig as BackboneConfig
from .core.checkpoint import CaptionPreset as CaptionPreset
from .core.checkpoint import CheckpointKind as CheckpointKind
from .core.checkpoint import CheckpointPreset as CheckpointPreset
from .core.checkpoint import FoIPreset as FoIPreset
from .core.checkpoint import InstructPreset as InstructPreset
from .core.checkpoint import check_kind as check_kind
from .core.checkpoint import has_language_model as has_language_model
from .core.checkpoint import load_preset as load_preset
from .core.checkpoint import locate_checkpoint as locate_checkpoint
from .core.chunking import in_chunks as in_chunks
from .core.consistency import NoiseSource as NoiseSource
from .core.consistency import ViewSharing as ViewSharing
from .core.devices import PeakMemory as PeakMemory
from .core.devices import own_stream as own_stream
from .core.devices import wait_for as wait_for
from .core.errors import InputError as InputError
from .core.errors import MaskeditError as MaskeditError
from .core.errors import MissingExtraError as MissingExtraError
from .core.errors import ModelError as ModelError
from .core.errors import NothingFoundError as NothingFoundError
from .core.errors import SessionError as SessionError
from .core.files import one_line_on_failure as one_line_on_failure
from .core.files import read_json as read_json
from .core.files import write_atomic as write_atomic
from .core.files import write_json as write_json
from .core.files import write_tensors as write_tensors
from .core.images import bytes_to_image as bytes_to_image
from .core.images import image_to_bytes as image_to_bytes
from .core.images import image_to_pil as image_to_pil
from .core.images import load_image as load_image
from .core.images import load_mask as load_mask
from .core.images import overlay_mask as overlay_mask
from .core.images import resize_image as resize_image
from .core.images import save_image as save_image
from .core.images import side_by_side as side_by_side
from .core.optimize import OptimizeConfig as OptimizeConfig
from .core.optimize import OptimizeProgress as OptimizeProgress
from .core.optimize import optimize as optimize
from .core.types import Image as Image
from .core.types import Mask as Mask
from .parts.brush import BrushHeader as BrushHeader
from .parts.brush import fingerprint_brush as fingerprint_brush
from .parts.brush import load_brush as load_brush
from .parts.brush import read_header as read_header
from .parts.brush_options import BrushKind as BrushKind
from .parts.brush_options import BrushRecipe as BrushRecipe
from .parts.brush_options import BrushStart as BrushStart
from .parts.brush_options import CaptionSearchConfig as CaptionSearchConfig
from .parts.brush_options import InstructBrushConfig as InstructBrushConfig
from .parts.brush_options import VisiiConfig as VisiiConfig
from .parts.brush_options import WatchConfig as WatchConfig
from .parts.brush_pairs import BrushPairs as BrushPairs
from .parts.brush_pairs import PairFiles as PairFiles
from .parts.brush_pairs import find_pairs as find_pairs
from .parts.brush_pairs import match_pairs as match_pairs
from .parts.brush_pairs import read_pairs as read_pairs
from .parts.brush_phrases import PhraseConfig as PhraseConfig
from .parts.brush_phrases import find_phrases as find_phrases
from .parts.caption_options import DiffEditConfig as DiffEditConfig
from .parts.caption_options import InpaintConfig as InpaintConfig
from .parts.caption_options import InstructEditConfig as InstructEditConfig
from .parts.caption_options import MDPConfig as MDPConfig
from .parts.editor_names import EDITORS as EDITORS
from .parts.editor_names import EditorConfig as EditorConfig
from .parts.editor_names import EditorEntry as EditorEntry
from .parts.editor_names import EditorName as EditorName
from .parts.editor_names import name_of as name_of
from .parts.editor_names import options_that_count as options_that_count
from .parts.grounding_options import CaptionerConfig as CaptionerConfig
from .parts.grounding_options import GroundingConfig as GroundingConfig
from .parts.keywords import choose_keyword as choose_keyword
from .parts.language import LanguageError as LanguageError
from .parts.language import LanguageProcessor as LanguageProcessor
from .parts.language import ParsedInstruction as ParsedInstruction
from .parts.language import ParseError as ParseError
from .parts.language import SubInstruction as SubInstruction
from .parts.language import make_language as make_language
from .parts.language_options import LanguageConfig as LanguageConfig
from .parts.options import CanvasConfig as CanvasConfig
from .parts.options import FoIConfig as FoIConfig
from .parts.options import IP2PConfig as IP2PConfig
from .parts.places import ToolModel as ToolModel
from .parts.places import find_in_cache as find_in_cache
from .parts.places import find_tool as find_tool
from .parts.places import fingerprint_tool as fingerprint_tool
from .parts.places import named_tools as named_tools
from .parts.places import require_models as require_models
from .parts.places import require_tools as require_tools
from .parts.places import segmenter_tools as segmenter_tools
from .parts.request import PER_IMAGE as PER_IMAGE
from .parts.request import Captions as Captions
from .parts.request import Editor as Editor
from .parts.request import EditRequest as EditRequest
from .parts.request import EditResult as EditResult
from .parts.request import EditTrace as EditTrace
from .parts.request import Instruction as Instruction
from .parts.request import KeepOutside as KeepOutside
from .parts.smartedit_options import SmartEditConfig as SmartEditConfig
from .smartedit.architecture import SmartEditArchitecture as SmartEditArchitecture
from .smartedit.convert_release import SmartEditConversion as SmartEditConversion
from .smartedit.places import fingerprint_mllm as fingerprint_mllm
from .smartedit.places import require_smartedit as require_smartedit
from .smartedit.recipe import SmartEditRecipe as SmartEditRecipe
from .smartedit.recipe import SmartEditRun as SmartEditRun
from .smartedit.recipe import SmartEditStage as SmartEditStage
from .smartedit.samples import Mixture as Mixture
from .smartedit.samples import Sample as Sample
from .smartedit.samples import SampleSource as SampleSource

if TYPE_CHECKING:
    from .catalogue import load_editor as load_editor
    from .catalogue import make_editor as make_editor
    from .core.architectures import INSTRUCT_PIX2PIX as INSTRUCT_PIX2PIX
    from .core.attention import AttentionStore as AttentionStore
    from .core.attention import attention_control as attention_control
    from .core.attention import attention_sites as attention_sites
    from .core.backbone import Architecture as Architecture
    from .core.backbone import Backbone as Backbone
    from .core.backbone import Conditioning as Conditioning
    from .core.backbone import resolve_device as resolve_device
    from .core.guidance import TextGuidance as TextGuidance
    from .core.inversion import invert as invert
    from .core.loading import load_configuration as load_configuration
    from .core.objective import diffusion_loss as diffusion_loss
    from .core.sampling import sample as sample
    from .diffedit import DiffEdit as DiffEdit
    from .foi import FoI as FoI
    from .inpaint import Inpaint as Inpaint
    from .instructbrush import InstructBrush as InstructBrush
    from .instructedit import InstructEdit as InstructEdit
    from .ip2p import IP2P as IP2P
    from .mdp import MDP as MDP
    from .parts.brush import Brush as Brush
    from .parts.brush_caption import search_caption as search_caption
    from .parts.brush_clip import ClipScorer as ClipScorer
    from .parts.brush_clip import load_clip as load_clip
    from .parts.brush_learning import BrushProgress as BrushProgress
    from .parts.brush_learning import learn_brush as learn_brush
    from .parts.caption_pass import caption_schedule as caption_schedule
    from .parts.captioner import load_captioner as load_captioner
    from .parts.grounding import Grounder as Grounder
    from .parts.grounding import load_grounder as load_grounder
    from .parts.masks import composite as composite
    from .parts.masks import dilate_mask as dilate_mask
    from .parts.masks import outside_change as outside_change
    from .parts.tokens import compose_instructions as compose_instructions
    from .parts.tools import Tools as Tools
    from .parts.tools import read_instructions as read_instructions
    from .smartedit.batches import EncodedSample as EncodedSample
    from .smartedit.conversation import caption_conversation as caption_conversation
    from .smartedit.conversation import read_style as read_style
    from .smartedit.convert import convert_smartedit as convert_smartedit
    from .smartedit.convert_check import check_smartedit as check_smartedit
    from .smartedit.editor import SmartEdit as SmartEdit
    from .smartedit.files import begin_smartedit as begin_smartedit
    from .smartedit.files import load_smartedit as load_smartedit
    from .smartedit.files import save_smartedit as save_smartedit
    from .smartedit.learning import SmartEditProgress as SmartEditProgress
    from .smartedit.learning import learn_smartedit as learn_smartedit
    from .smartedit.mllm import LoraOptions as LoraOptions
    from .smartedit.model import SmartEditModel as SmartEditModel
    from .smartedit.team import AcceleratedTeam as AcceleratedTeam
    from .visii import Visii as Visii

_LAZY = {
    "load_editor": ".catalogue",
    "make_editor": ".catalogue",
    "INSTRUCT_PIX2PIX": ".core.architectures",
    "AttentionStore": ".core.attention",
    "attention_control": ".core.attention",
    "attention_sites": ".core.attention",
    "Architecture": ".core.backbone",
    "Backbone": ".core.backbone",
    "Conditioning": ".core.backbone",
    "resolve_device": ".core.backbone",
    "TextGuidance": ".core.guidance",
    "invert": ".core.inversion",
    "load_configuration": ".core.loading",
    "diffusion_loss": ".core.objective",
    "sample": ".core.sampling",
    "DiffEdit": ".diffedit",
    "FoI": ".foi",
    "Inpaint": ".inpaint",
    "InstructBrush": ".instructbrush",
    "InstructEdit": ".instructedit",
    "IP2P": ".ip2p",
    "MDP": ".mdp",
    "Brush": ".parts.brush",
    "search_caption": ".parts.brush_caption",
    "ClipScorer": ".parts.brush_clip",
    "load_clip": ".parts.brush_clip",
    "BrushProgress": ".parts.brush_learning",
    "learn_brush": ".parts.brush_learning",
    "caption_schedule": ".parts.caption_pass",
    "load_captioner": ".parts.captioner",
    "Grounder": ".parts.grounding",
    "load_grounder": ".parts.grounding",
    "composite": ".parts.masks",
    "dilate_mask": ".parts.masks",
    "outside_change": ".parts.masks",
    "compose_instructions": ".parts.tokens",
    "Tools": ".parts.tools",
    "read_instructions": ".parts.tools",
    "EncodedSample": ".smartedit.batches",
    "caption_conversation": ".smartedit.conversation",
    "read_style": ".smartedit.conversation",
    "convert_smartedit": ".smartedit.convert",
    "check_smartedit": ".smartedit.convert_check",
    "SmartEdit": ".smartedit.editor",
    "begin_smartedit": ".smartedit.files",
    "load_smartedit": ".smartedit.files",
    "save_smartedit": ".smartedit.files",
    "SmartEditProgress": ".smartedit.learning",
    "learn_smartedit": ".smartedit.learning",
    "LoraOptions": ".smartedit.mllm",
    "SmartEditModel": ".smartedit.model",
    "AcceleratedTeam": ".smartedit.team",
    "Visii": ".visii",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)
