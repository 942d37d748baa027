"""The published settings of the second stage, whatever the defaults become."""

from dataclasses import replace

from maskedit.configs import PAPER_SMARTEDIT_STAGE2A, PAPER_SMARTEDIT_STAGE2B


def test_every_setting_is_the_papers() -> None:
    recipe = PAPER_SMARTEDIT_STAGE2B.recipe
    assert (recipe.steps, recipe.batch, recipe.learning_rate, recipe.weight_decay) == (15_000, 128, 1e-5, 0.0)
    assert (recipe.schedule, recipe.warmup_share, recipe.size, recipe.drop_share) == ("constant", 0.0, 256, 0.05)
    assert (recipe.talk_weight, recipe.diffusion_weight, recipe.ema_decay) == (1.0, 1.0, 0.0)
    assert not (recipe.drop_features or recipe.high_noise or recipe.keep_without_text or recipe.changed_weight)


def test_the_first_part_is_shorter_and_warms_up() -> None:
    first, second = PAPER_SMARTEDIT_STAGE2A.recipe, PAPER_SMARTEDIT_STAGE2B.recipe
    assert first == replace(second, steps=5000, warmup_share=0.001, micro_batch=4)
    assert first.optimize.warmup_steps == 5
