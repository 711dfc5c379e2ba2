"""Tests of the notebook face."""
