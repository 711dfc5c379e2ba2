"""The training set as MLflow's dataset input: digest, schema and profile, without a row of data."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

# MLflow's names of types; what is not here is none of a training set's.
_TYPES: dict[Any, str] = {
    pl.Float32: "float",
    pl.Float64: "double",
    pl.Int32: "integer",
    pl.Int64: "long",
    pl.String: "string",
    pl.Boolean: "boolean",
    pl.Date: "datetime",
    pl.Datetime: "datetime",
}
# MLflow's own limits (its database holds 65,535 bytes of schema) and 36 characters of digest.
_MOST_SCHEMA_CHARACTERS = 65_535
_DIGEST_CHARACTERS = 36


def dataset_schema(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Columns as MLflow writes them: name, type, whether a value is required (no nulls)."""
    return [
        {
            "type": _TYPES.get(dtype.base_type(), "string"),
            "name": name,
            "required": not frame[name].has_nulls(),
        }
        for name, dtype in frame.schema.items()
    ]


def dataset_profile(frame: pl.DataFrame, feature_names: Sequence[str]) -> dict[str, Any]:
    """Size and range of a training set.

    Parameters
    ----------
    frame : polars.DataFrame
        ``symbol, session, target`` (forward return, a fraction) and the features.
    feature_names : sequence of str

    Returns
    -------
    dict
        Rows, elements, features, symbols, sessions, first and last session; mean and standard deviation of the
        target.
    """
    first, last = frame["session"].min(), frame["session"].max()
    target = frame["target"].to_numpy()
    return {
        "num_rows": frame.height,
        "num_elements": frame.height * frame.width,
        "num_features": len(feature_names),
        "num_symbols": frame["symbol"].n_unique(),
        "num_sessions": frame["session"].n_unique(),
        "first_session": str(first),
        "last_session": str(last),
        "target_mean": float(target.mean()),
        "target_sd": float(target.std()),
    }


def training_input(
    name: str, digest: str, source: str, schema: Sequence[dict[str, Any]], profile: dict[str, Any]
) -> "DatasetInput":
    """MLflow's entity for a training set.

    Parameters
    ----------
    name : str
    digest : str
        Data version. MLflow's own field holds its first 36 characters, the source the whole.
    source : str
        Where it is: the asset key.
    schema, profile
        As given by `dataset_schema` and `dataset_profile`; may be empty.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = json.dumps({"mlflow_colspec": list(schema)}) if schema else None
    if columns is not None and len(columns) > _MOST_SCHEMA_CHARACTERS:
        # Too wide for MLflow's field: the file dataset_schema.json has every column.
        columns = json.dumps({"mlflow_colspec": [], "columns": len(schema)})
    dataset = Dataset(
        name=name,
        digest=digest[:_DIGEST_CHARACTERS],
        source_type="quant_assets",
        source=json.dumps({"data_version": digest, "asset": source}),
        schema=columns,
        profile=json.dumps(profile) if profile else None,
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
