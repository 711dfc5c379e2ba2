"""Sharpe inference: published numbers of both standards, independent oracles, calibration under the null."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.rates import Rate, clopper_pearson
from quant_assets.statistics.sharpe import (
    annualisation_factor,
    annualised_sharpe,
    deflated_sharpe_alpha,
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    minimum_backtest_length,
    minimum_track_record_length,
    moments,
    probabilistic_sharpe_ratio,
    sharpe_ratio,
    sharpe_standard_error,
    sharpe_test_power,
)
from quant_assets.statistics.sharpe_inference import variance_of_maximum

# Bailey and Lopez de Prado (2012): mean .036, sd .079, 24 months, skewness -2.448, kurtosis 10.164
SHARPE, MONTHS, SKEWNESS, KURTOSIS = 0.45569620253164556, 24, -2.448, 10.164


def close(value):
    return pytest.approx(value, rel=1e-12, abs=0)


def test_the_probabilistic_sharpe_ratio_of_2012_has_the_published_values():
    assert probabilistic_sharpe_ratio(SHARPE, MONTHS, SKEWNESS, KURTOSIS) == close(0.9127093395948954)
    assert probabilistic_sharpe_ratio(SHARPE, MONTHS) == close(0.9812427223085144)
    assert probabilistic_sharpe_ratio(SHARPE, MONTHS, SKEWNESS, KURTOSIS, 0.1) == close(0.8553606185907747)


def test_the_minimum_track_record_of_2012_has_the_published_values():
    assert minimum_track_record_length(SHARPE, SKEWNESS, KURTOSIS) == close(34.76135780432688)
    assert minimum_track_record_length(SHARPE) == close(15.381550042641436)


def test_the_2025_standard_gives_the_numbers_of_its_authors():
    new = {"standard": "2025"}
    assert probabilistic_sharpe_ratio(SHARPE, MONTHS, SKEWNESS, KURTOSIS, **new) == close(0.9872072612614331)
    assert probabilistic_sharpe_ratio(SHARPE, MONTHS, SKEWNESS, KURTOSIS, 0.1, **new) == close(
        0.9391476251031434
    )
    assert minimum_track_record_length(SHARPE, SKEWNESS, KURTOSIS, **new) == close(13.02877831559373)
    assert minimum_track_record_length(SHARPE, SKEWNESS, KURTOSIS, 0.1, **new) == close(27.109154488628405)
    assert sharpe_standard_error(SHARPE, MONTHS, SKEWNESS, KURTOSIS, **new) == close(0.32858859404279556)
    assert sharpe_standard_error(SHARPE, MONTHS, **new) == close(0.21445954499051031)
    power = sharpe_test_power(0.5, MONTHS, SKEWNESS, KURTOSIS, alpha=0.05, **new)
    assert round(1 - power, 3) == 0.315


def test_the_deflated_sharpe_ratio_of_2014_has_the_published_values():
    daily, variance = 2.5 / math.sqrt(250), 0.5 / 250
    assert expected_maximum_sharpe(100, variance) == close(0.11317200186513214)
    assert deflated_sharpe_ratio(daily, 1250, 100, variance, -3, 10) == close(0.9003968344493903)
    assert round(deflated_sharpe_ratio(daily, 1250, 46, variance, -3, 10), 4) == 0.9505


EXPECTED_MAXIMUM = {
    2: 0.5197553442805939, 5: 1.1925940010147893, 7: 1.3867744613541602, 10: 1.57459830134575,
    20: 1.9007079511811988, 45: 2.2356401777664052, 50: 2.2763030934203483, 100: 2.5306028932016846,
    1000: 3.255121513652723,
}  # fmt: skip
BACKTEST_YEARS = {
    2: 0.27014561790823866, 5: 1.4222804512564633, 7: 1.923143406664121, 10: 2.4793598106009216,
    20: 3.6126907156834305, 45: 4.998087004443404, 50: 5.181555773115047, 100: 6.403951003080737,
    1000: 10.595816068644794,
}  # fmt: skip


def test_the_false_strategy_theorem_has_its_published_values():
    trials = list(EXPECTED_MAXIMUM)
    assert expected_maximum_sharpe(trials) == pytest.approx(list(EXPECTED_MAXIMUM.values()), rel=1e-12)
    assert minimum_backtest_length(trials) == pytest.approx(list(BACKTEST_YEARS.values()), rel=1e-12)
    assert minimum_backtest_length(45, expected_maximum=2.0) == close(4.998087004443404 / 4)


@pytest.mark.parametrize(
    ("annual", "years"),
    [
        (0.5, 10.831510212123911),
        (1, 2.714879849837667),
        (1.5, 1.211800153117992),
        (2, 0.6857222592661063),
        (3, 0.3099523350861875),
    ],
)
def test_minimum_track_records_of_daily_normal_returns_in_years(annual, years):
    assert minimum_track_record_length(annual / math.sqrt(252)) / 252 == close(years)


@pytest.mark.parametrize(
    ("periods", "autocorrelation", "factor"),
    [
        (12, -0.2, 4.170848014103785), (12, -0.1, 3.7978732284797094), (12, 0, 3.464101615137755),
        (12, 0.1, 3.160110974295498), (12, 0.2, 2.87884869052744), (12, 0.3, 2.614805746335916),
        (12, 0.5, 2.12128797552083), (252, -0.1, 17.542898398035053), (252, 0, 15.874507866387543),
        (252, 0.1, 14.364791681446269), (252, 0.2, 12.97221021364883),
    ],
)  # fmt: skip
def test_annualisation_of_autocorrelated_returns_follows_lo_2002(periods, autocorrelation, factor):
    assert annualisation_factor(periods, autocorrelation) == close(factor)
    assert annualised_sharpe(0.1, periods, autocorrelation) == close(0.1 * factor)


def test_one_trial_selects_nothing():
    assert expected_maximum_sharpe(1) == 0.0
    assert minimum_backtest_length(1) == 0.0
    for standard in ("2012", "2025"):
        deflated = deflated_sharpe_ratio(0.1, 500, 1, 0.3, -1, 5, standard)
        assert deflated == close(probabilistic_sharpe_ratio(0.1, 500, -1, 5, 0.0, standard))


def test_the_expected_maximum_never_falls_when_trials_are_added():
    maxima = expected_maximum_sharpe(np.concatenate([np.linspace(1, 3, 200), np.logspace(1, 30, 50)]))
    assert (np.diff(maxima) >= 0).all()
    assert np.isfinite(maxima).all()


def test_the_variance_of_the_maximum_matches_closed_forms_and_simulation():
    assert variance_of_maximum(1) == close(1.0)
    assert variance_of_maximum(2) == close(1 - 1 / math.pi)
    assert variance_of_maximum(3) == pytest.approx(0.5594672038, abs=1e-9)  # Teichroew 1956, order statistics
    draws = np.random.default_rng(11).normal(size=(200_000, 10)).max(axis=1)
    assert variance_of_maximum(10) == pytest.approx(draws.var(), rel=0.015)


def test_deflation_of_2025_narrows_the_variance_to_that_of_the_maximum():
    threshold = expected_maximum_sharpe(10, 0.01)
    spread = math.sqrt((1 + threshold**2 / 2) / 100 * variance_of_maximum(10))
    expected = stats.norm.cdf((0.2 - threshold) / spread)
    assert deflated_sharpe_ratio(0.2, 100, 10, 0.01, standard="2025") == close(expected)


def test_autocorrelation_enters_the_2025_variance_as_sums_of_lagged_correlations():
    # 4000 simulated AR(1) series: their Sharpe ratios must spread as the formula says
    rho, periods, series = 0.3, 400, 4000
    noise = np.random.default_rng(5).normal(size=(series, periods + 50)) * math.sqrt(1 - rho**2)
    for t in range(1, periods + 50):
        noise[:, t] += rho * noise[:, t - 1]
    simulated = np.std(sharpe_ratio(noise[:, 50:] + 0.1))
    predicted = sharpe_standard_error(0.1, periods, standard="2025", autocorrelation=rho)
    assert predicted == pytest.approx(simulated, rel=0.04)
    assert sharpe_standard_error(0.1, periods, standard="2025") < 0.8 * simulated


def test_a_null_of_zero_skill_passes_at_the_stated_level():
    returns = np.random.default_rng(2024).normal(size=(4000, 500))
    sharpe = sharpe_ratio(returns)
    skewness, kurtosis = moments(returns)
    lowest, highest = stats.binom.interval(0.99, 4000, 0.05)
    for standard in ("2012", "2025"):
        passed = (probabilistic_sharpe_ratio(sharpe, 500, skewness, kurtosis, 0.0, standard) >= 0.95).sum()
        assert lowest <= passed <= highest


def test_the_best_of_twenty_null_strategies_passes_undeflated_and_is_refused_deflated():
    returns = np.random.default_rng(99).normal(size=(400, 20, 252))
    sharpe = sharpe_ratio(returns)
    best, variance = sharpe.max(axis=1), sharpe.var(axis=1, ddof=1)
    undeflated = (probabilistic_sharpe_ratio(best, 252) >= 0.95).mean()
    assert undeflated == pytest.approx(1 - 0.95**20, abs=0.08)
    assert (deflated_sharpe_ratio(best, 252, 20, variance) >= 0.95).mean() < 0.05


@pytest.mark.parametrize("standard", ["2012", "2025"])
@pytest.mark.parametrize("truth", [0.0, 0.06, 0.12])
def test_stated_power_is_the_share_of_simulated_skilled_series_that_pass(standard, truth):
    simulated = np.random.default_rng(17).normal(size=(4000, 500)) + truth
    passed = (probabilistic_sharpe_ratio(sharpe_ratio(simulated), 500, standard=standard) >= 0.95).mean()
    power = sharpe_test_power(truth, 500, standard=standard)
    assert abs(passed - power) < 3 * math.sqrt(0.25 / 4000)


@settings(max_examples=50, deadline=None)
@given(
    st.floats(-0.5, 1), st.integers(2, 60), st.floats(-2, 2), st.floats(0, 20), st.floats(-0.3, 0.3),
    st.sampled_from([0.01, 0.05, 0.5]),
)  # fmt: skip
def test_power_of_2012_is_the_integral_of_the_passing_estimates(
    truth, n_obs, skewness, excess, benchmark, alpha
):
    kurtosis = 1.01 + skewness**2 + excess
    error = sharpe_standard_error(truth, n_obs, skewness, kurtosis)
    grid = np.linspace(truth - 9 * error, truth + 9 * error, 40_001)
    passes = probabilistic_sharpe_ratio(grid, n_obs, skewness, kurtosis, benchmark) >= 1 - alpha
    mass = integrate.trapezoid(stats.norm.pdf(grid, truth, error) * passes, grid)
    assert sharpe_test_power(truth, n_obs, skewness, kurtosis, benchmark, alpha) == pytest.approx(
        mass, abs=6e-4
    )


def test_on_a_short_skewed_record_very_high_estimates_fail_the_2012_test_again():
    # z^2 (g4 - 1)/4 = 12.85 exceeds T - 1 = 9: the estimates between .424 and 1.69 pass, and none above
    passes = probabilistic_sharpe_ratio([0.41, 0.43, 1.6, 1.8, 9.0], 10, 3.0, 20.0) >= 0.95
    assert passes.tolist() == [False, True, True, False, False]
    error = sharpe_standard_error(0.8, 10, 3.0, 20.0)
    grid = np.linspace(0.8 - 9 * error, 0.8 + 9 * error, 400_001)
    inside = probabilistic_sharpe_ratio(grid, 10, 3.0, 20.0) >= 0.95
    mass = integrate.trapezoid(stats.norm.pdf(grid, 0.8, error) * inside, grid)
    assert sharpe_test_power(0.8, 10, 3.0, 20.0) == pytest.approx(mass, abs=1e-4)


def test_no_estimate_passes_on_a_short_fat_tailed_record():
    assert sharpe_test_power(5.0, 6, 0.0, 30.0) == 0.0


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0.02, 1), st.floats(-1.5, 1.5), st.floats(0.1, 10), st.floats(-0.2, 0.01),
    st.sampled_from(["2012", "2025"]),
)  # fmt: skip
def test_at_the_minimum_track_record_the_probability_is_exactly_one_minus_alpha(
    sharpe, skewness, excess, benchmark, standard
):
    kurtosis = 1 + skewness**2 + excess
    length = minimum_track_record_length(sharpe, skewness, kurtosis, benchmark, 0.05, standard)
    assume(length >= 2)
    probability = probabilistic_sharpe_ratio(sharpe, length, skewness, kurtosis, benchmark, standard)
    assert probability == pytest.approx(0.95, abs=1e-9)


def test_no_record_is_long_enough_for_a_sharpe_ratio_at_or_below_the_benchmark():
    assert minimum_track_record_length(0.1, benchmark=0.1) == math.inf
    assert minimum_track_record_length([0.05, 0.2], benchmark=0.1)[0] == math.inf


def test_floats_give_floats_and_arrays_broadcast():
    single = probabilistic_sharpe_ratio(0.1, 250)
    assert type(single) is float
    table = probabilistic_sharpe_ratio(np.array([[0.1], [0.2]]), np.array([250, 500, 1000]))
    assert table.shape == (2, 3)
    assert table[0, 0] == single
    assert deflated_sharpe_ratio([0.1, 0.2], 250, [[5], [10], [20]], 0.01, standard="2025").shape == (3, 2)
    assert type(expected_maximum_sharpe(10)) is float
    assert sharpe_test_power([0.1, 0.2], 250).shape == (2,)
    assert type(sharpe_ratio([0.01, -0.02, 0.03])) is float


def test_sharpe_and_moments_agree_with_scipy_on_fat_tailed_series():
    returns = np.random.default_rng(1).standard_t(4, size=(7, 300)) * 0.01
    assert sharpe_ratio(returns) == pytest.approx(returns.mean(1) / returns.std(1, ddof=1), rel=1e-12)
    skewness, kurtosis = moments(returns)
    assert skewness == pytest.approx(stats.skew(returns, axis=1), rel=1e-10)
    assert kurtosis == pytest.approx(stats.kurtosis(returns, axis=1, fisher=False), rel=1e-10)
    assert sharpe_ratio(returns.T, axis=0) == pytest.approx(sharpe_ratio(returns), rel=1e-12)
    assert moments(returns.T, axis=0)[1] == pytest.approx(kurtosis, rel=1e-12)
    assert sharpe_ratio(returns, risk_free=0.001) == pytest.approx(sharpe_ratio(returns - 0.001), rel=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.001, -0.001, 1e-9, 0.1])
def test_a_constant_series_has_no_sharpe_ratio(constant):
    series = np.full(250, constant)
    assert math.isnan(sharpe_ratio(series))
    assert all(math.isnan(moment) for moment in moments(series))
    assert not bool(probabilistic_sharpe_ratio(sharpe_ratio(series), 250, *moments(series)) >= 0.95)


@pytest.mark.parametrize("standard", ["2012", "2025"])
@pytest.mark.parametrize("position", range(5))
def test_nan_in_any_argument_comes_out_as_nan(standard, position):
    arguments = [0.1, 250.0, -0.5, 4.0, 0.02]
    arguments[position] = math.nan
    assert math.isnan(probabilistic_sharpe_ratio(*arguments, standard))
    assert math.isnan(sharpe_test_power(*arguments, 0.05, standard))
    deflated = [0.1, 250.0, 10.0, 0.01, -0.5, 4.0]
    deflated[position] = math.nan
    assert math.isnan(deflated_sharpe_ratio(*deflated, standard))
    length = [0.1, -0.5, 4.0, 0.02, 0.05]
    length[position] = math.nan
    assert math.isnan(minimum_track_record_length(*length, standard))


def test_nan_and_infinite_returns_come_out_as_nan():
    for bad in (math.nan, math.inf):
        assert math.isnan(sharpe_ratio([0.01, bad, 0.02]))
        assert all(math.isnan(moment) for moment in moments([0.01, bad, 0.02]))
    assert np.isnan(sharpe_ratio([[0.01, 0.02, 0.03], [0.01, math.nan, 0.03]])).tolist() == [False, True]


def test_a_variance_of_zero_gives_no_probability():
    assert math.isnan(probabilistic_sharpe_ratio(2.0, 50, skewness=1.0, kurtosis=2.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probabilistic_sharpe_ratio(0.1, 1), "n_obs"),
        (lambda: probabilistic_sharpe_ratio(0.1, [250, 0]), "found 0.0"),
        (lambda: probabilistic_sharpe_ratio(2.0, 50, 3.0, 3.0), "Pearson"),
        # the variance of these is positive, and so a probability would come out of them
        (lambda: probabilistic_sharpe_ratio(0.1, 50, 3.0, 3.0), "skewness 3.0 and kurtosis 3.0"),
        (lambda: probabilistic_sharpe_ratio(0.1, 50, -1.5, 3.2), "kurtosis >= 1 + skewness**2"),
        (lambda: probabilistic_sharpe_ratio(0.1, 50, 0.0, 0.5), "excess kurtosis"),
        (lambda: deflated_sharpe_ratio(0.1, 50, 10, 0.1, -2.0, 4.9), "Pearson"),
        (lambda: minimum_track_record_length(0.1, [0.0, 2.0], [3.0, 4.9]), "Pearson"),
        (lambda: probabilistic_sharpe_ratio(0.1, 250, standard="2014"), "'2014'"),
        (lambda: probabilistic_sharpe_ratio(0.1, 250, autocorrelation=0.1), 'standard="2025"'),
        (
            lambda: probabilistic_sharpe_ratio(0.1, 250, standard="2025", autocorrelation=1.0),
            "autocorrelation",
        ),
        (lambda: deflated_sharpe_ratio(0.1, 250, 0, 0.1), "n_trials"),
        (lambda: deflated_sharpe_ratio(0.1, 250, math.inf, 0.1), "n_trials"),
        (lambda: deflated_sharpe_ratio(0.1, 250, 10, -0.1), "trial_variance"),
        (lambda: minimum_track_record_length(0.1, alpha=0.0), "alpha"),
        (lambda: minimum_track_record_length(0.1, alpha=0.6), "alpha"),
        (lambda: minimum_backtest_length(10, 0.0), "expected_maximum"),
        (lambda: annualisation_factor(0), "periods_per_year"),
        (lambda: annualisation_factor(252, -1.0), "autocorrelation"),
        (lambda: sharpe_test_power(0.1, 1), "n_obs"),
        (lambda: sharpe_ratio([0.01]), "at least 2 periods"),
        (lambda: sharpe_ratio(0.01), "at least 2 periods"),
        (lambda: moments([]), "at least 2 periods"),
    ],
)
def test_undefined_input_is_refused_with_what_was_found(call, message):
    with pytest.raises(ValidationError) as refusal:
        call()
    assert message in str(refusal.value)


def test_the_stated_alpha_of_a_deflated_sharpe_ratio_is_measured_and_interpolated_between_numbers_of_trials():
    assert deflated_sharpe_alpha(1, 0.97, standard="2025") == pytest.approx(0.03)  # one trial: an exact test
    for n, passed in ((2, 59_392), (10, 43_114), (400, 53_225)):
        assert deflated_sharpe_alpha(n, 0.95, standard="2025") == passed / 1_000_000
    between = deflated_sharpe_alpha(7, 0.95, standard="2025")
    assert between == pytest.approx(
        0.043048 + (0.043114 - 0.043048) * math.log(7 / 5) / math.log(2), abs=1e-9
    )
    # between two levels the lower one counts, so that the truth is not above what is stated
    assert deflated_sharpe_alpha(10, 0.98, "2012") == deflated_sharpe_alpha(10, 0.975, "2012") == 0.001479
    assert deflated_sharpe_alpha(10, 0.94, "2025") is None
    assert deflated_sharpe_alpha(10_001, 0.95, "2025") is None
    with pytest.raises(ValidationError, match="n_trials"):
        deflated_sharpe_alpha(0.5, 0.95)


@pytest.mark.parametrize("standard", ["2012", "2025"])
@pytest.mark.parametrize("n_trials", [2, 10, 100])
def test_the_table_of_stated_alphas_is_what_noise_shows(n_trials, standard):
    ledgers = 20_000
    trials = np.random.default_rng([7, n_trials]).normal(size=(ledgers, n_trials))
    trials.sort(axis=1)
    variance = np.maximum(trials[:, :-1].var(axis=1, ddof=1), 1.0) if n_trials > 2 else np.ones(ledgers)
    periods = 10**8  # so long that the Sharpe ratio's own variance adds nothing
    ratios = deflated_sharpe_ratio(
        trials[:, -1] / math.sqrt(periods), periods, n_trials, variance / periods, standard=standard
    )
    passed = Rate(int((ratios >= 0.95).sum()), ledgers)
    low, high = clopper_pearson(passed.passes, ledgers, 0.999)
    assert low <= deflated_sharpe_alpha(n_trials, 0.95, standard) <= high
