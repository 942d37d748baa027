"""SmartEdit's bench on the blocks world: its sets, its labels and its rows."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskedit.bench.blocks import Block, BlockEdit, Named, combination_of, make_reading_pairs
from maskedit.bench.outcome import METRICS
from maskedit.bench.smartedit_methods import Backbones, ReadingMethod
from maskedit.bench.smartedit_options import SmartEditBenchConfig
from maskedit.bench.smartedit_pairs import EMPTIED, PairFigures, label_of, render_sets
from maskedit.bench.smartedit_regions import REGION_METRICS, RegionJudge
from maskedit.editors import BackboneConfig, IP2PConfig, load_image

NAMED = Named(phrase="all cubes", keyword="cubes", targets=(0, 1), family="multiple")


def test_sets_do_not_depend_on_batches() -> None:
    config = SmartEditBenchConfig(scenes=3, batch=2, split="validation", sets=("reasoning",))
    seen: list[tuple[str, int, int]] = []
    parts = render_sets(config, 32, lambda *now: seen.append(now))
    whole = render_sets(SmartEditBenchConfig(scenes=3, split="validation", sets=("reasoning",)), 32)
    assert list(parts) == [("reasoning", "known"), ("reasoning", "held-out")]
    assert seen == [(f"rendering reasoning, {p}", n, 3) for p in ("known", "held-out") for n in (2, 3)]
    for name, batches in parts.items():
        assert [len(batch.specs) for batch in batches] == [2, 1]
        assert torch.equal(torch.cat([batch.source for batch in batches]), whole[name][0].source)
        assert [s for batch in batches for s in batch.specs] == list(whole[name][0].specs)


def test_combinations_can_be_chosen() -> None:
    config = SmartEditBenchConfig(scenes=3, sets=("reasoning",), phrasings=("known",))
    (drawn,) = render_sets(config, 16)["reasoning", "known"]
    assert drawn.specs == make_reading_pairs("test", range(3), which="reasoning", height=16).specs
    (held_out,) = render_sets(replace(config, combinations="held-out"), 16)["reasoning", "known"]
    assert {combination_of(spec) for spec in held_out.specs} == {"held-out"} != {combination_of(drawn.specs[0])}


def test_labels_say_what_is_there_afterwards() -> None:
    red, blue = (Block(shape="cube", color=color, size="small", x=0.0, y=0.0) for color in ("red", "blue"))

    def edit(*new: Block) -> BlockEdit:
        return BlockEdit(kind="recolor", text="make all cubes red", keyword="cubes", named=NAMED, new=new)

    assert label_of(edit(red)) == "a red cube"
    assert label_of(edit(red, red)) == "a red cube"
    assert label_of(edit(red, blue)) == "a red cube and a blue cube"
    assert label_of(edit()) == EMPTIED


def test_rows_and_strips(ip2p_folder: Path, tmp_path: Path) -> None:
    config = SmartEditBenchConfig(out=tmp_path, scenes=2, split="validation", phrasings=("known",))
    sets, backbones = render_sets(config, 64), Backbones()
    checkpoint = BackboneConfig(model=str(ip2p_folder), device="cpu")
    shown, ip2p = (
        ReadingMethod(name=name, config=editor, checkpoint=checkpoint)
        for name, editor in (("truth", None), ("ip2p", IP2PConfig(steps=2)))
    )
    figures = PairFigures(config, sets, RegionJudge(), backbones, ip2p)
    figures.add(shown)
    figures.add(ip2p)
    assert [(row["set"], row["method"]) for row in figures.rows] == [
        *(("understanding", "truth"), ("understanding", "ip2p")),
        *(("reasoning", "truth"), ("reasoning", "ip2p")),
    ]
    for row in figures.rows:
        assert list(row) == ["method", "set", "phrasing", "pictures", *METRICS, *REGION_METRICS]
        assert (row["pictures"], row["phrasing"], row["lpips"], row["clip"]) == (2, "known", None, None)
        assert float(row["ssim"] or 0) > 0
        assert (row["followed"] == 1) == (row["method"] == "truth")
    assert float(figures.rows[0]["psnr"] or 0) > float(figures.rows[1]["psnr"] or 0)
    of_truth = [row for row in figures.details if row["method"] == "truth"]
    assert {str(row["set"]).split("/")[0] for row in of_truth} == {"understanding", "reasoning"}
    assert sum(int(row["pictures"] or 0) for row in of_truth) == 4
    # Before, the truth and one method that edits, at twice their size.
    assert load_image(tmp_path / "reasoning_known" / "strips.png").shape == (1, 3, 256, 3 * 128)
    assert not (tmp_path / "reasoning_known" / "truth.json").exists()


def test_a_perfect_edit_keeps_the_background_but_for_shadows() -> None:
    """The truth by the measure that the paper has: what it loses is no method's fault."""
    config = SmartEditBenchConfig(scenes=3, split="validation", sets=("understanding",), phrasings=("known",))
    (batch,) = render_sets(config, 64)["understanding", "known"]
    for row in range(3):
        score = RegionJudge().score(batch.target[[row]], batch.source[[row]], batch.mask[[row]], "")
        assert score["psnr"] > 25
        assert score["ssim"] > 0.95


@pytest.mark.parametrize("which", ["understanding", "reasoning"])
def test_every_set_is_drawn_in_both_phrasings(which: str) -> None:
    config = SmartEditBenchConfig(scenes=2, split="validation", sets=(which,))
    known, held_out = (batches[0] for batches in render_sets(config, 16).values())
    assert torch.equal(known.source, held_out.source)
    assert [s.instruction for s in known.specs] != [s.instruction for s in held_out.specs]
