"""Options of SmartEdit's bench: what cannot be measured is refused."""

import pytest

from maskedit.bench.smartedit_options import METHODS, SmartEditBenchConfig


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sets", (), "sets must name at least one, got none"),
        ("phrasings", (), "phrasings must name at least one, got none"),
        ("scenes", 0, "scenes must be at least 1, got 0"),
        ("batch", 0, "batch must be at least 1, got 0"),
        ("variants", ("mine",), "variants must be NAME=FOLDER"),
        ("variants", ("=folder",), "variants must be NAME=FOLDER"),
        ("variants", ("mine= ",), "variants must be NAME=FOLDER"),
        ("variants", ("../mine=folder",), "variants must be NAME=FOLDER"),
        ("variants", ("ip2p=folder",), "variants must have names of their own, got 'ip2p'"),
        ("variants", ("mine=a", "mine=b"), "must each be named once, got 'mine' twice"),
        ("methods", ("ip2p", "foi", "ip2p"), "must each be named once, got 'ip2p' twice"),
    ],
)
def test_what_cannot_be_measured_is_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmartEditBenchConfig(**{name: value})


def test_both_sets_in_both_phrasings_are_the_default() -> None:
    config = SmartEditBenchConfig(variants=("without-bim=some/folder=1",))
    assert (config.sets, config.phrasings) == (("understanding", "reasoning"), ("known", "held-out"))
    assert METHODS == ("unedited", "truth", "ip2p", "foi", "instructedit", "smartedit")
