"""SmartEdit's second stage as published (arXiv 2312.06739), section 5.1 and the authors' code: first without BIM.

Command:   accelerate launch --num_processes 8 -m maskedit.app train smartedit --preset paper-smartedit-stage2a
           --start-from STAGE1/checkpoint --base INSTRUCTDIFFUSION --folder STAGE2A --data instructpix2pix IP2P
           magicbrush MAGICBRUSH cocostuff COCO refcoco REFCOCO grefcoco GREFCOCO reasonseg REASONSEG llava LLAVA
           synthetic SYNTHETIC
           then the same with --preset paper-smartedit-stage2b --start-from STAGE2A/checkpoint --folder STAGE2B and
           without --base
Hardware:  8 GPUs, first with 4 and then with 2 samples at once; not run here.
Minutes:   not published and not measured here.
Scores:    the paper reports for 7B on Reason-Edit, understanding and reasoning: PSNR 22.049 and 25.258, SSIM 0.731 and
           0.742, LPIPS 0.087 and 0.055, CLIP 23.611 and 20.950, Ins-align 0.712 and 0.789; not measured here.

The paper starts from the UNet of InstructDiffusion; INSTRUCTDIFFUSION is a folder of it in diffusers layout. It tells
of one second stage with a warm-up of 0.001; the code trains without BIM for 5000 steps and with it for 15000, the
latter without a warm-up. LoRA's rank and alpha are decided in the first stage, where it is made.
"""

from ..editors import SmartEditRecipe
from .smartedit_preset import SmartEditPreset

PAPER_SMARTEDIT_STAGE2A = SmartEditPreset(
    stage="2a",
    recipe=SmartEditRecipe(steps=5000, batch=8 * 4 * 4, micro_batch=4, learning_rate=1e-5, warmup_share=0.001),
)
PAPER_SMARTEDIT_STAGE2B = SmartEditPreset(
    stage="2b",
    recipe=SmartEditRecipe(steps=15_000, batch=8 * 2 * 8, micro_batch=2, learning_rate=1e-5),
)
