"""The Dagster face of the platform: the lineage as assets, checks and sensors. Only this folder imports it."""

__all__: list[str] = []
