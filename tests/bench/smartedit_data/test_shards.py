"""Captions in shards: found once, and found anew when the shard is another one."""

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from maskedit.bench.smartedit_data.shards import cached_place, find_captions
from maskedit.editors import InputError

NAME = "cc12m-train-0001.tar"


@pytest.fixture
def shard(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copy(sets / "cc12m" / "shards" / NAME, tmp_path / NAME))


def only_once(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go through the shard, then find the same with no archive opened."""
    found = find_captions(shard)
    texts = [shard.read_bytes()[start : start + size] for start, size in found]
    assert texts == [b"shard 1 caption 0", b"shard 1 caption 1"]
    with monkeypatch.context() as patched:
        patched.setattr(tarfile, "open", lambda *_: pytest.fail("the shard was gone through again"))
        assert np.array_equal(find_captions(shard), found)


def test_a_shard_is_gone_through_once(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_once(shard, monkeypatch)
    assert shard.with_name(f"{NAME}.captions").is_file()
    assert not cached_place(shard).exists()


def test_the_cache_stands_in_for_a_folder_that_cannot_be_written(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard.with_name(f"{NAME}.captions").mkdir()
    only_once(shard, monkeypatch)
    assert cached_place(shard).is_file()
    assert not list(shard.parent.glob("*.partial"))


def test_without_any_place_captions_are_found_all_the_same(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard.with_name(f"{NAME}.captions").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(shard))
    assert len(find_captions(shard)) == len(find_captions(shard)) == 2


def test_another_shard_or_a_damaged_index_is_not_believed(sets: Path, shard: Path) -> None:
    wanted = find_captions(shard)
    index = shard.with_name(f"{NAME}.captions")
    index.write_bytes(b"half")
    assert np.array_equal(find_captions(shard), wanted)
    shutil.copy(sets / "cc12m" / "shards" / "cc12m-train-0000.tar", shard)
    assert len(find_captions(shard)) == 1
    # The same bytes at another time may be others next time.
    written = index.read_bytes()
    os.utime(shard, ns=(1, 1))
    assert len(find_captions(shard)) == 1
    assert index.read_bytes() != written


def test_damaged_and_missing_shards_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"cannot read .*a\.tar as a shard"):
        find_captions(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "b.tar", "w"):
        pass
    with pytest.raises(InputError, match=r"b\.tar holds no captions"):
        find_captions(tmp_path / "b.tar")
    with pytest.raises(InputError, match=r"cannot read .*c\.tar"):
        find_captions(tmp_path / "c.tar")
