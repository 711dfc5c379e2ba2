"""Equal bits on one host, the stated tolerance on another one, which is made here of switched-off processor paths."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from quant_assets.common.hashing import canonical_json, json_digest
from quant_assets.models.ensemble import HOST_TOLERANCE, Ensemble, fit_ensemble
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, SMALL_DIRECTIONS, training_frame

ROOT = Path(__file__).parents[2]
OPTIONS = {"seed": 7, "embargo_sessions": 2, "recipe": "r"}
REFIT = """
import json, pathlib, sys
import numpy as np, polars as pl
from quant_assets.models.ensemble import Ensemble, fit_ensemble
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, SMALL_DIRECTIONS
folder = pathlib.Path(sys.argv[1])
frame = pl.read_parquet(folder / "rows.parquet")
again = fit_ensemble(
    frame, FEATURES, SMALL_DIRECTIONS, seed=7, embargo_sessions=2, recipe="r", n_jobs=int(sys.argv[2])
)
rows = training_arrays(frame, FEATURES).features
stored = Ensemble.from_json(json.loads((folder / "stored.json").read_text()))
np.save(folder / "refitted.npy", again.predict(rows))
np.save(folder / "stored.npy", stored.predict(rows))
(folder / "again.json").write_text(json.dumps(again.to_json()))
"""


@pytest.fixture(scope="module")
def ensemble():
    return fit_ensemble(training_frame(), FEATURES, SMALL_DIRECTIONS, **OPTIONS)


def elsewhere(folder, ensemble, n_jobs, **environment):
    training_frame().write_parquet(folder / "rows.parquet")
    (folder / "stored.json").write_bytes(canonical_json(ensemble.to_json()))
    command = [sys.executable, "-W", "ignore", "-c", REFIT, str(folder), str(n_jobs)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env={**os.environ, **environment})
    found = json.loads((folder / "again.json").read_text())
    return found, np.load(folder / "refitted.npy"), np.load(folder / "stored.npy")


def test_another_process_with_two_fits_at_a_time_has_the_same_bits(ensemble, tmp_path):
    again, refitted, stored = elsewhere(tmp_path, ensemble, 2, OMP_NUM_THREADS="2")
    assert json_digest(again) == json_digest(ensemble.to_json())
    expected = ensemble.predict(training_arrays(training_frame(), FEATURES).features)
    assert refitted.tobytes() == stored.tobytes() == expected.tobytes()
    assert Ensemble.from_json(again) == ensemble


def test_an_older_processor_gives_the_same_trees_and_scores_within_the_stated_tolerance(ensemble, tmp_path):
    """Code paths of numpy, the C library and BLAS for newer processors are switched off, as a host would."""
    from numpy._core._multiarray_umath import __cpu_dispatch__

    again, refitted, stored = elsewhere(
        tmp_path, ensemble, 1,
        NPY_DISABLE_CPU_FEATURES=" ".join(__cpu_dispatch__),
        GLIBC_TUNABLES="glibc.cpu.hwcaps=-AVX2,-FMA,-AVX,-AVX512F",
        OPENBLAS_CORETYPE="NEHALEM",
    )  # fmt: skip
    expected = ensemble.predict(training_arrays(training_frame(), FEATURES).features)
    for scores in (refitted, stored):
        assert np.abs(scores - expected).max() <= HOST_TOLERANCE * expected.std()
    assert [part["text"] for part in again["learners"]] == [part.text for part in ensemble.learners]


def test_a_change_that_the_tolerance_is_there_to_notice_exceeds_it(ensemble):
    """The smallest change of a fit, another seed, moves scores by far more."""
    rows = training_arrays(training_frame(), FEATURES).features
    other = fit_ensemble(training_frame(), FEATURES, SMALL_DIRECTIONS, **{**OPTIONS, "seed": 8})
    expected = ensemble.predict(rows)
    assert np.abs(other.predict(rows) - expected).max() > 1e4 * HOST_TOLERANCE * expected.std()
