"""Reports: a candidate on one page, and all strategies of the desk on another."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.reports.desk import DeskReport, Listed, desk_statistics, render_desk
    from quant_assets.reports.tear_sheet import TearSheetInputs, candidate_tear_sheet, render_tear_sheet
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "DeskReport",
    "Listed",
    "TearSheetInputs",
    "candidate_tear_sheet",
    "desk_statistics",
    "render_desk",
    "render_tear_sheet",
]
