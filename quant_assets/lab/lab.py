"""A project in a notebook: what the platform would make, made here; every look at an outcome counted as there."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from quant_assets.common.errors import ConfigurationError, ValidationError, closest
from quant_assets.common.hashing import json_digest
from quant_assets.common.home import Home
from quant_assets.common.plugins import forget_edited
from quant_assets.common.settings import StrategyConfig
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import training_end
from quant_assets.features.pack import KEYS, join_packs
from quant_assets.gates.verdicts import GateReport
from quant_assets.lab.results import Backtest, Comparison, Trials, Verdicts, compared
from quant_assets.lineage.artifact import Artifact, Held, Partitions, asset_name
from quant_assets.lineage.configured import Settings, load_settings
from quant_assets.lineage.drafting import changed
from quant_assets.lineage.graph import Key, Lineage, Node
from quant_assets.lineage.notebook import Run, make
from quant_assets.lineage.scope import Progress, RunFacts
from quant_assets.market.calendar import periods_per_year

PATHS, PREDICTIONS, JUDGED = "cpcv_paths", "cpcv_predictions", "validation_report"
Scores = Any  # a frame of polars or pandas
Which = Literal["validation", "all"]


class Lab:
    """One project, for research in a notebook.

    Everything is made by the platform's own stages, to its versions. What was made once is kept in memory until
    `refresh`, so that a change of costs fits nothing again. Whatever shows an outcome (`backtest`, `verdicts`,
    `compare`) is entered into the trial ledger of the project's home before it is shown, and says so.

    Parameters
    ----------
    project : str or Path, default "."
        The folder that holds ``configs/``, or such a folder itself.
    home : Home, optional
        Where trials are counted; ``$QUANT_ASSETS_HOME`` when set, else ``.quant_assets`` of the project: where the
        project's runs keep everything, so that a look here counts there.
    progress : callable, optional
        Called with what is counted; gives a callback for (done, total). A bar is drawn when not given.

    Raises
    ------
    ConfigurationError
        When there is no configuration in the folder.

    Examples
    --------
    >>> lab = Lab("my_desk")  # doctest: +SKIP
    >>> lab.backtest("momentum", {"costs.half_spread_bps": 2.0})  # doctest: +SKIP
    """

    def __init__(
        self, project: str | Path = ".", *, home: Home | None = None, progress: Progress | None = None
    ) -> None:
        folder = Path(project).resolve()
        self.project, self.configs = (
            (folder, folder / "configs") if (folder / "configs").is_dir() else (folder.parent, folder)
        )
        if not (self.configs / "gates.yaml").is_file():
            raise ConfigurationError(
                f"project {str(project)!r}",
                expected="a folder with configs/gates.yaml",
                found="a folder without it" if folder.is_dir() else f"no folder {folder}",
                action="name the project's folder, or make one: quant-assets init",
            )
        own = os.environ.get("QUANT_ASSETS_HOME") or str(self.project / ".quant_assets")
        self.home = home or Home(own)
        self._progress = progress or _bars
        self._kept: dict[str, Artifact | Partitions] = {}
        with self._here():
            self.settings = load_settings(self.configs, self.home.local)

    def __repr__(self) -> str:
        return f"Lab({str(self.project)!r}): strategies {', '.join(self.strategies) or 'none'}; home {self.home.root}"

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies that can be used."""
        return tuple(self.settings.strategies)

    @property
    def universes(self) -> tuple[str, ...]:
        """Names of the universes that can be used."""
        return tuple(self.settings.universes)

    def refresh(self) -> None:
        """Read configuration, sources and the project's modules again; forget what was made."""
        self._kept.clear()
        with self._here():
            forget_edited(self.project)
            self.settings = load_settings(self.configs, self.home.local)

    # ------------------------------------------------------------------------------------------------ data

    def bars(self, name: str) -> pl.DataFrame:
        """The adjusted, quality-checked panel of a universe, or of a strategy's.

        Returns
        -------
        polars.DataFrame
            One row a symbol and session: adjusted prices, volume, ``known_at``.
        """
        strategy = self._on(name)
        return self._table(strategy, "bars").frame

    def features(self, name: str, pack: str | None = None) -> pl.DataFrame:
        """Features of every bar: of a strategy all its packs side by side, or one pack of any universe.

        Parameters
        ----------
        name : str
            A strategy, or a universe (then ``pack`` says which).
        pack : str, optional
            Name of a pack, or ``module:object`` of one's own.

        Returns
        -------
        polars.DataFrame
            ``symbol, session`` and the features, Float32; null while warming up.
        """
        strategy = self._on(name)
        if pack is not None:
            strategy = strategy.model_copy(update={"feature_packs": (pack,)})
        elif name not in self.settings.strategies:
            raise ConfigurationError(
                f"features of universe {name!r}",
                expected="a pack, as in features(name, 'technical_v1')",
                found="none",
                action="name a pack, or a strategy, which has its own",
            )
        tables = {p: self._table(strategy, asset_name(p)).frame for p in strategy.feature_packs}
        return join_packs(tables)

    def labels(self, strategy: str, changes: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """What a strategy's learners are fitted to, with the times at which each label starts, ends and is known.

        It shows returns and no result of trading on anything, so it counts as no trial.
        """
        return self._table(self.changed(strategy, changes), "labels").frame

    def training_set(self, strategy: str, changes: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """Complete feature rows with their labels: what a model is fitted to."""
        return self._table(self.changed(strategy, changes), "training_set").frame

    # -------------------------------------------------------------------------------------------- outcomes

    def changed(self, strategy: str, changes: Mapping[str, Any] | None = None) -> StrategyConfig:
        """A strategy with some of its keys changed, held against everything that its file is held against.

        Parameters
        ----------
        strategy : str
        changes : mapping of str to Any, optional
            By dotted key, as in ``{"models.lightgbm.num_leaves": 31, "portfolio.scheme": "long_only"}``.

        Raises
        ------
        ConfigurationError
            For an unknown strategy or key, or whatever its file would be refused for.
        """
        if not changes:
            return Lineage(self.settings).scope(strategy).plan
        with self._here():
            return changed(self.settings, strategy, changes).strategies[strategy]

    def backtest(
        self, strategy: str, changes: Mapping[str, Any] | None = None, *, scores: Scores | None = None
    ) -> Backtest:
        """Trade a strategy's out-of-sample scores on every path, net of costs. Counts as a trial.

        Parameters
        ----------
        strategy : str
        changes : mapping of str to Any, optional
            As for `changed`.
        scores : polars or pandas DataFrame, optional
            Scores of one's own in place of the models': ``symbol, session, score``, each known at the close of its
            session. They are one path. Sessions whose outcome lies in the holdout are left out: it is shown once a
            decision is made, and each look at it is written down.

        Returns
        -------
        Backtest
        """
        config = self.changed(strategy, changes)
        given = {} if scores is None else {PREDICTIONS: self._before_the_holdout(config, scores)}
        return self._backtest(config, dict(changes or {}), given)

    def verdicts(
        self, strategy: str, changes: Mapping[str, Any] | None = None, *, gates: Which = "validation"
    ) -> Verdicts:
        """What the gates say of a strategy. Counts as a trial.

        Parameters
        ----------
        gates : {"validation", "all"}
            The gates of the cross-validation, or all of them: artifacts, parity and drift take longer.
        """
        if gates not in ("validation", "all"):
            raise ConfigurationError(
                "gates", expected="'validation' or 'all'", found=repr(gates), action="choose one of the two"
            )
        config = self.changed(strategy, changes)
        lineage = self._lineage(config)
        names = lineage.reports(lineage.scope(config.name)) if gates == "all" else (JUDGED,)
        made = self._make(config, names)
        backtest = self._backtest(config, dict(changes or {}), {})
        reports = (GateReport.from_json(made.artifact(name).json()) for name in names)
        return Verdicts(backtest, tuple(reports))

    def compare(self, a: str | Backtest, b: str | Backtest) -> Comparison:
        """Two strategies, or two backtests, side by side. A strategy that was not looked at yet counts as a trial."""
        for one in (a, b):
            if isinstance(one, str):  # both are known before either is looked at, which counts
                self.changed(one)
        first, second = (one if isinstance(one, Backtest) else self.backtest(one) for one in (a, b))
        return compared(first, second)

    # ---------------------------------------------------------------------------------------- how it is made

    def _on(self, name: str) -> StrategyConfig:
        """The strategy of a name, or one that does nothing but name the universe."""
        if name in self.settings.strategies:
            return self.settings.strategies[name]
        self.settings.require(name)
        if name in self.settings.universes:
            return StrategyConfig(name="lab_probe", universe=name)
        known = (*self.strategies, *self.universes)
        raise ConfigurationError(
            f"{name!r}",
            expected=f"a strategy or a universe: one of {', '.join(known) or '(none is configured)'}",
            found="neither",
            action=closest(name, known) or "add its file to the configuration",
        )

    def _lineage(self, strategy: StrategyConfig) -> Lineage:
        universe = self.settings.universes[strategy.universe]
        only: Settings = self.settings.model_copy(
            update={"universes": {universe.name: universe}, "strategies": {strategy.name: strategy}}
        )
        return Lineage(only)

    def _table(self, strategy: StrategyConfig, name: str) -> Table:
        return self._make(strategy, (name,)).table(name)

    def _backtest(
        self, config: StrategyConfig, changes: Mapping[str, Any], given: Mapping[str, Table]
    ) -> Backtest:
        from quant_assets.ledgers.trials import TrialLedger

        paths = self._make(config, (PATHS,), given).table(PATHS)
        scope = self._lineage(config).scope(config.name)
        ledger = TrialLedger(self.home.path)
        trials = Trials(scope.book, len(ledger.counted(scope.book)), ledger.since(scope.book)[:10])
        per_year = periods_per_year(*scope.sessions)
        return Backtest(config.name, changes, config.model_dump(mode="json"), paths, per_year, trials)

    def _before_the_holdout(self, strategy: StrategyConfig, scores: Scores) -> Table:
        """Scores of one's own for sessions whose positions are filled, and worth something, before the holdout."""
        told = _predictions(scores)
        days = self._table(strategy, "bars").frame["session"].unique().sort().to_list()
        last = days[days.index(training_end(days, strategy.holdout_sessions)) - 2]
        kept = told.frame.filter(pl.col("session") <= last)
        if kept.is_empty():
            raise ValidationError(
                "scores",
                expected=f"some up to {last}: what comes later has its outcome in the holdout",
                found=f"the first on {min(told.frame['session'].to_list())}",
                action="score earlier sessions; the holdout is shown once a decision is made",
            )
        return Table(kept, told.metadata)

    def _make(
        self, strategy: StrategyConfig, names: tuple[str, ...], given: Mapping[str, Table] | None = None
    ) -> Run:
        lineage = self._lineage(strategy)
        targets = [
            key
            for name in names
            for key in ((strategy.name, name), (strategy.universe, name))
            if key in lineage.nodes
        ]
        own = {
            (strategy.name, name): Held(f"{strategy.name}/{name}", value)
            for name, value in (given or {}).items()
        }
        digests = _digests(lineage, {key: held.version for key, held in own.items()})
        kept = {key: self._kept[digest] for key, digest in digests.items() if digest in self._kept}
        effects = {"home": self.home, "run": RunFacts(), "progress": self._progress, "n_jobs": None}
        with self._here():
            made = make(lineage, targets, own, known=kept, effects=effects)
        self._kept |= {digests[key]: artifact for key, artifact in made.artifacts.items() if key in digests}
        return replace(made, strategy=strategy.name, universe=strategy.universe)

    @contextmanager
    def _here(self) -> Iterator[None]:
        """The project as the one whose configuration and modules are meant, and its folder as the working one.

        Sources name their files from the project's folder, wherever the notebook lies.
        """
        before, folder = os.environ.get("QUANT_ASSETS_CONFIGS"), Path.cwd()
        os.environ["QUANT_ASSETS_CONFIGS"] = str(self.configs)
        os.chdir(self.project)
        try:
            yield
        finally:
            os.chdir(folder)
            if before is None:
                os.environ.pop("QUANT_ASSETS_CONFIGS", None)
            else:
                os.environ["QUANT_ASSETS_CONFIGS"] = before


def _digests(lineage: Lineage, given: Mapping[Key, str]) -> dict[Key, str]:
    """What tells one version of each asset from another, of those that may be kept.

    An asset that reads the ledgers, or what comes after one, is made each time; sources are read once.
    """
    found: dict[Key, str] = {}
    for key, node in lineage.nodes.items():
        if key in given:
            found[key] = json_digest(["given", given[key]])
        elif _may_be_kept(node) and all(parent in found for parent in node.parents):
            parents = [found[parent] for parent in node.parents]
            found[key] = json_digest(["/".join(key), node.code_version, node.partitions or (), parents])
    return found


def _may_be_kept(node: Node) -> bool:
    """Whether nothing but code, configuration and what it reads shapes an asset while a source stays as it is."""
    stage = node.stage
    return stage.group == "market" or not (stage.always or stage.fresh or stage.guarded or stage.options)


def _predictions(scores: Scores) -> Table:
    columns = ("symbol", "session", "score")
    if not isinstance(scores, pl.DataFrame):
        try:
            # An index with names holds columns; one without is a row number.
            named = [name for name in scores.index.names if name is not None]
            scores = pl.from_pandas(scores.reset_index() if named else scores)
        except (AttributeError, TypeError) as error:
            raise ValidationError(
                "scores",
                expected="a polars or pandas frame with the columns symbol, session and score",
                found=type(scores).__name__,
                action="make a frame of it, one row a symbol and session",
            ) from error
    missing = [c for c in columns if c not in scores.columns]
    if missing:
        raise ValidationError(
            "scores",
            expected="the columns symbol, session and score",
            found=f"{', '.join(scores.columns) or 'none'}",
            action=f"add {', '.join(missing)}",
        )
    try:
        told = scores.select(
            pl.col("symbol").cast(pl.String),
            pl.col("session").cast(pl.Date),
            path_0=pl.col("score").cast(pl.Float64).fill_nan(None),
        ).drop_nulls()
    except pl.exceptions.PolarsError as error:
        raise ValidationError(
            "scores",
            expected="symbol as text, session as a date, score as a number",
            found=", ".join(f"{name} as {scores.schema[name]}" for name in columns),
            action="cast the columns, as in pl.col('session').str.to_date()",
        ) from error
    twice = told.filter(pl.struct(KEYS).is_duplicated()).height
    if twice or told.is_empty():
        raise ValidationError(
            "scores",
            expected="one score a symbol and session",
            found=f"{twice} rows that share theirs" if twice else "none that is a number",
            action="keep one row of each",
        )
    return Table(told.sort(KEYS), {"recipe": "scores of a notebook"})


def _bars(what: str) -> Callable[[int, int], None]:
    """A bar that fills, in a terminal and in a notebook."""
    from rich.progress import Progress as Bar

    bar = Bar(transient=True)
    task = bar.add_task(what, total=None)

    def show(done: int, total: int) -> None:
        if not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=total)
        if done >= total:
            bar.stop()

    return show


__all__ = ["Lab"]
