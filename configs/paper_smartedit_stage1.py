"""SmartEdit's first stage as published (arXiv 2312.06739), section 5.1 and the authors' code: captions alone.

Command:   accelerate launch --num_processes 8 -m maskedit.app train smartedit --preset paper-smartedit-stage1
           --mllm LLAVA --data cc12m CC12M --folder STAGE1
Hardware:  8 GPUs with 16 samples each in the paper; not run here.
Minutes:   not published and not measured here.
Scores:    none are published for this stage.

LLAVA is LLaVA-1.1 of 7 or 13 billion weights in transformers layout. The QFormer learns to say what Stable Diffusion's
text encoder says of a caption, the language model learns its new tokens, and everything else stays. The ablations of
section 5.3 begin here: --architecture.interaction none or image-only.
"""

from ..editors import SmartEditRecipe
from .smartedit_preset import SmartEditPreset

PAPER_SMARTEDIT_STAGE1 = SmartEditPreset(
    stage="1",
    recipe=SmartEditRecipe(
        steps=150_000, batch=8 * 16, micro_batch=16, learning_rate=2e-4, schedule="cosine", warmup_share=0.04
    ),
    base="timbrooks/instruct-pix2pix",
)
