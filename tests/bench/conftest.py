"""Shared by the tests of the benches: a tiny Reason-Edit."""

from pathlib import Path

import pytest
import torch

from maskedit.editors import save_image

LISTS = {
    "1-Left-Right": "Left_Right_text.txt",
    "4-Color": "Color_text.txt",
    "6-Reasoning": "Reason_test.txt",
}


@pytest.fixture(scope="session")
def reason_edit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of left and right, one of a colour and one of reasoning; do not write into it."""
    root = tmp_path_factory.mktemp("reason_edit")
    generator = torch.Generator().manual_seed(0)
    for (folder, listing), count in zip(LISTS.items(), (2, 1, 1), strict=True):
        lines: list[str] = []
        for number in range(count):
            mask = torch.zeros(1, 1, 64, 64)
            mask[..., 8 : 24 + 16 * number, 16:40] = 1
            save_image(torch.rand(1, 3, 64, 64, generator=generator), root / folder / f"{number}.png")
            save_image(mask, root / folder / f"{number}_mask.jpg")
            lines.append(f"make the left cube {'red' if number else 'blue'} CLIP: a cube")
        (root / folder / listing).write_text("\n".join(lines))
    return root
