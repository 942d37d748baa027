"""What is told of a plan, and what is written of an instruction for one picture."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskedit.app.pictures import Picture
from maskedit.app.telling import Teller, instruction_record
from maskedit.editors import Captions, EditRequest, Instruction

CUBE = Captions(source="a red cube", target="a blue cube")
BALL = Captions(source="a ball", target="a green ball")
ALL = Captions(source="a red cube and a ball", target="a blue cube and a green ball")
GROUP = [Picture(path=Path(f"{n}.png"), name=str(n), number=n, height=8, width=8) for n in range(2)]


def request(*instructions: Instruction, **changes: Any) -> EditRequest:
    return EditRequest(image=torch.zeros(2, 3, 8, 8), instructions=instructions, **changes)


def test_the_captions_of_every_region_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    planned = request(
        Instruction(text="make the red cube blue", phrases=("red cube",), captions=(CUBE,)),
        Instruction(text="make the ball green", phrases=("ball",), captions=(BALL,)),
        captions=(ALL,),
    )
    teller = Teller()
    for _ in range(2):
        teller.plan(GROUP, planned, 1)
    assert capsys.readouterr().out == (
        "a red cube and a ball -> a blue cube | a green ball; in 2 parts: make the red cube blue; make the ball green; "
        "looking for: red cube, ball\n"
    )


def test_what_differs_is_told_picture_by_picture(capsys: pytest.CaptureFixture[str]) -> None:
    own = Instruction(text="paint it", phrases=("cube", "ball"), phrases_by_image=(("cube",), ("ball",)))
    Teller().plan(GROUP, request(own, captions=(CUBE,)), 1)
    assert capsys.readouterr().out.splitlines() == [
        "0.png: a red cube -> a blue cube; looking for: cube",
        "1.png: a red cube -> a blue cube; looking for: ball",
    ]


def test_an_instruction_is_written_with_what_holds_for_the_picture() -> None:
    own = Instruction(
        text="paint it",
        phrases=("cube", "ball"),
        phrases_by_image=(("cube",), ("ball",)),
        captions=(CUBE, BALL),
        note="taken as one edit",
        mask=torch.ones(2, 1, 8, 8),
    )
    (second,) = request(own).rows(slice(1, 2)).instructions
    assert json.loads(json.dumps(instruction_record(second))) == {
        "text": "paint it",
        "keyword": None,
        "strength": 1.0,
        "phrases": ["ball"],
        "mask": None,
        "captions": {"source": "a ball", "target": "a green ball"},
        "note": "taken as one edit",
    }
    assert instruction_record(Instruction(text="paint it")).keys() == {"text", "keyword", "strength", "phrases", "mask"}


def test_regions_are_told_and_recorded_from_the_command_line(
    call: Callable[..., Any],
    pictures: tuple[Path, ...],
    sd_flags: list[object],
    clipseg_flags: list[object],
    tmp_path: Path,
) -> None:
    text = "make the cube blue and remove the ball"
    common = ["--editor", "instructedit", "--grounding.mask-threshold", 0.0, *clipseg_flags, *sd_flags]
    done = call("edit", pictures[0], "--instruction", text, *common)
    assert done.code == 0, done.err
    assert "photo of a cube and a ball -> photo of a blue cube | photo of an empty background; in 2 parts" in done.out
    record = json.loads((tmp_path / "out" / "p0.json").read_text())
    own = [each["captions"] for each in record["instructions"]]
    assert [each["target"] for each in own] == ["photo of a blue cube", "photo of an empty background"]
    assert record["trace"]["region_captions"] == own
    assert [found["phrase"] for found in record["trace"]["grounding"]] == ["cube", "ball"]
