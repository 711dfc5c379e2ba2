"""The lineage: every stage declared once, as data, without an orchestrator."""
