"""The one look of what people see: the theme of pages (self-contained HTML reports) and that of the plots in them.

Figures are drawn through matplotlib's object interface on Agg, and the same figure gives the same bytes: no
``pyplot`` state, no date and no library version in the file.
"""

import base64
import hashlib
import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quant_assets.common.files import Location, make_folder, write_whole
from quant_assets.common.hashing import bytes_digest

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = "style.css.j2"
FRONT = "index.html"  # the one page that is replaced, and links the others

INK = "#1d2733"
MUTED = "#66758a"
GRID = "#e4e9f0"
ACCENT = "#1f5fbf"
FAN = "#8fb1e0"
GOOD = "#1a7f4b"
BAD = "#b3261e"
WARN = "#9a6700"

THEME: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # shipped inside matplotlib, so every host draws the same glyphs
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "figure.facecolor": "white",
    "svg.hashsalt": "quant_assets",
}


# ------------------------------------------------------------------------------------------------------ pages


def page_environment(templates: Path) -> "Environment":
    """Where a report's template is rendered: everything escaped, nothing undefined, the shared style at hand.

    Parameters
    ----------
    templates : Path
        Folder of the report's own template, which takes the style with ``{% include "style.css.j2" %}``.
    """
    from jinja2 import ChoiceLoader, DictLoader, Environment, FileSystemLoader, StrictUndefined

    style = Path(__file__).with_name(STYLE).read_text(encoding="utf-8")
    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(templates), DictLoader({STYLE: style})]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {f.__name__: f for f in (percent, number, compact, limit, count, sentence)}
    return environment


def publish_page(home: Location, stem: str, html: str) -> Location:
    """Put a report where a browser opens it: one immutable file per content below ``reports/``, or one object."""
    target = home / "reports" / f"{stem}-{bytes_digest(html.encode())[:8]}.html"
    make_folder(target.parent)
    write_whole(target, html.encode())
    return target


def publish_front(home: Location, html: str) -> Location:
    """Replace the page that links all others. Readers see the old one or the new one, whole."""
    target = home / "reports" / FRONT
    make_folder(target.parent)
    write_whole(target, html.encode())
    return target


def script_source(script: str) -> str:
    """A script as a Content-Security-Policy names it: by the digest of its text (w3.org/TR/CSP3)."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def percent(value: float | None, decimals: int = 1) -> str:
    """A fraction in percent."""
    return _shown(value, f".{decimals}%")


def number(value: float | None, decimals: int = 2) -> str:
    """A number with a fixed number of decimals."""
    return _shown(value, f".{decimals}f")


def compact(value: float | None) -> str:
    """A number with at least three significant digits, written out: 12.3, 0.0123, 12,345."""
    if value is None or not math.isfinite(value) or value == 0.0:
        return _shown(value, ".0f")
    size = math.floor(math.log10(abs(float(f"{value:.2e}"))))
    return _shown(value, f",.{max(2 - size, 0)}f" if -5 <= size <= 9 else ".2e")


def limit(value: float | None) -> str:
    """A configured number as somebody would write it: 0.95, 1.2, 3,269."""
    return _shown(value, ",.6g")


def count(value: float | None) -> str:
    """How many, with thousands apart."""
    return _shown(value, ",.0f")


def sentence(words: str) -> str:
    """Words as a sentence: a capital first, a stop last, signs as they are written on paper."""
    said = re.sub(r"(?<![\w.])-(?=[0-9])", "−", words.replace(">=", "≥").replace("<=", "≤"))
    return said[:1].upper() + said[1:] + ("" if said.endswith((".", "!", "?")) else ".")


def _shown(value: float | None, form: str) -> str:
    """A number with a real minus sign, which nothing that rounds to zero has; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = format(value, form)
    return text.replace("-", "−") if re.search("[1-9]", text) else text.lstrip("-")


# ------------------------------------------------------------------------------------------------------ plots


def plot_label(name: str, longest: int = 24) -> str:
    """A name beside an axis: as it is spelt, without mathematics ("$x$"), a long one without its middle."""
    if len(name) > longest:
        name = f"{name[: longest // 2 - 1]}…{name[-longest // 2 :]}"
    return name.replace("$", r"\$")


@contextmanager
def themed_figure(width_inches: float = 6.4, height_inches: float = 3.2) -> "Iterator[tuple[Figure, Axes]]":
    """A figure with one axes, on the Agg canvas, known to no global registry; draw it inside the ``with``.

    matplotlib reads its settings when a line or a legend is made, so the theme holds for the whole block. The
    user's own ``matplotlibrc`` never reaches the picture.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_theme()):
        figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots()


def new_figure(width_inches: float = 6.4, height_inches: float = 3.2) -> "tuple[Figure, Axes]":
    """A themed figure and its axes, for a picture without a legend: those take the theme from `themed_figure`."""
    with themed_figure(width_inches, height_inches) as made:
        return made


def _theme() -> Any:
    from matplotlib import rcParamsDefault

    settings = {k: v for k, v in rcParamsDefault.items() if k not in ("backend", "backend_fallback")}
    return settings | THEME


def figure_png(figure: "Figure", dpi: int = 160) -> bytes:
    """The figure as PNG. The same figure gives the same bytes on the same versions of matplotlib.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    dpi : int
        Dots per inch.
    """
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context(_theme()):
        # Without this, the file would carry matplotlib's version and (for other formats) the date.
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def png_data_uri(png: bytes) -> str:
    """A PNG as a ``data:`` address, to stand inside an HTML file that needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
