"""All benchmarks in turn: ``make bench``. They print; they never fail a build."""

from quant_assets_tests.benchmarks import cross_validation, features, inference, short_loop, validation
from quant_assets_tests.benchmarks.contest import circumstances, show


def main() -> None:
    """Features, then validation, inference, cross-validation of models, and the short loop."""
    show([circumstances("numpy", "numba", "polars"), "", "Features"])
    features.main()
    show(["", "Validation"])
    validation.main([])
    show(["", "Inference"])
    inference.main([])
    show(["", "Cross-validation of models"])
    cross_validation.main([])
    show(["", "The short loop"])
    short_loop.main([])


if __name__ == "__main__":
    main()
