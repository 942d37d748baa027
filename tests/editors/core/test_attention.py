"""Attention control: what is installed comes out again, what is not edited is not touched, what is edited is right."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch.overrides import TorchFunctionMode

from maskedit.editors import ModelError
from maskedit.editors.core.attention import (
    AttentionSite,
    AttentionStore,
    attention_control,
    attention_sites,
    control_if_edited,
    grid_size,
)
from maskedit.editors.core.backbone import Backbone, Conditioning

BRANCHES = ("text", "image", "uncond")
Pictures = Callable[..., torch.Tensor]


@pytest.fixture(scope="module")
def inputs(backbone: Backbone, pictures: Pictures) -> tuple[torch.Tensor, Conditioning]:
    condition = backbone.encode(pictures(2))
    generator = torch.Generator().manual_seed(1)
    conditioning = backbone.condition(BRANCHES, backbone.embed(["make the cube red"]), condition)
    return torch.randn(condition.shape, generator=generator), conditioning


@pytest.fixture
def call(backbone: Backbone, inputs: tuple[torch.Tensor, Conditioning]) -> Callable:
    """One UNet call of two pictures and three branches."""
    return lambda: backbone.predict(inputs[0], torch.tensor([500.0]), inputs[1])


class Doubling:
    """Makes the text branch's logits twice as large, at some sites and steps."""

    def __init__(self, *, sites: Callable[[AttentionSite], bool] = lambda site: site.kind == "cross") -> None:
        self.reads = self.writes = frozenset({"text"})
        self.sites = sites
        self.seen: list[tuple[str, tuple[int, ...]]] = []

    def begin_step(self, step: int) -> None:
        self.step = step

    def wants(self, site: AttentionSite, step: int) -> bool:
        return self.sites(site) and step == 0

    def edit_scores(self, scores: Mapping[str, torch.Tensor], site: AttentionSite) -> Mapping[str, torch.Tensor]:
        self.seen.append((site.name, tuple(scores["text"].shape)))
        return {"text": scores["text"] * 2}


class Reader:
    """Keeps every branch's probabilities."""

    def __init__(self) -> None:
        self.reads = frozenset(BRANCHES)
        self.probs: dict[str, dict[str, torch.Tensor]] = {}

    def begin_step(self, step: int) -> None: ...

    def wants(self, site: AttentionSite, step: int) -> bool:
        return True

    def read_probs(self, probs: Mapping[str, torch.Tensor], site: AttentionSite) -> None:
        self.probs[site.name] = dict(probs)


class Replace:
    """Hands back queries, keys and values, or outputs, through a function."""

    def __init__(self, method: str, change: Callable) -> None:
        setattr(self, method, change)

    def begin_step(self, step: int) -> None: ...

    def wants(self, site: AttentionSite, step: int) -> bool:
        return site.kind == "self"


def processors_of(backbone: Backbone) -> dict[str, int]:
    return {name: id(processor) for name, processor in backbone.unet.attn_processors.items()}


def test_sites_come_in_execution_order(backbone: Backbone) -> None:
    sites = attention_sites(backbone.unet)
    ran: list[str] = []
    handles = []
    for site in sites:
        module = backbone.unet.get_submodule(site.name.removesuffix(".processor"))
        handles.append(module.register_forward_hook(lambda *_, name=site.name: ran.append(name)))
    backbone.unet(torch.zeros(1, 8, 16, 16), 1, torch.zeros(1, 77, 32))
    for handle in handles:
        handle.remove()
    assert [site.name for site in sites] == ran
    assert {site.name for site in sites} == set(backbone.unet.attn_processors)


def test_sites_are_named_by_kind_stage_and_index(backbone: Backbone) -> None:
    sites = attention_sites(backbone.unet)
    for kind in ("self", "cross"):
        own = [site for site in sites if site.kind == kind]
        assert [site.stage for site in own] == ["down"] * 3 + ["mid"] + ["up"] * 6
        assert [site.index for site in own] == [0, 1, 2, 0, 0, 1, 2, 3, 4, 5]


def test_a_network_without_attention_is_refused() -> None:
    with pytest.raises(ModelError, match="expected a UNet with attention layers, got Linear"):
        attention_sites(torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("tokens", "size", "expected"),
    [
        (4096, (64, 64), (64, 64)),
        (256, (64, 64), (16, 16)),
        (64, (64, 64), (8, 8)),
        (16 * 11, (64, 43), (16, 11)),
        (8 * 6, (64, 43), (8, 6)),
        (1, (1, 1), (1, 1)),
    ],
)
def test_token_grids(tokens: int, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert grid_size(tokens, *size) == expected


def test_tokens_that_fit_no_grid_are_refused() -> None:
    with pytest.raises(ModelError, match="100 attention tokens do not fit latents of 64x64"):
        grid_size(100, 64, 64)


@pytest.mark.parametrize("kinds", [("cross",), ("self",), ("self", "cross")])
def test_passing_through_equals_stock(backbone: Backbone, call: Callable, pass_through, kinds: tuple) -> None:
    stock = call()
    pass_through.kinds = kinds
    with attention_control(backbone.unet, [pass_through], BRANCHES):
        controlled = call()
    for branch in BRANCHES:
        torch.testing.assert_close(controlled[branch], stock[branch], atol=1e-5, rtol=1e-4)


def test_without_edits_the_original_processors_run(backbone: Backbone, call: Callable) -> None:
    stock = call()
    with attention_control(backbone.unet, [], BRANCHES):
        controlled = call()
    assert all(torch.equal(controlled[branch], stock[branch]) for branch in BRANCHES)


@pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt])
def test_the_original_processors_come_back(backbone: Backbone, error: type[BaseException] | None) -> None:
    before, shown = processors_of(backbone), repr(backbone.unet)

    def run() -> None:
        with attention_control(backbone.unet, [Doubling()], BRANCHES):
            assert processors_of(backbone) != before
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(error):
            run()
    assert processors_of(backbone) == before
    assert repr(backbone.unet) == shown


def test_the_original_processors_come_back_when_an_edit_fails_to_begin(backbone: Backbone) -> None:
    before = processors_of(backbone)
    broken = Doubling(sites=lambda site: 1 / 0 > 1)
    with pytest.raises(ZeroDivisionError), attention_control(backbone.unet, [broken], BRANCHES):
        pass
    assert processors_of(backbone) == before


def test_nesting_is_refused_and_leaves_the_first_in_place(backbone: Backbone, call: Callable) -> None:
    first = Doubling()
    with attention_control(backbone.unet, [first], BRANCHES):
        with (
            pytest.raises(ModelError, match="already controlled"),
            attention_control(backbone.unet, [Doubling()], BRANCHES),
        ):
            pass
        call()
    assert first.seen
    with attention_control(backbone.unet, [], BRANCHES):
        pass


class FusedCalls(TorchFunctionMode):
    """Counts rows that go through the fused kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.scaled_dot_product_attention:
            self.rows.append(args[0].shape[0] if args else kwargs["query"].shape[0])
        return func(*args, **(kwargs or {}))


def test_only_wanted_sites_and_branches_leave_the_fused_kernel(backbone: Backbone, call: Callable) -> None:
    wanted = Doubling(sites=lambda site: site.kind == "cross" and site.stage == "mid")
    with attention_control(backbone.unet, [wanted], BRANCHES), FusedCalls() as fused:
        call()
    # Two pictures of three branches; where the text branch is edited, the two others stay.
    assert sorted(fused.rows) == [4] + [6] * 19
    assert [name for name, _ in wanted.seen] == ["mid_block.attentions.0.transformer_blocks.0.attn2.processor"]
    assert wanted.seen[0][1] == (2, 4, 4, 77)


def test_untouched_sites_keep_their_own_processor(backbone: Backbone, call: Callable) -> None:
    site = attention_sites(backbone.unet)[0]
    used: list[str] = []
    original = backbone.unet.attn_processors[site.name]

    class Spy:
        def __call__(self, *args, **kwargs):
            used.append(site.name)
            return original(*args, **kwargs)

    module = backbone.unet.get_submodule(site.name.removesuffix(".processor"))
    module.set_processor(Spy())
    try:
        with attention_control(backbone.unet, [Doubling()], BRANCHES):
            call()
    finally:
        module.set_processor(original)
    assert used == [site.name]


def test_i4_other_branches_are_the_same_tensors(backbone: Backbone, call: Callable) -> None:
    stock = call()
    with attention_control(backbone.unet, [Doubling()], BRANCHES):
        edited = call()
    assert torch.equal(edited["image"], stock["image"])
    assert torch.equal(edited["uncond"], stock["uncond"])
    assert (edited["text"] - stock["text"]).abs().max() > 1e-4


def test_i4_holds_in_every_layer(backbone: Backbone, call: Callable) -> None:
    outputs: list[list[torch.Tensor]] = [[], []]
    for kept, edits in zip(outputs, ([], [Doubling()]), strict=True):
        handles = [
            backbone.unet.get_submodule(site.name.removesuffix(".processor")).register_forward_hook(
                lambda module, args, output, kept=kept: kept.append(output)
            )
            for site in attention_sites(backbone.unet)
        ]
        with attention_control(backbone.unet, edits, BRANCHES):
            call()
        for handle in handles:
            handle.remove()
    assert len(outputs[0]) == 20
    # Rows 0 and 1 are the text branch of both pictures.
    assert all(torch.equal(a[2:], b[2:]) for a, b in zip(*outputs, strict=True))
    assert not torch.equal(outputs[0][-1][:2], outputs[1][-1][:2])


def test_edits_follow_the_step(backbone: Backbone, call: Callable) -> None:
    stock, edit = call(), Doubling()
    with attention_control(backbone.unet, [edit], BRANCHES) as control:
        first = call()
        control.set_step(1)
        later = call()
    assert edit.step == 1
    assert not torch.equal(first["text"], stock["text"])
    assert torch.equal(later["text"], stock["text"])


def test_probabilities_are_those_of_the_layer(backbone: Backbone, call: Callable) -> None:
    """Against the layer's own explicit arithmetic."""
    reader, site = Reader(), next(s for s in attention_sites(backbone.unet) if s.kind == "cross")
    module = backbone.unet.get_submodule(site.name.removesuffix(".processor"))
    seen: dict[str, torch.Tensor] = {}

    def keep(module, args, kwargs) -> None:
        seen.update(hidden=args[0], context=kwargs["encoder_hidden_states"])

    handle = module.register_forward_pre_hook(keep, with_kwargs=True)
    with attention_control(backbone.unet, [reader], BRANCHES):
        call()
    handle.remove()
    query = module.head_to_batch_dim(module.to_q(seen["hidden"]))
    key = module.head_to_batch_dim(module.to_k(seen["context"]))
    expected = module.get_attention_scores(query, key).unflatten(0, (3, 2, module.heads))
    for row, branch in enumerate(BRANCHES):
        torch.testing.assert_close(reader.probs[site.name][branch], expected[row], atol=1e-6, rtol=1e-5)
    assert all(torch.allclose(p.sum(-1), torch.ones(())) for probs in reader.probs.values() for p in probs.values())


def test_reading_changes_nothing(backbone: Backbone, call: Callable) -> None:
    stock = call()
    with attention_control(backbone.unet, [Reader()], BRANCHES):
        read = call()
    for branch in BRANCHES:
        torch.testing.assert_close(read[branch], stock[branch], atol=1e-5, rtol=1e-4)


def test_edits_run_in_order_and_readers_see_the_result(backbone: Backbone, call: Callable) -> None:
    reader, site = Reader(), attention_sites(backbone.unet)[1].name
    with attention_control(backbone.unet, [reader], BRANCHES):
        call()
    plain = reader.probs[site]["text"]
    with attention_control(backbone.unet, [Doubling(), reader], BRANCHES):
        call()
    doubled = reader.probs[site]["text"]
    torch.testing.assert_close(doubled, (2 * plain.log()).softmax(-1), atol=1e-6, rtol=1e-4)


def test_keys_and_values_may_be_replaced(backbone: Backbone, call: Callable) -> None:
    stock = call()
    same = Replace("edit_qkv", lambda qkv, site: qkv)
    share = Replace(
        "edit_qkv", lambda qkv, site: {b: (q, k[:1].expand_as(k), v[:1].expand_as(v)) for b, (q, k, v) in qkv.items()}
    )
    longer = Replace(
        "edit_qkv",
        lambda qkv, site: {b: (q, k.repeat(1, 1, 2, 1), v.repeat(1, 1, 2, 1)) for b, (q, k, v) in qkv.items()},
    )
    results = []
    for edit in (same, longer, share):
        with attention_control(backbone.unet, [edit], BRANCHES):
            results.append(call()["text"])
    # Keys that stand there twice change no softmax mean.
    for result in results[:2]:
        torch.testing.assert_close(result, stock["text"], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(results[2][1], stock["text"][1], atol=1e-4)
    torch.testing.assert_close(results[2][0], stock["text"][0], atol=1e-5, rtol=1e-4)


def test_outputs_may_be_replaced(backbone: Backbone, call: Callable) -> None:
    copy = Replace("edit_output", lambda outputs, site: {**outputs, "text": outputs["image"]})
    copy.wants = lambda site, step: True
    with attention_control(backbone.unet, [copy], BRANCHES):
        edited = call()
    torch.testing.assert_close(edited["text"], edited["image"], atol=1e-6, rtol=1e-5)


def test_layers_of_another_kind_are_refused(backbone: Backbone, pass_through) -> None:
    site = next(s for s in attention_sites(backbone.unet) if s.kind == "cross")
    module = backbone.unet.get_submodule(site.name.removesuffix(".processor"))
    with attention_control(backbone.unet, [pass_through], BRANCHES):
        for given in ((torch.zeros(3, 16, 4, 4),), (torch.zeros(3, 4, 16), None, torch.zeros(3, 4, 4))):
            with pytest.raises(ModelError, match="not of the Stable Diffusion kind"):
                module.processor(module, *given)


def test_the_store_keeps_the_mean_of_heads_and_layers(backbone: Backbone, call: Callable) -> None:
    reader, store = Reader(), AttentionStore(tokens=16)
    with attention_control(backbone.unet, [reader, store], BRANCHES):
        call()
    expected = [
        reader.probs[site.name]["text"].mean(1)
        for site in attention_sites(backbone.unet)
        if site.kind == "cross" and reader.probs[site.name]["text"].shape[-2] == 16
    ]
    assert len(expected) == len(store.layers) == 3
    torch.testing.assert_close(store.mean(), torch.stack(expected).mean(0))


def test_the_store_reads_its_stages_steps_and_branch_only(backbone: Backbone, call: Callable) -> None:
    store = AttentionStore(tokens=16, stages=("up",), branch="image", steps=(1,))
    with attention_control(backbone.unet, [store], BRANCHES) as control:
        call()
        assert not store.layers
        control.set_step(1)
        call()
    assert len(store.layers) == 2
    # The empty text has the same keys for every picture of a branch, so rows differ by the picture alone.
    assert store.mean().shape == (2, 16, 77)


def test_a_resolution_that_no_layer_has_is_an_error(backbone: Backbone, call: Callable) -> None:
    store = AttentionStore(tokens=5)
    with attention_control(backbone.unet, [store], BRANCHES):
        call()
    with pytest.raises(ModelError, match="no cross-attention layer of this UNet has 5 tokens"):
        store.mean()


def test_maps_stay_in_the_graph(backbone: Backbone, inputs: tuple[torch.Tensor, Conditioning]) -> None:
    latents, store = inputs[0].clone().requires_grad_(), AttentionStore(tokens=16)
    with attention_control(backbone.unet, [store], BRANCHES):
        backbone.predict(latents, torch.tensor([500.0]), inputs[1])
    store.mean()[..., 1].sum().backward()
    assert latents.grad.abs().max() > 0


def test_without_edits_no_control_is_installed(backbone: Backbone, pass_through) -> None:
    before = processors_of(backbone)
    for edits in ([], [pass_through]):
        with control_if_edited(backbone.unet, edits, BRANCHES) as control:
            assert (control is not None) == (processors_of(backbone) != before) == bool(edits)
    assert processors_of(backbone) == before
