"""The published settings of the first stage, whatever the defaults become."""

from maskedit.configs import PAPER_SMARTEDIT_STAGE1


def test_every_setting_is_the_papers() -> None:
    recipe, sizes = PAPER_SMARTEDIT_STAGE1.recipe, PAPER_SMARTEDIT_STAGE1.architecture
    assert (recipe.steps, recipe.batch, recipe.learning_rate, recipe.weight_decay) == (150_000, 128, 2e-4, 0.0)
    assert (recipe.schedule, recipe.optimize.warmup_steps, recipe.optimize.final_share) == ("cosine", 6000, 0.0)
    assert (recipe.talk_weight, recipe.diffusion_weight) == (1.0, 1.0)
    assert (sizes.image_tokens, sizes.queries, sizes.qformer_layers, sizes.cross_every) == (32, 77, 6, 2)
    assert (PAPER_SMARTEDIT_STAGE1.lora_rank, PAPER_SMARTEDIT_STAGE1.lora_alpha) == (8, 16)
