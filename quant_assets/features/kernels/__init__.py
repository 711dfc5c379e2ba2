"""Compiled indicator arithmetic. Importing a module from here imports numba; the package itself does not.

Every kernel is IEEE-exact (add, subtract, multiply, divide, square root; no fast-math, no transcendental), so
the same bars give the same bits in any process, on any number of threads and under any numpy.
"""

__all__: list[str] = []
