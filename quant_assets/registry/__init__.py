"""Registry: the tracking record in MLflow, the promotion ledger, and the one place that moves an alias.

The only package that imports MLflow, and it does so inside functions (the import takes 3 s).
"""
