"""The gates: every module here declares some and registers them. A new one is a new object, and nothing else."""

__all__: list[str] = []
