"""SmartEdit's tables (arXiv 2312.06739, section 5): edits whose instructions need a reader.

On the blocks world the sets are `understanding` and `reasoning` (blocks/reading.py), in phrasings that edits of the
training use and in others that they never use, known to the language model from questions alone (blocks/questions.py);
`--combinations held-out` measures edits of a colour and shape that training leaves out in the same way. The metrics are
those of `outcome.py` (`followed` is the alignment with the instruction, told by the exact truth) and those of
`smartedit_regions.py` with the true mask and label. With `--reason-edit`, the paper's own 219 pictures, of which no
truth is known; understanding is the mean over the samples of five folders, reasoning the sixth. What was done is kept
in `--out`: a run that was killed goes on, and a table is made anew from what is there.

What the paper reports on Reason-Edit, understanding | reasoning, all methods fine-tuned on SmartEdit's data (Table 1):

| method | PSNR | SSIM | LPIPS | CLIP | Ins-align | PSNR | SSIM | LPIPS | CLIP | Ins-align |
|---|---|---|---|---|---|---|---|---|---|---|
| InstructPix2Pix | 21.576 | .721 | .089 | 22.762 | .537 | 24.234 | .707 | .083 | 19.413 | .344 |
| MagicBrush | 18.120 | .680 | .143 | 22.620 | .290 | 22.101 | .694 | .113 | 19.755 | .283 |
| InstructDiffusion | 23.258 | .743 | .067 | 23.080 | .697 | 21.453 | .666 | .117 | 19.523 | .483 |
| SmartEdit-7B | 22.049 | .731 | .087 | 23.611 | .712 | 25.258 | .742 | .055 | 20.950 | .789 |
| SmartEdit-13B | 23.596 | .751 | .068 | 23.536 | .771 | 25.757 | .747 | .051 | 20.777 | .817 |

Ablations of the interaction, 7B (none | SimpleCA | BIM is the row of SmartEdit-7B above):

| none | 20.975 | .713 | .108 | 23.36 | .695 | 23.848 | .725 | .074 | 20.33 | .694 |
| SimpleCA | 19.557 | .692 | .126 | 23.66 | .692 | 23.508 | .716 | .081 | 20.17 | .722 |

Ablations of the data, 7B, PSNR and Ins-align: edits 17.568 .201 | 22.400 .233; with segmentation 18.960 .361 | 21.774
.311; with synthetic pairs and no segmentation 19.562 .440 | 23.595 .567; all 22.049 .712 | 25.258 .789.

Which is comparable with which:

- `psnr`, `ssim`, `lpips` and `clip` over all 219 pictures of Reason-Edit with `--clip openai/clip-vit-large-patch14`
  and `--smartedit.size 256`, and nothing else, stand beside the paper's columns. The published run draws noise and
  wording anew for every picture and squashes what is not square; here both are fixed, and the frame is kept.
- `strict_` columns are ours: never beside the paper's, nor beside those of mode smartedit.
- Ins-align is what four people say. It is not computed; `followed` takes its place where the truth is known, and is no
  estimate of it.
- Figures of the blocks world compare methods there. The embedded InstructPix2Pix did not learn from these pairs, unlike
  the paper's; one that did is a variant.
- `psnr_outside` is against the autoencoder's round trip and spares what truly changes; `psnr` is against the source
  and spares the silhouettes alone, so shadows cost every row, `truth` included, and the codec's blur all that edit.
"""

from pathlib import Path

import torch

from ..editors import BackboneConfig, load_clip, resolve_device
from .outcome import Progress
from .smartedit_data import ReasonEdit, open_reason_edit
from .smartedit_methods import Backbones, list_methods
from .smartedit_options import SmartEditBenchConfig
from .smartedit_pairs import PairFigures, render_sets
from .smartedit_photos import PhotoFigures, know_little
from .smartedit_regions import RegionJudge, load_lpips
from .table import Document, make_document, write_json

_NO_INS_ALIGN = "ins-align is what people say of pictures: it is not computed"


def run_smartedit_bench(
    checkpoint: BackboneConfig,
    config: SmartEditBenchConfig | None = None,
    *,
    progress: Progress = lambda *_: None,
) -> Document:
    """Measure everything, method by method; figures so far are in `out` after each.

    Args:
        checkpoint: names a set of checkpoints, of which those of the kinds that the methods need are loaded.
        config: what to measure.
        progress: told how far it is.

    Raises:
        ModelError: if a checkpoint that was asked for is missing.
        InputError: if Reason-Edit is damaged, or the folder cannot be written.
    """
    config = config or SmartEditBenchConfig()
    items = None if config.reason_edit is None else open_reason_edit(config.reason_edit)
    methods, notes = list_methods(checkpoint, config, has_truth=items is None)
    judge, unknown = load_judge(checkpoint, config)
    backbones = Backbones()
    if items is None:
        # What is only shown is measured on the checkpoint of the first method that edits.
        first = next((method for method in methods if method.config is not None), methods[0])
        sets = render_sets(config, backbones.load(first).native_size, progress)
        figures = PairFigures(config, sets, judge, backbones, first)
        said = [*notes, *unknown]
    else:
        figures = PhotoFigures(config, items, judge, backbones)
        said = [*notes, *unknown, *_notes_on(items), *know_little(methods)]
    document: Document = {}
    for method in methods:
        figures.add(method, progress)
        document = make_document(
            "smartedit",
            figures.rows,
            judge.device,
            model=checkpoint.model,
            checkpoints={method.name: method.origin for method in methods if method.config is not None},
            settings={name: getattr(config, name) for name in ("scenes", "split", "combinations", "clip")},
            details=figures.details,
            notes=said,
        )
        write_json(document, config.out / "figures.json")
    return document


def load_judge(checkpoint: BackboneConfig, config: SmartEditBenchConfig) -> tuple[RegionJudge, tuple[str, ...]]:
    """What measures pictures, and a line about each figure that it cannot tell.

    Raises:
        ModelError: if the CLIP that was asked for is missing.
    """
    device = resolve_device(checkpoint.device, "auto")[0]
    notes: list[str] = []
    lpips = load_lpips(device)
    if lpips is None:
        place = Path(torch.hub.get_dir()) / "checkpoints"
        notes.append(f"lpips is left out: the weights of torchvision's squeezenet1_1 are not in {place}")
    clip = None
    if config.clip is None:
        name = "embedded" if config.reason_edit is None else "openai/clip-vit-large-patch14, as the paper does"
        notes.append(f"clip is left out: pass --clip {name}")
    else:
        clip = load_clip(config.clip, device=device, model_dir=checkpoint.model_dir, offline=checkpoint.offline)
    return RegionJudge(lpips=lpips, clip=clip, device=device), tuple(notes)


def _notes_on(items: ReasonEdit) -> tuple[str, ...]:
    if items.is_complete:
        return (_NO_INS_ALIGN,)
    return (_NO_INS_ALIGN, f"{items.summary}: its figures do not stand beside the paper's")
