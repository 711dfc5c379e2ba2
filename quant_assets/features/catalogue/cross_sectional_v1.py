"""``cross_sectional_v1``: rank and robust score of 8 inputs among the symbols of a session.

A symbol takes part in a session with its own bar of that session and past its warm-up. With fewer than 10 such
symbols there is no value: a rank of few has few values, and a median absolute deviation of few is noise (a
relative standard error of about 1.17 / sqrt(2 n) / 0.61 = 43 % for 10 normal values). No sectors are used.
"""

from quant_assets.features.feature import CrossSection, Feature, Unit
from quant_assets.features.pack import Pack, register

PLAIN = "plain definition"
JEGADEESH = (
    "Jegadeesh and Titman (1993), Journal of Finance 48; one month skipped as in Fama and French (1996)"
)
GEORGE = "George and Hwang (2004), The 52-week high and momentum investing, Journal of Finance 59"
RANK = "midranks: Kendall (1945), The treatment of ties in ranking problems, Biometrika 33"
ROBUST = "modified z-score: Iglewicz and Hoaglin (1993), How to Detect and Handle Outliers"


def _input(name: str, lookback: int, unit: Unit, formula: str, source: str = PLAIN) -> Feature:
    return Feature(name, lookback, unit, formula, source, lookback)


def _return(n: int) -> Feature:
    return _input(f"ret_{n}", n, "fraction", f"(close - close[-{n}]) / close[-{n}]")


INPUTS = (
    _return(1),
    _return(5),
    _return(20),
    _input("momentum_12_1", 252, "fraction", "close[-21] / close[-252] - 1", JEGADEESH),
    _input("sigma_60", 60, "fraction", "population sd of the last 60 values of ret_1"),
    _input(
        "log_volume_z_20",
        19,
        "standard_deviations",
        "(log2 volume - mean) / population sd over the bars with volume among the last 20; "
        "0 in a bar without volume and when they are all equal; logarithms rounded to 2^-34",
    ),
    _input("nma_60", 59, "fraction", "close / SMA(close, 60) - 1"),
    _input("high_252", 251, "fraction", "close / highest high of the last 252 bars - 1", GEORGE),
)


def _rank(of: Feature) -> Feature:
    formula = f"(midrank - 1) / (n - 1) - 0.5 of {of.name} among the n symbols of the session"
    return Feature(f"rank_{of.name}", of.warm_up, "centred_rank", formula, RANK, of.lookback)


def _score(of: Feature) -> Feature:
    formula = (
        f"({of.name} - median) / (1.4826 median absolute deviation) among the symbols of the session, "
        "limited to -3..3; 0 when the deviation is 0"
    )
    return Feature(f"z_{of.name}", of.warm_up, "standard_deviations", formula, ROBUST, of.lookback)


register(
    Pack(
        name="cross_sectional_v1",
        description="Ranks and robust scores of 8 inputs among the symbols of each session.",
        kernel="quant_assets.features.kernels.cross_sectional:cross_sectional_v1_inputs",
        features=(*map(_rank, INPUTS), *map(_score, INPUTS)),
        cross_section=CrossSection(
            step="quant_assets.features.kernels.cross_sectional:rank_and_score",
            inputs=INPUTS,
            reads=tuple((of.name,) for of in INPUTS * 2),
            min_symbols=10,
        ),
    )
)
