"""What was fitted before, by everything that shaped it: a fit that a change does not touch is not made again.

Kept predictions are an optimisation and nothing else: what is found has the bits of what would be made. Who keeps
them, and whose word is believed, is a matter of the store; here stands only what a fit is called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.hashing import bytes_digest, json_digest
from quant_assets.common.model_settings import OWN_LEARNERS
from quant_assets.common.settings import ModelsConfig

Floats = NDArray[np.float64]


class FitStore(Protocol):
    """Where fits are kept."""

    def find(self, key: str) -> bytes | None:
        """What was kept under a key; None where there is nothing that is believed."""

    def keep(self, key: str, data: bytes) -> None:
        """Keep what was made under its key."""


class NothingKept:
    """Every fit is made."""

    def find(self, key: str) -> bytes | None:
        """None."""
        return None

    def keep(self, key: str, data: bytes) -> None:
        """Nothing."""


NOTHING_KEPT = NothingKept()


@dataclass(frozen=True)
class FitKeys:
    """The fits on one training set by name: a digest of all that shapes the bits of one learner's result.

    Attributes
    ----------
    training_set, unseen : str
        Digests of all rows, trained on and predicted. Of the whole of them, not of a split's: whatever a learner
        might read of other rows is in its name.
    models : ModelsConfig
    seed, embargo_sessions : int
    feature_names : tuple of str
    code : str
        Digest of the closure of the function that makes it.
    """

    training_set: str
    unseen: str
    models: ModelsConfig
    seed: int
    embargo_sessions: int
    feature_names: tuple[str, ...]
    code: str

    def key(self, what: str, learner: str, train: NDArray[np.int64] | None, test: NDArray[np.int64]) -> str:
        """Name of what one learner says of some rows.

        Parameters
        ----------
        what : {"unseen", "folds", "draft", "learner"}
            Only predictions of inner folds, and learning curves, depend on their number; none on the stacker's
            penalty.
        train : ndarray of int64, or None
            Positions of the rows trained on; None for all.
        test : ndarray of int64
            Positions of the rows predicted.
        """
        # Of the libraries alone: a desk may call a learner of its own ``weights``, which is a section too.
        others = {name for name in OWN_LEARNERS if name != learner}
        told = self.models.model_dump(mode="json")
        stacker, custom = told.pop("stacker"), told.pop("custom")
        rows = [bytes_digest(part.astype("<i8").tobytes()) for part in (train, test) if part is not None]
        return json_digest(
            {
                "what": what,
                "learner": learner,
                "models": {name: value for name, value in told.items() if name not in others},
                "custom": custom.get(learner),
                "plugins": [plugin.digest for plugin in self.models.plugins(learner)],
                "inner_folds": stacker["inner_folds"] if what in ("folds", "learner") else None,
                "training_set": self.training_set,
                "unseen": self.unseen,
                "rows": rows if train is not None else ["all", *rows],
                "seed": self.seed,
                "embargo_sessions": self.embargo_sessions,
                "features": list(self.feature_names),
                "code": self.code,
            }
        )


def found_floats(store: FitStore, key: str, shape: tuple[int, ...]) -> Floats | None:
    """Kept numbers, when they are of the shape that they must have."""
    data = store.find(key)
    if data is None or len(data) != 8 * int(np.prod(shape)):
        return None
    return np.frombuffer(data, dtype="<f8").reshape(shape)


def floats_bytes(values: Floats) -> bytes:
    """Numbers as they are kept."""
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def kept_or_made(store: FitStore, key: str, make: Callable[[], bytes]) -> bytes:
    """What is kept under a key, else what is made, and kept from now on."""
    found = store.find(key)
    if found is None:
        found = make()
        store.keep(key, found)
    return found
