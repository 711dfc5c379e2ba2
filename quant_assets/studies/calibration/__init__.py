"""Calibration: how often the gates let noise pass, and how often they let skill pass, measured and with intervals."""
