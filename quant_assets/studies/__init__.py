"""Studies: experiments on the platform itself and on a strategy: calibration, leakage, importance, tuning."""
