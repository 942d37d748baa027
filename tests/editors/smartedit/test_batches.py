"""Steps, shares of processes, and workers: the same samples in all cases."""

import resource
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from maskedit.editors import InputError
from maskedit.editors.smartedit.batches import EncodedSample, Numbered, StepReader, fit_sample, share_of
from maskedit.editors.smartedit.samples import Sample


@dataclass(frozen=True)
class Counting:
    """Samples that say their number: edits, talks and captions in turn."""

    def draw(self, number: int) -> Sample:
        if number % 3 == 2:
            return Sample(text=f"{number}")
        image = torch.full((3, 4, 6), number / 1000)
        return Sample(text=f"{number}", image=image, target=None if number % 3 else 1 - image, answer=None)


def numbers(samples: tuple[Numbered, ...]) -> list[int]:
    assert all(each.sample.text == f"{each.number}" for each in samples)
    return [each.number for each in samples]


def reader(**more: int) -> StepReader:
    return StepReader(Counting(), **{"batch": 6, "size": 8, "steps": 5, **more})


def test_steps_follow_each_other() -> None:
    one = reader()
    assert [numbers(one.read(step)) for step in range(5)] == [list(range(6 * s, 6 * s + 6)) for s in range(5)]


def test_a_run_that_goes_on_meets_the_same_samples() -> None:
    assert numbers(reader().read(3)) == [18, 19, 20, 21, 22, 23]
    one = reader()
    one.read(0)
    assert numbers(one.read(4)) == [24, 25, 26, 27, 28, 29]


def test_the_numbers_of_a_run_may_begin_anywhere() -> None:
    assert numbers(reader(first=1000).read(1)) == list(range(1006, 1012))


def test_processes_share_a_step() -> None:
    parts = [reader(index=index, count=3) for index in range(3)]
    assert [numbers(part.read(1)) for part in parts] == [[6, 7], [8, 9], [10, 11]]


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(InputError, match="4 processes can share evenly, got 6"):
        share_of(6, 0, 4)


# Python 3.12 says so of every fork in a process with threads; the workers only read pictures.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_read_what_is_read_without_them() -> None:
    alone, helped = reader(), reader(workers=2)
    for step in (1, 2, 3, 4):
        for one, other in zip(alone.read(step), helped.read(step), strict=True):
            assert one.number == other.number
            plain = fit_sample(Counting().draw(one.number), 8)
            for name in ("image", "target"):
                expected = getattr(plain, name)
                for each in (one, other):
                    picture = getattr(each.sample, name)
                    assert (picture is None) == (expected is None)
                    assert expected is None or torch.equal(picture, expected)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_large_step_takes_few_file_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 60, hard))
    try:
        one = reader(batch=96, workers=1)
        assert [len(one.read(step)) for step in range(5)] == [96] * 5
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_latents_come_with_the_samples_that_have_them_and_what_was_skipped_is_told(workers: int) -> None:
    class Encoded:
        def draw(self, number: int) -> Sample:
            image = torch.full((3, 8, 8), number / 10)
            own = torch.full((4, 2, 2), float(number)) if number != 1 else None
            return EncodedSample(text="a", image=image, target=image, image_latents=own, skipped=(f"no {number}",))

    reasons = list[str]()
    one = StepReader(Encoded(), batch=3, size=8, steps=1, workers=workers, skipped=reasons.append)
    samples = [each.sample for each in one.read(0)]
    assert all(isinstance(each, EncodedSample) for each in samples)
    latents = [each.image_latents for each in samples if isinstance(each, EncodedSample)]
    assert [None if each is None else each.mean().item() for each in latents] == [0, None, 2]
    assert reasons == ["no 0", "no 1", "no 2"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_is_one_line(workers: int) -> None:
    class Broken:
        def draw(self, number: int) -> Sample:
            raise InputError(f"cannot read picture {number}")

    one = StepReader(Broken(), batch=6, size=8, steps=5, workers=workers)
    with pytest.raises(InputError, match=r"^cannot read picture 12$"):
        one.read(2)


def test_pictures_are_squashed_to_a_square_and_stay_colours() -> None:
    image = torch.rand(3, 5, 9, generator=torch.Generator().manual_seed(0)).round()
    fitted = fit_sample(Sample(text="a", image=image, target=1 - image), 16)
    assert fitted.image is not None
    assert fitted.target is not None
    assert fitted.image.shape == fitted.target.shape == (3, 16, 16)
    assert fitted.image.min() >= 0
    assert fitted.image.max() <= 1
    torch.testing.assert_close(fitted.image + fitted.target, torch.ones(3, 16, 16))


def test_captions_and_latents_pass_through() -> None:
    caption = Sample(text="a")
    assert fit_sample(caption, 16) is caption
    latents = torch.rand(4, 2, 2)
    encoded = EncodedSample(text="a", image=torch.rand(3, 4, 4), target=torch.rand(3, 4, 4), image_latents=latents)
    fitted = fit_sample(encoded, 8)
    assert isinstance(fitted, EncodedSample)
    assert fitted.image_latents is latents
