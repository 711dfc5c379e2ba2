"""Corporate actions that a person declares: in the universe's YAML, in a file, or both. They override inference."""

from pathlib import Path

import polars as pl
from pydantic import ValidationError

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.hashing import bytes_digest
from quant_assets.common.universe_settings import ActionsConfig, DeclaredAction

DECLARED_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "session": pl.Date,
    "kind": pl.String,
    "ratio": pl.Float64,
    "amount": pl.Float64,
    "price_factor": pl.Float64,
    "reason": pl.String,
}
MOST_DECLARED = 1_000_000
MOST_BYTES = 256 * 2**20


def declared_actions(config: ActionsConfig) -> pl.DataFrame:
    """Every action that a universe declares, by symbol and session.

    Returns
    -------
    polars.DataFrame
        Columns of `DECLARED_SCHEMA`.

    Raises
    ------
    ConfigurationError
        When the file cannot be read, lacks a column, or a row of it is no action; the message names the row. When two
        rows, of file or list, say the same of one symbol and session.
    """
    listed = list(config.listed)
    if config.path is not None:
        listed += _from_file(Path(config.path))
    try:
        whole = ActionsConfig(listed=tuple(listed))
    except ValidationError as error:
        raise ConfigurationError(
            f"actions of {config.path}",
            expected="one action of a kind for a symbol and session, in file and list together",
            found=error.errors()[0]["msg"],
            action="remove one of them",
        ) from error
    rows = [tuple(getattr(action, name) for name in DECLARED_SCHEMA) for action in whole.listed]
    return pl.DataFrame(rows, schema=DECLARED_SCHEMA, orient="row").sort(
        "symbol", "session", "kind", maintain_order=True
    )


def digest_of_file(config: ActionsConfig) -> str:
    """What tells one content of the file from another; empty when there is no file."""
    if config.path is None:
        return ""
    return bytes_digest(_content(Path(config.path)))


def _content(file: Path) -> bytes:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ConfigurationError(
                f"actions file {file}",
                expected=f"at most {MOST_BYTES} bytes",
                found=f"{file.stat().st_size}",
                action="keep only the actions of the universe's symbols",
            )
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"actions file {file}",
            expected="a CSV or Parquet file that can be read",
            found=str(error.strerror),
            action="correct `actions: {path: ...}`",
        ) from error


def _from_file(file: Path) -> list[DeclaredAction]:
    content = _content(file)
    try:
        table = (
            pl.read_parquet(content)
            if file.suffix == ".parquet"
            else pl.read_csv(content, infer_schema=False, null_values=[""])
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConfigurationError(
            f"actions file {file}",
            expected="a table in CSV or Parquet",
            found=str(error).splitlines()[0][:200],
            action="correct the file",
        ) from error
    needed = ("symbol", "session", "kind", "reason")
    wrong = [name for name in needed if name not in table.columns]
    wrong += [name for name in table.columns if name not in DECLARED_SCHEMA]
    if wrong or table.height > MOST_DECLARED:
        raise ConfigurationError(
            f"actions file {file}",
            expected=f"columns {', '.join(DECLARED_SCHEMA)} ({', '.join(needed)} needed), "
            f"at most {MOST_DECLARED} rows",
            found=f"columns {', '.join(table.columns)}, {table.height} rows",
            action="correct the file",
        )
    actions = []
    for number, row in enumerate(table.iter_rows(named=True), start=1):
        try:
            actions.append(DeclaredAction.model_validate({k: v for k, v in row.items() if v is not None}))
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(
                f"actions file {file}, data row {number}, {'.'.join(map(str, first['loc'])) or 'the action'}",
                expected=first["msg"],
                found=repr(first["input"])[:200],
                action="correct the row",
            ) from error
    return actions


def override(
    actions: pl.DataFrame, doubts: pl.DataFrame, declared: pl.DataFrame, raw: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Put declared actions in the place of what was inferred on the same bar.

    Parameters
    ----------
    actions, doubts : polars.DataFrame
        Inferred.
    declared : polars.DataFrame
        Of `declared_actions`.
    raw : polars.DataFrame
        Raw bars.

    Returns
    -------
    tuple of polars.DataFrame
        Actions and doubts with the declared ones in force, and `DECLARED_SCHEMA` with ``bar`` (the session on which
        each takes effect: its own or the symbol's next; null when it has none) and ``replaced`` (what had been
        inferred there).
    """
    ordered = raw.select("symbol", "session", "close").sort("symbol", "session")
    bars = ordered.with_columns(
        bar=pl.col("session"), previous_close=pl.col("close").shift().over("symbol")
    ).drop("close")
    placed = (
        declared.sort("symbol", "session", maintain_order=True)
        .join_asof(bars, on="session", by="symbol", strategy="forward", check_sortedness=False)
        .sort("symbol", "session", "kind", maintain_order=True)
    )
    told = placed.join(_described(actions), on=["symbol", "bar"], how="left", maintain_order="left")
    effective = placed.filter(pl.col("bar").is_not_null())
    own_ratio = pl.col("ratio").fill_null(1.0).product().over("symbol", "bar")
    before = pl.col("previous_close") / own_ratio
    factor = (
        pl.when(pl.col("kind") == "split")
        .then(1 / pl.col("ratio"))
        .otherwise(pl.coalesce("price_factor", 1 - pl.col("amount") / before))
    )
    rows = (
        effective.with_columns(
            price_factor=factor,
            amount=pl.when(pl.col("kind") != "split").then(
                pl.coalesce("amount", before * (1 - pl.col("price_factor")))
            ),
        )
        .filter(pl.col("kind") != "none")
        .with_columns(session=pl.col("bar"))
    )
    impossible = rows.filter(pl.col("price_factor").is_null() | (pl.col("price_factor") <= 0))
    if impossible.height:
        row = impossible.row(0, named=True)
        raise ConfigurationError(
            f"actions: {row['kind']} of {row['symbol']} on {row['session']}",
            expected="an amount below the close before it, of a symbol that has one",
            found=f"amount {row['amount']}, close before {row['previous_close']}",
            action="correct the amount (in the money of the bars), or give `price_factor:`",
        )
    key = ["symbol", "session"]
    settled = effective.select("symbol", session=pl.col("bar")).unique()
    kept = actions.join(settled, on=key, how="anti", maintain_order="left")
    whole = pl.concat([kept, rows.select(actions.columns)]).sort(
        "symbol", "session", pl.col("kind") != "split", maintain_order=True
    )
    open_doubts = doubts.join(settled, on=key, how="anti", maintain_order="left")
    return whole, open_doubts, told.select(*DECLARED_SCHEMA, "bar", pl.col("replaced").fill_null("nothing"))


def strays(declared: pl.DataFrame, raw: pl.DataFrame) -> pl.DataFrame:
    """Declared actions without a bar of their own: symbol, session, ``why`` in words."""
    key = ["symbol", "session"]
    lost = (
        declared.select(key).unique(maintain_order=True).join(raw, on=key, how="anti", maintain_order="left")
    )
    last = raw.group_by("symbol").agg(last=pl.col("session").max())
    why = (
        pl.when(pl.col("last").is_null())
        .then(pl.lit("the universe has no bars of this symbol"))
        .when(pl.col("session") > pl.col("last"))
        .then(pl.lit("after the symbol's last bar: it has no effect"))
        .otherwise(pl.lit("no bar on that day: it takes effect on the next"))
    )
    return lost.join(last, on="symbol", how="left", maintain_order="left").select(*key, why=why)


def without_a_step(placed: pl.DataFrame, raw: pl.DataFrame) -> pl.DataFrame:
    """Declared actions of which the feed's own ``adj_close`` shows nothing: symbol, session, ``why`` in words.

    Either the feed has missed them, or somebody gives a name returns that it never had.

    Parameters
    ----------
    placed : polars.DataFrame
        Declared actions with ``bar`` and ``replaced``, as `override` gives them.
    raw : polars.DataFrame
        Raw bars. A symbol without ``adj_close`` says nothing about its actions.
    """
    telling = raw.filter(pl.col("adj_close").is_not_null()).select("symbol").unique()
    alone = placed.filter(
        (pl.col("kind") != "none") & pl.col("bar").is_not_null() & (pl.col("replaced") == "nothing")
    ).join(telling, on="symbol", how="semi", maintain_order="left")
    why = pl.format("adj_close shows no {} there: look whether the feed or the declaration is wrong", "kind")
    return alone.select("symbol", "session", why=why)


def _described(actions: pl.DataFrame) -> pl.DataFrame:
    """What was inferred on each session, in words."""
    words = pl.format("{} (price factor {})", "kind", pl.col("price_factor").round_sig_figs(6))
    return actions.group_by("symbol", bar=pl.col("session"), maintain_order=True).agg(
        replaced=words.str.join(", ")
    )
