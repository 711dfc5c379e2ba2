"""The one page theme: self-contained HTML reports, with their style, number formats and the file they go to."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from quant_assets.common.files import Location, make_folder, write_whole
from quant_assets.common.hashing import bytes_digest

if TYPE_CHECKING:
    from jinja2 import Environment


def page_environment(templates: Path) -> "Environment":
    """Where a report's template is rendered: everything escaped, nothing undefined, the shared style at hand.

    Parameters
    ----------
    templates : Path
        Folder of the report's own template, which takes the style with ``{% include "style.css.j2" %}``.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([templates, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": percent, "number": number, "compact": compact}
    return environment


def publish_page(home: Location, stem: str, html: str) -> Location:
    """Put a report where a browser opens it: one immutable file per content below ``reports/``, or one object."""
    target = home / "reports" / f"{stem}-{bytes_digest(html.encode())[:8]}.html"
    make_folder(target.parent)
    write_whole(target, html.encode())
    return target


def percent(value: float | None, decimals: int = 1) -> str:
    """A fraction in percent."""
    return _shown(value, f".{decimals}%")


def number(value: float | None, decimals: int = 2) -> str:
    """A number with a fixed number of decimals."""
    return _shown(value, f".{decimals}f")


def compact(value: float | None) -> str:
    """A number with four significant digits."""
    return _shown(value, ".4g")


def _shown(value: float | None, form: str) -> str:
    """A number with a real minus sign; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else format(value, form).replace("-", "−")
