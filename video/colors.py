"""Between the colours of video files and RGB, by FFmpeg's scaler at its most exact.

Its fast way gives one colour to four pixels and rounds each step; the exact one interpolates, and knows where between
the pixels the colours of a format lie. A file that names no colour matrix has the one that players assume for its size.
"""

from collections.abc import Callable
from typing import Any

from .containers import load_av

_EXACT = "flags=bilinear+accurate_rnd+full_chroma_int+full_chroma_inp"
_UNNAMED = 2
"""FFmpeg's number of the colour matrix of a file that names none."""

_HDR_CURVES = (16, 18)
"""FFmpeg's numbers of the transfer curves PQ and HLG."""

Converter = Callable[[Any], Any]


def matrix_of_size(height: int, width: int) -> str:
    """FFmpeg's name of the colour matrix of television with pictures of a size: high definition or standard."""
    return "bt709" if max(height, width) >= 1280 or min(height, width) > 576 else "smpte170m"


def rgb_converter(frame: Any) -> Converter:
    """What turns frames like this one into RGB; high dynamic range becomes the ordinary one."""
    options = [_EXACT]
    if frame.colorspace == _UNNAMED and not frame.format.is_rgb:
        options.append(f"in_color_matrix={matrix_of_size(frame.height, frame.width)}")
    if frame.color_trc in _HDR_CURVES:
        options.append("out_transfer=bt709:out_primaries=bt709")
    return _converter(frame, options, "rgb24")


def yuv_converter(frame: Any) -> Converter:
    """What turns RGB frames like this one into those of an ordinary mp4."""
    matrix = matrix_of_size(frame.height, frame.width)
    return _converter(frame, [_EXACT, f"out_color_matrix={matrix}:out_range=tv:out_chroma_loc=left"], "yuv420p")


def _converter(frame: Any, options: list[str], pixel_format: str) -> Converter:
    # One graph for all frames: the tables of some conversions take seconds to make.
    graph = load_av().filter.Graph()
    size = {"width": frame.width, "height": frame.height}
    source = graph.add_buffer(**size, format=frame.format, time_base=frame.time_base)
    chain = [source, graph.add("scale", ":".join(options)), graph.add("format", pixel_format), graph.add("buffersink")]
    graph.link_nodes(*chain).configure()

    def convert(frame: Any) -> Any:
        # By the graph and not by its ends, which do not keep it alive.
        graph.vpush(frame)
        return graph.vpull()

    return convert
