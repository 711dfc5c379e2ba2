"""What the fork server of production runs loads once, so that each step starts with it."""

import lightgbm
import numba
import polars
import sklearn
import xgboost

__all__ = ["lightgbm", "numba", "polars", "sklearn", "xgboost"]
