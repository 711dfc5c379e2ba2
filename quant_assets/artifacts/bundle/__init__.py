"""The bundle: everything that serving needs in one archive, scanned, signed, verified before use."""
