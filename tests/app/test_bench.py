"""`maskedit bench` measures, prints and writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_foi_bench_writes_its_figures(call: Callable[..., Any], ip2p_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "figures" / "foi.json"
    small = ["--scenes", 2, "--batch", 2, "--ablation-scenes", 0, "--foi.steps", 2, "--ip2p.steps", 2]
    done = call("bench", "foi", "--model", ip2p_folder, "--json", target, *small)
    assert done.code == 0, done.err
    document = json.loads(target.read_text())
    assert document["bench"] == "foi"
    assert {row["method"] for row in document["rows"]} == {"unedited", "ip2p", "foi"}
    assert "unedited" in done.out
    assert "followed" in done.out
    assert str(target) in done.out


def test_unwritable_targets_are_refused_before_measuring(call: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = call("bench", "speed", "--json", tmp_path / "file" / "speed.json")
    assert done.code == 2
    assert "choose another --json" in done.err


def test_the_embedded_set_is_what_is_measured_by_default(call: Callable[..., Any]) -> None:
    assert "(default: embedded)" in call("bench", "foi", "--help").out
