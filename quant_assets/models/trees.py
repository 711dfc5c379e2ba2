"""Trees in one form, whatever library grew them: their split nodes, checked before anything reads them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError

# ------------------------------------------------------ trees in one form, whatever library grew them


@dataclass(frozen=True)
class Tree:
    """The split nodes of one tree. Node 0 is the root; a negative child is a leaf.

    Attributes
    ----------
    feature : ndarray of int64, shape (n_splits,)
        Column that the node reads.
    threshold : ndarray of float32, shape (n_splits,)
        Exact in float32 for every library: LightGBM's are floored, XGBoost and CatBoost hold float32.
    left, right : ndarray of int64, shape (n_splits,)
        Split node that follows, negative for a leaf.
    inclusive : bool
        True when ``x <= threshold`` goes left (LightGBM, CatBoost), False for ``x < threshold`` (XGBoost).
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    inclusive: bool

    @property
    def n_splits(self) -> int:
        """Number of split nodes; 0 when the tree is a single leaf."""
        return len(self.feature)


def checked_tree(tree: Tree, *, n_features: int, owner: str) -> Tree:
    """The tree itself, once its node and column numbers are known to be inside their ranges.

    Raises
    ------
    ModelError
        When columns of the tree differ in length, or a node or column number is out of range. Libraries read
        such a text without a bounds check.
    """
    n = tree.n_splits
    lengths = {len(tree.threshold), len(tree.left), len(tree.right)}
    children = np.concatenate((tree.left, tree.right))
    inside = n == 0 or (
        lengths == {n}
        and int(tree.feature.min()) >= 0
        and int(tree.feature.max()) < n_features
        and int(children.max()) < n
        # a child after its parent in every library's numbering: no cycles
        and bool(np.all((tree.left < 0) | (tree.left > np.arange(n))))
        and bool(np.all((tree.right < 0) | (tree.right > np.arange(n))))
        and bool(np.isfinite(tree.threshold).all())
    )
    if not inside or (n == 0 and lengths != {0}):
        raise ModelError(
            f"a tree of {owner}",
            expected=f"equally long columns, features below {n_features}, children after their parent, "
            "finite thresholds",
            found=f"{n} features, column lengths {sorted(lengths)}, or a number out of range",
            action="fit the model again: the stored text is damaged",
        )
    return tree
