"""The model card: what a bundle's model is, in one page (Mitchell et al. 2019, "Model cards")."""

from collections.abc import Mapping

from quant_assets.models.ensemble import Ensemble

_SHOWN_FEATURES = 10


def model_card(
    ensemble: Ensemble, *, strategy: str, subject: str, upstream: Mapping[str, str], has_int8: bool
) -> str:
    """Markdown about an ensemble. It holds no performance: that is in the verdicts, bound to the subject.

    Parameters
    ----------
    strategy, subject : str
    upstream : mapping of str to str
        Versions of everything that it was made from.
    has_int8 : bool
        Whether an INT8 student is in the bundle.
    """
    stacker = ensemble.stacker
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
        if has_int8
        else "There is no INT8 form: quantisation does nothing to a tree ensemble."
    )
    return f"""# {strategy}

Subject `{subject}`, recipe `{ensemble.recipe}`.

## What it is
A linear stack of tree ensembles. Input: {len(ensemble.feature_names)} float32 features of one instrument at one
close. Output: a score, the expected forward return as a fraction. A row with a missing or infinite feature has
the score NaN, which no consumer may trade on.

`model.onnx` is the whole stack in one graph. {int8}

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

## Made from
| asset | version |
|---|---|
{versions}
"""


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "/").replace("`", "'")
