"""The leakage prover: experiments on the whole path of a strategy, each of which names the stage that leaks."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.studies.leakage.prover import prove_no_leak
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "prove_no_leak",
]
