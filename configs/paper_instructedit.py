"""InstructEdit as published (arXiv 2305.18047), on Stable Diffusion 1.5.

Command:   maskedit edit photo.jpg --preset paper-instructedit --instruction "change the dog to a fox"
Hardware:  one GPU; with BLIP-2, SAM and GroundingDINO beside the diffusion model 24 GB are expected to do; not
           measured.
Minutes:   not measured.
Scores:    not measured here.

50 DDIM steps of which half are inverted and run again, guidance 7.5, GroundingDINO's boxes filled in by SAM, BLIP-2's
description of the picture shown to the language model, and pixels outside the mask as the model leaves them.

Differs from the paper: the language model is a successor of its ChatGPT, since that is no longer offered, and gets room
for longer replies. It needs the extra `openai` and a key in OPENAI_API_KEY; `--language.provider rules` needs neither.
"""

from ..editors import BackboneConfig, CaptionerConfig, GroundingConfig, InstructEditConfig, LanguageConfig
from .preset import EditPreset

PAPER_INSTRUCTEDIT = EditPreset(
    checkpoint=BackboneConfig(model="stable-diffusion-v1-5/stable-diffusion-v1-5"),
    options=InstructEditConfig(
        steps=50,
        guidance_scale=7.5,
        encoding_ratio=0.5,
        keep_outside="paper",
        language=LanguageConfig(provider="openai", temperature=0.6),
        captioner=CaptionerConfig(enabled=True),
        grounding=GroundingConfig(segmenter="grounded-sam"),
    ),
)
