"""From bars to the features of a desk's pack: its recipe, masked, checked, in the form of every other feature."""

from collections.abc import Mapping

import polars as pl

from quant_assets.common.errors import FeatureError
from quant_assets.features.as_known import FOUND_WRONG, as_known
from quant_assets.features.desk_packs import DeskPack
from quant_assets.features.warm_up import beside, masked

KEYS = ("symbol", "session")


def recipe_features(bars: pl.DataFrame, pack: DeskPack, *, precision: str, mask: bool) -> pl.DataFrame:
    """The features of a pack with a recipe over checked bars in order of (symbol, session).

    Parameters
    ----------
    bars : polars.DataFrame
        ``symbol, session, open, high, low, close, volume`` (float64), and where the panel has such bars
        ``known_at`` and ``found_wrong_at``.
    pack : DeskPack
    precision : {"float32", "float64"}
    mask : bool
        Null the rows of each column's warm-up.

    Returns
    -------
    polars.DataFrame
        ``symbol, session`` and the features, in the order of the bars. What has no value is null.

    Raises
    ------
    FeatureError
        When a calculation fails or gives an infinite value.
    """
    recipe, margins = pack.recipe, pack.margins if mask else {}

    def of_symbols(known: pl.DataFrame) -> pl.DataFrame:
        ordered = known.sort(KEYS)
        fields = ordered.select(pl.exclude("known_at", FOUND_WRONG))
        values = recipe.by_symbol(fields)
        if mask:
            values = masked(fields, values, margins)
        return beside(fields.select(KEYS), values)

    made = as_known(bars, of_symbols) if FOUND_WRONG in bars.columns else of_symbols(bars)
    if recipe.across:
        fields = bars.select(pl.exclude("known_at", FOUND_WRONG))
        values = recipe.by_session(beside(fields, made.drop(KEYS)))
        if mask:
            values = masked(fields, values, margins)
        made = beside(made, _of_enough(fields, values, pack.min_symbols))
    chosen = made.select(*KEYS, *pack.names)
    _refuse_infinite(chosen, pack)
    kind = pl.Float32 if precision == "float32" else pl.Float64
    features = chosen.with_columns(pl.col(pack.names).cast(kind))
    if kind == pl.Float32:
        _refuse_infinite(features, pack)
    return features


def _of_enough(bars: pl.DataFrame, values: pl.DataFrame, least: int) -> pl.DataFrame:
    """Null in the sessions that have too few values."""
    columns = values.columns
    return (
        values.with_columns(session=bars["session"])
        .with_columns(
            pl.when(pl.col(name).count().over("session") >= least).then(pl.col(name)).alias(name)
            for name in columns
        )
        .select(columns)
    )


def _refuse_infinite(frame: pl.DataFrame, pack: DeskPack) -> None:
    for name in pack.names:
        rows = frame.filter(pl.col(name).is_infinite())
        if rows.height:
            row: Mapping[str, object] = rows.row(0, named=True)
            raise FeatureError(
                f"feature {name!r} of pack {pack.name!r}",
                expected="finite float32 values, NaN or null where there is none",
                found=f"{row[name]} for symbol {row['symbol']!r} in session {row['session']}"
                + (f" and {rows.height - 1} more" if rows.height > 1 else ""),
                action="say what the value is there (a division by zero?), or give NaN: such a row is not used",
            )
