"""The Dagster face of the platform: one file per stage of the lineage. The only folder that imports Dagster."""
