"""All sets by name, and how often each is drawn."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from maskedit.bench.smartedit_data.sources import SOURCES, describe_shares, open_sources, published_shares
from maskedit.editors import InputError, Mixture, Sample, SampleSource

SIZES = {
    "synthetic": 476,
    "reasonseg": 239,
    "llava": 300,
    "magicbrush": 100,
    "instructpix2pix": 200,
    "cocostuff": 200,
    "refcoco": 120,
    "grefcoco": 80,
}


class Numbers:
    """A source of a given size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def read(self, index: int, rng: np.random.Generator) -> Sample:
        return Sample(text=str(index))


def sized(*names: str) -> dict[str, SampleSource]:
    return {name: Numbers(SIZES.get(name, 1000)) for name in names}


@pytest.fixture(scope="module")
def opened(sets: Path) -> dict[str, SampleSource]:
    return open_sources({name: sets / name for name in SOURCES})


def test_all_sets_are_opened(opened: dict[str, SampleSource]) -> None:
    lengths = {name: len(source) for name, source in opened.items()}
    assert lengths == {
        "cc12m": 2,
        "instructpix2pix": 3,
        "magicbrush": 3,
        "cocostuff": 2,
        "refcoco": 2,
        "grefcoco": 2,
        "reasonseg": 3,
        "llava": 2,
        "synthetic": 2,
    }
    assert all(isinstance(source, SampleSource) for source in opened.values())


@pytest.mark.parametrize("name", SOURCES)
def test_threads_and_other_processes_read_the_same(opened: dict[str, SampleSource], name: str) -> None:
    def key(source: SampleSource, number: int) -> tuple[object, ...]:
        sample = source.read(number % len(source), np.random.default_rng(number))
        sides = [None if side is None else side.numpy().tobytes() for side in (sample.image, sample.target)]
        return sample.text, sample.answer, *sides

    source = opened[name]
    alone = [key(source, number) for number in range(24)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda number: key(source, number), range(24))) == alone
    copied = pickle.loads(pickle.dumps(source))
    assert [key(copied, number) for number in range(24)] == alone


def test_a_mixture_draws_from_them(opened: dict[str, SampleSource]) -> None:
    shares = published_shares(opened)
    mixture = Mixture(opened, shares, seed=1)
    samples = [mixture.draw(number) for number in range(40)]
    assert "cc12m" not in shares and all(sample.image is not None for sample in samples)
    assert {sample.is_edit for sample in samples} == {True, False}
    workers = torch.utils.data.DataLoader(range(8), batch_size=None, num_workers=2, collate_fn=mixture.draw)
    assert [sample.text for sample in workers] == [sample.text for sample in samples[:8]]


def test_shares_worked_out_by_hand() -> None:
    shares = published_shares(sized(*SIZES))
    # 0.15, then 0.85 x 0.1, then 0.765 over 300 talks, 300 edits (in two halves) and 400 masks, which make 1000.
    assert shares == pytest.approx(
        {
            "synthetic": 0.15,
            "reasonseg": 0.085,
            "llava": 0.2295,
            "magicbrush": 0.11475,
            "instructpix2pix": 0.11475,
            "cocostuff": 0.153,
            "refcoco": 0.0918,
            "grefcoco": 0.0612,
        }
    )


def test_a_missing_set_leaves_its_share_to_the_others() -> None:
    assert published_shares(sized("synthetic", "reasonseg", "magicbrush")) == pytest.approx(
        {"synthetic": 0.15, "reasonseg": 0.085, "magicbrush": 0.765}
    )
    assert published_shares(sized("llava", "instructpix2pix", "reasonseg")) == pytest.approx(
        {"llava": 0.54, "instructpix2pix": 0.36, "reasonseg": 0.1}
    )
    assert published_shares(sized("synthetic", "reasonseg")) == pytest.approx({"synthetic": 0.15, "reasonseg": 0.85})
    assert published_shares(sized("synthetic")) == {"synthetic": 1.0}


@pytest.mark.parametrize("left_out", SIZES)
def test_shares_add_up(left_out: str) -> None:
    assert sum(published_shares(sized(*(set(SIZES) - {left_out}))).values()) == pytest.approx(1)


def test_captions_are_of_the_first_stage() -> None:
    assert published_shares(sized("cc12m")) == {"cc12m": 1.0}
    assert published_shares(sized("cc12m", "llava")) == {"llava": 1.0}
    assert describe_shares(sized("cc12m")) == "drawn from: cc12m 100.0%"


def test_one_line_says_what_is_drawn_and_what_is_missing() -> None:
    assert describe_shares(sized(*SIZES)).endswith("grefcoco 6.1%")
    assert describe_shares(sized("synthetic", "magicbrush")) == (
        "drawn from: synthetic 15.0%, magicbrush 85.0%; not there: instructpix2pix, cocostuff, refcoco, grefcoco, "
        "reasonseg, llava, whose shares go to the others"
    )


def test_unknown_sets_are_refused(sets: Path) -> None:
    with pytest.raises(InputError, match=r"expected the name of a set \(cc12m, .*\), got 'laion'"):
        open_sources({"laion": sets})
    with pytest.raises(InputError, match=r"expected the set llava at .*nowhere, found nothing there"):
        open_sources({"llava": sets / "nowhere"})
    with pytest.raises(InputError, match="got 'laion': give shares of your own"):
        published_shares({"laion": Numbers(1)})
    with pytest.raises(InputError, match="got none"):
        published_shares({})
