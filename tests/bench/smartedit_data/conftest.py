"""Every set at a tiny size, in the layout in which it is downloaded."""

import json
import shutil
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from maskedit.editors import save_image


def write_picture(path: Path, height: int = 12, width: int = 16, *, seed: int = 0) -> None:
    """A picture of coarse random colours."""
    coarse = torch.rand(1, 3, 3, 4, generator=torch.Generator().manual_seed(seed))
    save_image(torch.nn.functional.interpolate(coarse, (height, width)), path)


def write_json(path: Path, content: Any) -> None:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def make_captions(root: Path) -> None:
    """CC12M in its three forms."""
    (root / "shards").mkdir(parents=True)
    (root / "cc12m.tsv").write_text(
        "http://example.com/1.jpg\ta café at night\nhttp://example.com/2.jpg\ttwo dogs\n", encoding="utf-8"
    )
    for number in range(2):
        with tarfile.open(root / "shards" / f"cc12m-train-{number:04d}.tar", "w") as shard:
            for key in range(number + 1):
                parts = {"jpg": b"\xff\xd8not read\n", "txt": f"shard {number} caption {key}".encode(), "json": b"{}"}
                for ending, content in parts.items():
                    member = tarfile.TarInfo(f"{number:04d}{key:05d}.{ending}")
                    member.size = len(content)
                    shard.addfile(member, BytesIO(content))
    (root / "unpacked" / "00000").mkdir(parents=True)
    (root / "unpacked" / "00000" / "000000001.txt").write_text("a lone caption\n", encoding="utf-8")


def make_instructpix2pix(root: Path) -> None:
    """Two prompts, one with two seeds."""
    write_json(root / "seeds.json", [["0000001", ["11", "12"]], ["0000002", ["21"]]])
    for name, seed in (("0000001", 11), ("0000001", 12), ("0000002", 21)):
        write_json(root / name / "prompt.json", {"input": "a", "edit": f"change  {name}", "output": "b"})
        write_picture(root / name / f"{seed}_0.jpg", seed=seed)
        write_picture(root / name / f"{seed}_1.jpg", seed=seed + 1)


def make_magicbrush(root: Path) -> None:
    """A session of two turns and one of one; edited pictures are larger than the photos."""
    sessions = {
        "139306": [
            {
                "input": f"139306-{'input' if turn == 1 else f'output{turn - 1}'}.png",
                "mask": f"139306-mask{turn}.png",
                "output": f"139306-output{turn}.png",
                "instruction": f"turn {turn}",
            }
            for turn in (1, 2)
        ],
        "7": [{"input": "7-input.png", "mask": "7-mask1.png", "output": "7-output1.png", "instruction": "a hat"}],
    }
    write_json(root / "train" / "edit_sessions.json", sessions)
    write_json(root / "train" / "edit_turns.json", [turn for turns in sessions.values() for turn in turns])
    for photo, turns in sessions.items():
        write_picture(root / "train" / "images" / photo / f"{photo}-input.png", 10, 10, seed=1)
        for number in range(1, len(turns) + 1):
            write_picture(root / "train" / "images" / photo / f"{photo}-output{number}.png", 20, 20, seed=2)


def make_coco(root: Path) -> None:
    """Photos of both years."""
    for number in (1, 2):
        write_picture(root / "train2017" / f"{number:012d}.jpg", seed=number)
        write_picture(root / "train2014" / f"COCO_train2014_{number:012d}.jpg", seed=number)


def make_cocostuff(root: Path) -> None:
    """A map of two classes beside unlabelled pixels, and one of unlabelled pixels alone."""
    (root / "train2017").mkdir(parents=True)
    (root / "labels.txt").write_text("0: unlabeled\n1: person\n2: bicycle\n3: car\n", encoding="utf-8")
    numbers = np.full((12, 16), 255, np.uint8)
    cv2.imwrite(str(root / "train2017" / "000000000002.png"), numbers)
    numbers[:4], numbers[4:6] = 0, 2
    cv2.imwrite(str(root / "train2017" / "000000000001.png"), numbers)


def _instances() -> dict[str, Any]:
    crowd = {"size": [12, 16], "counts": [0, 24, 168]}
    return {
        "images": [{"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "height": 12, "width": 16} for n in (1, 2)],
        "annotations": [
            {"id": 10, "image_id": 1, "iscrowd": 0, "segmentation": [[2, 2, 8, 2, 8, 8, 2, 8]]},
            {"id": 11, "image_id": 1, "iscrowd": 0, "segmentation": [[10, 2, 14, 2, 14, 6, 10, 6]]},
            {"id": 12, "image_id": 2, "iscrowd": 1, "segmentation": crowd},
        ],
        "categories": [{"id": 1, "name": "person"}],
    }


def _ref(number: int, image: int, objects: Any, *, split: str = "train") -> dict[str, Any]:
    said = [{"sent_id": number, "sent": f"Thing {number}", "tokens": ["thing", str(number)]}]
    return {"ref_id": number, "split": split, "image_id": image, "ann_id": objects, "sentences": said}


def make_refcoco(root: Path) -> None:
    """Two objects of the training part and one of another."""
    write_json(root / "refcoco" / "instances.json", _instances())
    refs = [_ref(0, 1, 10), _ref(1, 2, 12), _ref(2, 1, 11, split="val")]
    write_json(root / "refcoco" / "refs(unc).json", refs)


def make_grefcoco(root: Path) -> None:
    """Two objects at once, and none."""
    write_json(root / "instances.json", _instances())
    write_json(root / "grefs(unc).json", [_ref(0, 1, [10, 11]), _ref(1, 2, [-1])])


def make_reasonseg(root: Path) -> None:
    """A question, a phrase and a question whose object has a name."""
    whole = [[0, 0], [15, 0], [15, 11], [0, 11]]
    part = [[2, 2], [5, 2], [5, 5], [2, 5]]
    records = {
        "a": {"text": ["What rolls?", "Which part turns?"], "is_sentence": True},
        "b": {"text": "The thing that rolls.", "is_sentence": False},
        "c": {"text": ["What rolls?"], "is_sentence": True, "Name": "Wheel"},
    }
    for name, record in records.items():
        shapes = [{"label": "ignore", "points": part}, {"label": "target", "points": whole}]
        flag = {"label": "flag", "points": whole}
        write_json(root / "ReasonSeg" / "train" / f"{name}.json", {**record, "shapes": [*shapes, flag]})
        write_picture(root / "ReasonSeg" / "train" / f"{name}.jpg")


def make_llava(root: Path) -> None:
    """A talk of two questions and one of one."""
    talk = [("human", "<image>\nWhat is it?"), ("gpt", "A bus."), ("human", "Which colour?"), ("gpt", "Red.")]
    talks = [talk, [("human", "Describe it.\n<image>"), ("gpt", "A street.")]]
    records = [
        {"id": str(n), "image": f"{n:012d}.jpg", "conversations": [{"from": who, "value": said} for who, said in each]}
        for n, each in enumerate(talks, 1)
    ]
    write_json(root / "llava_instruct_150k.json", records)


def make_synthetic(root: Path) -> None:
    """Two pairs, named from where their authors worked."""
    pairs: dict[str, Any] = {}
    for number in range(2):
        places = {side: f"understanding/{number}_{side}.png" for side in ("origin", "target")}
        for seed, place in enumerate(places.values()):
            write_picture(root / place, seed=seed)
        above = "./dataset/SyntheticData/" if number else "/data/somebody/"
        paths = {f"{side}_img_path": above + place for side, place in places.items()}
        pairs[f"{number:04d}"] = {**paths, "instruction": [f"edit {number}", f"change {number}"]}
    write_json(root / "SyntheticData_info_new.json", pairs)


MAKERS: dict[str, Callable[[Path], None]] = {
    "cc12m": make_captions,
    "instructpix2pix": make_instructpix2pix,
    "magicbrush": make_magicbrush,
    "coco": make_coco,
    "cocostuff": make_cocostuff,
    "refcoco": make_refcoco,
    "grefcoco": make_grefcoco,
    "reasonseg": make_reasonseg,
    "llava": make_llava,
    "synthetic": make_synthetic,
}


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sets side by side; not to be changed."""
    root = tmp_path_factory.mktemp("sets")
    for name, make in MAKERS.items():
        make(root / name)
    return root


@pytest.fixture
def own_sets(sets: Path, tmp_path: Path) -> Path:
    """All sets side by side, to be damaged."""
    return Path(shutil.copytree(sets, tmp_path / "sets"))


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of draws."""
    return np.random.default_rng(0)
