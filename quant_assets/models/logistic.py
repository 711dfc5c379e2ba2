"""L2-penalised logistic regression of a few columns, by Newton's method.

scikit-learn's solver gives the same numbers (a test compares them) but sums with BLAS, whose bits depend on the
number of threads; limiting them is process-wide, and splits are fitted in threads of one process. With three or
four coefficients the whole method is a few sums, made here by numpy's pairwise summation.
"""

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError

Floats = NDArray[np.float64]

_MOST_STEPS = 100
_TOLERANCE = 1e-12  # Newton decrement for each row: far below what a float32 score can show


def logistic_weights(
    standard: Floats, classes: Floats, alpha: float, sample_weights: Floats | None
) -> Floats:
    """Intercept, not penalised, and coefficients of the log-odds of class 1.

    They minimise ``sum_i s_i (log(1 + exp(m_i)) - y_i m_i) + alpha / 2 |w|^2`` with ``m = w_0 + X w``.

    Parameters
    ----------
    standard : ndarray of float64, shape (n, k)
        Standardised columns; one that is all zero gets coefficient 0.
    classes : ndarray of float64, shape (n,)
        0 or 1.
    alpha : float
    sample_weights : ndarray of float64, shape (n,), or None

    Returns
    -------
    ndarray of float64, shape (1 + k,)

    Raises
    ------
    ModelError
        When there is no finite minimum: one class, or without a penalty classes that a plane separates.
    """
    columns = [np.ones(len(classes)), *standard.T]
    weight = np.ones(len(classes)) if sample_weights is None else sample_weights
    penalty = np.append(0.0, np.full(len(columns) - 1, alpha))
    beta = np.zeros(len(columns))
    value = _objective(columns, classes, weight, penalty, beta)
    for _ in range(_MOST_STEPS):
        margins = _margins(columns, beta)
        if alpha == 0 and bool(np.all(margins * (2.0 * classes - 1.0) > 0)):
            break  # every row on its side: the likelihood grows without end in this direction
        share = 0.5 * (1.0 + np.tanh(0.5 * margins))  # the logistic function, which cannot overflow
        residual, curvature = weight * (share - classes), weight * share * (1.0 - share)
        gradient = np.array([float((c * residual).sum()) for c in columns]) + penalty * beta
        hessian = np.array([[float((a * b * curvature).sum()) for b in columns] for a in columns])
        # A column that is all zero leaves a row of zeros: least squares gives it the step 0.
        step = np.linalg.lstsq(hessian + np.diag(penalty), gradient, rcond=None)[0]
        if float(gradient @ step) <= _TOLERANCE * len(classes):
            solution: Floats = beta - step
            return solution
        length = 1.0
        while (found := _objective(columns, classes, weight, penalty, beta - length * step)) > value:
            length /= 2
            if length < 1e-10:  # rounding is all that is left
                return beta
        beta, value = beta - length * step, found
    raise ModelError(
        "logistic stacker",
        expected=f"a finite minimum within {_MOST_STEPS} Newton steps",
        found=f"none: coefficients of {float(np.abs(beta).max()):.3g} and growing, the predictions separate the "
        "classes",
        action="set models.stacker.ridge_alpha above 0",
    )


def _margins(columns: list[Floats], beta: Floats) -> Floats:
    # Column by column: a product with BLAS would give a row other bits in another batch.
    total = np.zeros(len(columns[0]))
    for column, coefficient in zip(columns, beta, strict=True):
        total += coefficient * column
    return total


def _objective(
    columns: list[Floats], classes: Floats, weight: Floats, penalty: Floats, beta: Floats
) -> float:
    margins = _margins(columns, beta)
    loss = weight * (np.logaddexp(0.0, margins) - classes * margins)
    return float(loss.sum()) + 0.5 * float((penalty * beta * beta).sum())
