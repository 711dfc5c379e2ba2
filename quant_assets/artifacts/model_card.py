"""The model card: what a bundle's model is, in one page (Mitchell et al. 2019, "Model cards")."""

from collections.abc import Mapping

from quant_assets.artifacts.manifest import INT8_GRAPH, NATIVE_FOLDER, SBOM
from quant_assets.models.ensemble import Ensemble

_SHOWN_FEATURES = 10


def model_card(
    ensemble: Ensemble,
    *,
    strategy: str,
    subject: str,
    upstream: Mapping[str, str],
    files: Mapping[str, bytes],
) -> str:
    """Markdown about an ensemble. It holds no performance: that is in the verdicts, bound to the subject.

    Parameters
    ----------
    strategy, subject : str
    upstream : mapping of str to str
        Versions of everything that it was made from.
    files : mapping of str to bytes
        What else is in the bundle, by name.
    """
    stacker = ensemble.stacker
    unit = {
        "forward_return": "the expected forward return as a fraction",
        "log_odds": "the log-odds of a forward return above the median of its session",
    }[ensemble.score_unit]
    learners = "\n".join(
        f"| {name} | {coefficient:.6g} | {spread:.6g} | {sum(t.n_splits for t in learner.trees())} |"
        for name, coefficient, spread, learner in zip(
            stacker.learners, stacker.coefficients, stacker.spreads, ensemble.learners, strict=True
        )
    )
    shares = sorted(ensemble.importance().items(), key=lambda item: (-item[1], item[0]))[:_SHOWN_FEATURES]
    importance = "\n".join(f"| {name} | {share:.4f} |" for name, share in shares)
    versions = "\n".join(f"| {name} | `{_cell(version)}` |" for name, version in sorted(upstream.items()))
    int8 = (
        "`int8.onnx` is a distilled student network, another model; it is judged against its own FP32 form."
        if INT8_GRAPH in files
        else "There is no INT8 form: quantisation does nothing to a tree ensemble."
    )
    native = ", ".join(f"`{name}`" for name in sorted(files) if name.startswith(NATIVE_FOLDER))
    sizes = "\n".join(f"| `{name}` | {len(data)} |" for name, data in sorted(files.items()))
    return f"""# {strategy}

Subject `{subject}`, recipe `{ensemble.recipe}`.

## What it is
A linear stack of tree ensembles. Input: {len(ensemble.feature_names)} float32 features of one instrument at one
close. Output: a score, {unit}. A row with a missing or infinite feature has the score NaN, which no consumer may
trade on.

`model.onnx` is the whole stack in one graph. {int8} Each learner is also there in its library's own text: {native}.

| learner | coefficient | out-of-fold spread | splits |
|---|---|---|---|
{learners}

Intercept {stacker.intercept:.6g}.

## Most used features
| feature | share of gain |
|---|---|
{importance}

Gain shares say what the trees used, not what causes returns.

## Limits
Scores rank instruments of the training universe at the training horizon; other universes, horizons or intraday
use were not validated. Whether it may be used at all is said by the verdicts about this subject, not here.

## Files
| file | bytes |
|---|---|
{sizes}

`{SBOM}` lists the software that it was made with. The signature is beside the archive, not in it: verify it with
`quant-assets model verify` before anything is loaded.

## Made from
| asset | version |
|---|---|
{versions}
"""


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "/").replace("`", "'")
