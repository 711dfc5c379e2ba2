"""What makes a page readable on a telephone, offline and on paper, as far as its text says it."""

import itertools
import re
from collections.abc import Callable, Collection
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from quant_assets_tests.reports.test_tear_sheet import Page

NARROW = 360  # CSS pixels that a telephone has at least, less the margins of the page
TELEPHONE = 340.0  # of these a picture gets
IN_A_BOX = (".heat", "img.wide")
LEAST_PIXELS = 6.5  # of an em in a picture there


def require_fits(html: str, beside: Collection[str] = ()) -> None:
    """Nothing is wider than a telephone outside of a box that scrolls, nothing is fetched, links lead somewhere.

    Parameters
    ----------
    beside : collection of str
        Names of the pages in the same folder.
    """
    page = Page(html)
    metas = [attributes for tag, attributes in page.elements if tag == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    (policy,) = [m["content"] or "" for m in metas if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    assert not {tag for tag, _ in page.elements} & {"link", "iframe", "object", "embed", "base", "form"}
    assert re.findall(r'\bsrc="(?!data:image/png;base64,)', html) == []
    assert "url(" not in html
    assert "@import" not in html
    _require_boxes(html)
    _require_narrow(html)
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for _, attributes in page.elements:
        address = attributes.get("href") or ""
        if attributes.get("class", "") in ("ui", "ui small"):
            assert re.fullmatch(r"/(assets|runs)/[\w./-]+", address), address
        elif address.startswith("#"):
            assert address[1:] in ids, address
        elif "href" in attributes:
            assert address in beside, address


def _require_boxes(html: str) -> None:
    """Every table lies in a box that scrolls, or becomes cards on a telephone."""
    for place in re.finditer("<table", html):
        boxed = re.search(r'<div class="scroll" tabindex="0">\s*$', html[: place.start()])
        assert boxed or html.startswith('<table class="overview">', place.start()), html[place.start() :][:80]


def _require_narrow(html: str) -> None:
    """No style asks for more than a telephone has, but for what lies in a box that scrolls."""
    for style in re.findall(r"<style>(.*?)</style>", html, re.DOTALL):
        for selector, rules in re.findall(r"([^{}]+)\{([^{}]*)\}", style):
            widths = re.findall(r"(?<![-\w])(?:min-)?width:\s*([0-9]+)px", rules)
            assert max(map(int, widths), default=0) <= NARROW or selector.strip() in IN_A_BOX, selector
    inline = re.findall(r'style="[^"]*width:\s*([0-9]+)px', html)
    assert max(map(int, inline), default=0) <= NARROW


def reading(draw: Callable[[Figure, int], bytes]) -> Callable[..., bytes]:
    """In the place of ``figure_png``: the same picture, in which no label is cut, too small or over another."""

    def drawn(figure: Figure, dpi: int = 160) -> bytes:
        require_readable(figure)
        return draw(figure, dpi)

    return drawn


def require_readable(figure: Figure) -> None:
    """No text is cut at the edge, or smaller than `LEAST_PIXELS` on a telephone; ticks do not touch."""
    figure.draw_without_rendering()
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    renderer, edge = canvas.get_renderer(), figure.bbox  # type: ignore[no-untyped-call]
    scale = TELEPHONE / (figure.get_figwidth() * 72.0)
    for text in _texts(figure):
        box = text.get_window_extent(renderer)
        assert edge.x0 - 1 <= box.x0, (text.get_text(), box)
        assert box.x1 <= edge.x1 + 1, (text.get_text(), box)
        assert edge.y0 - 1 <= box.y0, (text.get_text(), box)
        assert box.y1 <= edge.y1 + 1, (text.get_text(), box)
        if figure.get_figwidth() <= 6.0:  # wider ones lie in a box that scrolls
            assert float(text.get_fontsize()) * scale >= LEAST_PIXELS, text.get_text()
    for axes in figure.axes:
        labels = sorted(
            (t.get_window_extent(renderer) for t in _ticks(axes, "x") if t.get_rotation() == 0),
            key=lambda b: b.x0,
        )
        for one, other in itertools.pairwise(labels):
            assert one.x1 < other.x0, axes.get_xlabel()


def _ticks(axes: Axes, which: str) -> list[Text]:
    axis = getattr(axes, f"{which}axis")
    low, high = sorted(axis.get_view_interval())
    place = 0 if which == "x" else 1
    return [
        t
        for t in axis.get_ticklabels()
        if t.get_visible() and t.get_text() and low <= t.get_position()[place] <= high
    ]


def _texts(figure: Figure) -> list[Text]:
    ticks: set[Any] = set()
    shown: list[Text] = []
    for axes in figure.axes:
        if not axes.get_visible():
            ticks |= set(axes.findobj(Text))
            continue
        for which in ("x", "y"):
            ticks |= set(getattr(axes, f"{which}axis").get_ticklabels(which="both"))
            shown += _ticks(axes, which)
    rest = [t for t in figure.findobj(Text) if t not in ticks and t.get_visible() and t.get_text().strip()]
    return [*shown, *(t for t in rest if isinstance(t, Text))]
