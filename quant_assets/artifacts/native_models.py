"""The native models of a bundle: each base learner in its library's own text, beside the stack that joins them.

LightGBM's text, XGBoost's and CatBoost's JSON can be loaded by the library alone; none of them is a pickle.
"""

import json
from collections.abc import Mapping
from typing import Any

from quant_assets.artifacts.archive import refused
from quant_assets.artifacts.manifest import ENSEMBLE, NATIVE_FOLDER
from quant_assets.common.errors import ModelError
from quant_assets.common.hashing import canonical_json
from quant_assets.models.ensemble import Ensemble

_ENDINGS = {"lightgbm": "txt", "xgboost": "json", "catboost": "json"}


def split_ensemble(record: Mapping[str, Any]) -> dict[str, bytes]:
    """The stored ensemble as files: one per base learner, and the stack with references to them."""
    files: dict[str, bytes] = {}
    references = []
    for learner in record["learners"]:
        name = f"{NATIVE_FOLDER}{learner['name']}.{_ENDINGS[learner['name']]}"
        files[name] = learner["text"].encode()
        references.append({key: value for key, value in learner.items() if key != "text"} | {"file": name})
    return {ENSEMBLE: canonical_json({**record, "learners": references}), **files}


def joined_ensemble(files: Mapping[str, bytes]) -> Ensemble:
    """The ensemble of a bundle's files, checked as a stored one is. No library is asked to load anything yet.

    Raises
    ------
    ArtifactError
        When the stack and the native models do not belong together, or one of them is damaged.
    """
    native = {name for name in files if name.startswith(NATIVE_FOLDER)}
    try:
        record = json.loads(files[ENSEMBLE])
        references = {learner.pop("file"): learner for learner in record["learners"]}
        if set(references) != native:
            raise refused(
                f"the native models of {ENSEMBLE}: {', '.join(sorted(references))}",
                f"{', '.join(sorted(native)) or 'none'}",
            )
        learners = [{**learner, "text": files[file].decode()} for file, learner in references.items()]
        return Ensemble.from_json({**record, "learners": learners})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise refused(
            f"a readable {ENSEMBLE} and native models", f"{type(error).__name__}: {error}"
        ) from error
    except ModelError as error:
        raise refused(f"native models that are whole: {error.expected}", error.found) from error
