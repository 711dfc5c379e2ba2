"""A step in a pool that works for as long as a file is there: to be killed in, and to be waited for."""

import os
import sys
import time
from pathlib import Path

import dagster as dg

from quant_assets.common.logging import configure_logging
from quant_assets.defs.running import executed, open_instance

BUSY = "POOLED_STEP_IS_BUSY"


@dg.asset(pool="training")
def slow() -> int:
    """One number, when the file is gone."""
    while Path(os.environ[BUSY]).exists():
        time.sleep(0.05)
    return 1


defs = dg.Definitions(assets=[slow], jobs=[dg.define_asset_job("slow_job", selection=[slow])])

if __name__ == "__main__":
    configure_logging()
    with open_instance(Path(sys.argv[1])) as instance:
        sys.stdout.write(f"worked {executed(defs, 'slow_job', instance).success}\n")
