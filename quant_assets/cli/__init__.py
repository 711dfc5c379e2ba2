"""The ``quant-assets`` command: one module a command, one terminal."""
