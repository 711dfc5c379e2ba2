"""All benchmarks in turn: ``make bench``. They print; they never fail a build."""

from quant_assets_tests.benchmarks import features, validation
from quant_assets_tests.benchmarks.contest import circumstances, show


def main() -> None:
    """Features, then validation."""
    show([circumstances("numpy", "numba", "polars"), "", "Features"])
    features.main()
    show(["", "Validation"])
    validation.main([])


if __name__ == "__main__":
    main()
