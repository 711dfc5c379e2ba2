"""All benchmarks in turn: ``make bench``. They print; they never fail a build."""

from quant_assets_tests.benchmarks import cross_validation, features, inference, validation
from quant_assets_tests.benchmarks.contest import circumstances, show


def main() -> None:
    """Features, then validation, inference, and cross-validation of models."""
    show([circumstances("numpy", "numba", "polars"), "", "Features"])
    features.main()
    show(["", "Validation"])
    validation.main([])
    show(["", "Inference"])
    inference.main([])
    show(["", "Cross-validation of models"])
    cross_validation.main([])


if __name__ == "__main__":
    main()
