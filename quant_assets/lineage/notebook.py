"""The lineage as plain Python: `run` takes a strategy from its source to its verdicts; and what a replay found.

For notebooks, studies and replays, to the versions of the platform. What is promoted always comes from the
orchestrator, whose guard asks for checks that ran there.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from quant_assets.common.errors import ConfigurationError, StoreError, closest
from quant_assets.common.home import Home
from quant_assets.common.store import Encoded, Table, Value, decode
from quant_assets.gates.verdicts import GateReport, Verdict
from quant_assets.lineage.artifact import Artifact, Held, Partitions, part_name
from quant_assets.lineage.configured import Settings
from quant_assets.lineage.declaring import CheckResult, Product
from quant_assets.lineage.graph import REPORTS, Key, Lineage, Node, all_stages, computed, described, names_of
from quant_assets.lineage.scope import NoHistory, Progress, RunFacts, no_guard, quiet
from quant_assets.models.kept_fits import NOTHING_KEPT, FitStore

# -------------------------------------------------------------------------------- the lineage as plain Python


VERDICTS = "verdicts"  # every report in which gates are judged


@dataclass(frozen=True)
class Run:
    """What a run made.

    Attributes
    ----------
    strategy : str
    artifacts : mapping of (str, str) to Artifact or Partitions
        Everything that was made or given, by owner and name.
    facts : mapping of (str, str) to mapping
        What people should see of each asset that was made.
    checks : mapping of (str, str) to sequence of CheckResult
        When checks were asked for.
    """

    strategy: str
    universe: str
    artifacts: Mapping[Key, Artifact | Partitions]
    facts: Mapping[Key, Mapping[str, Any]] = field(default_factory=dict)
    checks: Mapping[Key, Sequence[CheckResult]] = field(default_factory=dict)
    reports: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Artifact | Partitions:
        """An asset of the strategy or of its universe by name.

        Raises
        ------
        StoreError
            When the run did not make it, with the closest one that it made.
        """
        for owner in (self.strategy, self.universe):
            if (owner, name) in self.artifacts:
                return self.artifacts[owner, name]
        known = [key[1] for key in self.artifacts]
        raise StoreError(
            f"asset {name!r} of this run",
            expected=f"one of {', '.join(known)}",
            found="none of that name",
            action=closest(name, known) or "run up to it: run(..., upto=name)",
        )

    def artifact(self, name: str) -> Artifact:
        """An unpartitioned asset by name."""
        found = self[name]
        if isinstance(found, Partitions):
            raise StoreError(
                f"asset {name!r}",
                expected="one artifact",
                found="one for each partition",
                action="read its parts",
            )
        return found

    def table(self, name: str) -> Table:
        """An asset as a frame with its metadata."""
        return self.artifact(name).table()

    @property
    def versions(self) -> dict[str, str]:
        """Data version of every asset, by ``owner/name``; of a partitioned one those of its partitions."""
        return {"/".join(key): artifact.version for key, artifact in self.artifacts.items()}

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Every verdict in the reports that were made."""
        made = [self.artifacts.get((self.strategy, name)) for name in self.reports]
        found = [GateReport.from_json(a.json()) for a in made if isinstance(a, Artifact)]
        return tuple(verdict for report in found for verdict in report.verdicts)


def run(
    strategy: str,
    settings: Settings,
    upto: str | Sequence[str] = VERDICTS,
    *,
    home: Home | None = None,
    given: Mapping[str, Value | Artifact | Partitions] | None = None,
    instead: Mapping[str, Callable[..., Product]] | None = None,
    progress: Progress = quiet,
    n_jobs: int | None = None,
    fits: FitStore = NOTHING_KEPT,
    facts: bool = False,
    checks: bool = False,
) -> Run:
    """Make a strategy's assets in this process, in memory, in the order of the lineage.

    Parameters
    ----------
    strategy : str
        Name of a configured strategy.
    settings : Settings
        As `quant_assets.load_settings` reads them.
    upto : str or sequence of str, default "verdicts"
        The last assets to make, by name; ``"verdicts"`` is every report in which gates are judged.
    home : Home, optional
        Where trials are counted and pages go; the platform's home when not given. Showing a result is looking at it:
        ``cpcv_paths`` and ``tuning`` count here as they do anywhere else.
    given : mapping of str to value or Artifact, optional
        Assets that are not made but taken as they are, by name.
    instead : mapping of str to callable, optional
        Other functions for stages, by stage name, with the parameters of those that they stand in for.
    progress : callable, optional
        Called with what is counted; gives a callback for (done, total).
    n_jobs : int, optional
        Workers of the stages that use several; no result depends on it.
    fits : FitStore, optional
        Where fits are found that were made before; no result depends on it.
    facts, checks : bool
        Also make the tables and plots that people see, and judge the checks.

    Returns
    -------
    Run

    Raises
    ------
    ConfigurationError
        For an unknown strategy or asset.
    GateClosedError
        When asked for ``promotion`` or what comes after it.

    Examples
    --------
    >>> made = run("planted_edge", load_settings(), upto="training_set")  # doctest: +SKIP
    >>> made.table("training_set").frame.height  # doctest: +SKIP
    """
    stages = dict(all_stages())
    for name, function in (instead or {}).items():
        if name not in stages:
            raise ConfigurationError(
                f"stage {name!r} of 'instead'",
                expected=f"one of {', '.join(stages)}",
                found="no stage of that name",
                action=closest(name, stages) or "choose one of them",
            )
        stages[name] = replace(stages[name], function=function)
    lineage = Lineage(settings, stages)
    scope = lineage.scope(strategy)
    targets = [
        key
        for name in ([upto] if isinstance(upto, str) else upto)
        for key in _targets(lineage, strategy, name)
    ]
    known: dict[Key, Artifact | Partitions] = {}
    for name, value in (given or {}).items():
        keys = _targets(lineage, strategy, name)
        if len(keys) != 1 or not isinstance(value, Artifact | Partitions | Table | dict | list | str | bytes):
            raise ConfigurationError(
                f"asset {name!r} of 'given'",
                expected="one asset, and its value: a Table (of a frame: Table(frame)), plain data, text or bytes",
                found=f"{type(value).__name__} for {', '.join(names_of(keys))}",
                action="give each asset by its own name, as its stage makes it",
            )
        known[keys[0]] = value if isinstance(value, Artifact | Partitions) else Held("/".join(keys[0]), value)
    made = make(
        lineage,
        targets,
        known,
        effects={
            "home": home or Home(),
            "run": RunFacts(),
            "progress": progress,
            "n_jobs": n_jobs,
            "fits": fits,
        },
        replaced=frozenset(instead or ()),
        facts=facts,
        checks=checks,
    )
    return replace(made, strategy=strategy, universe=scope.bars.name, reports=lineage.reports(scope))


def make(
    lineage: Lineage,
    targets: Iterable[Key],
    given: Mapping[Key, Artifact | Partitions],
    *,
    effects: Mapping[str, Any],
    known: Mapping[Key, Artifact | Partitions] | None = None,
    replaced: Container[str] = (),
    facts: bool = False,
    checks: bool = False,
) -> Run:
    """Make assets and whatever they need that is not given. Everything stays in memory.

    Parameters
    ----------
    known : mapping of (str, str) to Artifact or Partitions, optional
        What an earlier call made from the same code, configuration and inputs: it is not given, and no other idea.
    replaced : container of str
        Stages whose function is not the lineage's own: what they make counts as given.

    Raises
    ------
    GateClosedError
        When a guarded stage would have to be made.
    QuantAssetsError
        Whatever a stage raises.
    """
    artifacts: dict[Key, Artifact | Partitions] = {**(known or {}), **given}
    shown: dict[Key, Mapping[str, Any]] = {}
    judged: dict[Key, Sequence[CheckResult]] = {}
    outside = {key: artifact.version for key, artifact in given.items()}
    around = {
        "history": NoHistory(),
        "guard": no_guard,
        "partition": None,
        "n_jobs": None,
        "fits": NOTHING_KEPT,
    }
    around |= effects
    around["outside"] = outside
    needed = lineage.ancestors(*targets, given=artifacts)
    if any(node.stage.guarded for node in needed):
        no_guard(frozenset())  # refused before anything is made: not even a record of the candidate is left
    for node in needed:
        options = node.stage.options() if node.stage.options else None
        told = {**around, "options": options}
        foreign = node.stage.name in replaced
        if foreign:
            outside[node.key] = ""
        if node.partitions is None:
            product = computed(lineage, node, artifacts, told)
            artifacts[node.key] = Held("/".join(node.key), product.value)
            if facts:
                shown[node.key] = described(lineage, node, product, artifacts, told)
        else:
            parts: dict[str, Artifact] = {}
            for partition in node.partitions:
                product = computed(lineage, node, artifacts, {**told, "partition": partition})
                parts[partition] = Held(part_name("/".join(node.key), partition), product.value)
            artifacts[node.key] = Partitions(parts)
        if foreign:
            outside[node.key] = artifacts[node.key].version
        if checks:
            judged[node.key] = [
                result
                for check, specs in node.specs.items()
                if specs
                for result in check.judge(node.arguments(check.function, artifacts, told, lineage))
            ]
    return Run("", "", artifacts, shown, judged)


def _targets(lineage: Lineage, strategy: str, name: str) -> list[Key]:
    scope = lineage.scope(strategy)
    if name in (VERDICTS, REPORTS):
        return [(strategy, report) for report in lineage.reports(scope)]
    found = [key for key in ((strategy, name), (scope.bars.name, name)) if key in lineage.nodes]
    if not found:
        known = [node.name for node in lineage.of(strategy)]
        raise ConfigurationError(
            f"asset {name!r}",
            expected=f"'{VERDICTS}' or one of {', '.join(known)}",
            found=f"none of that name for {strategy}",
            action=closest(name, known) or f"choose one of {', '.join(names_of(lineage.nodes))[:200]}",
        )
    return found[:1]


# ---------------------------------------------------------------------------------------------------- replays


# Stages whose functions are pure. Those behind them write ledgers and registries.
REPLAYABLE = ("market", "features", "datasets")

Status = Literal["same bits", "other bits", "other inputs", "other code", "not materialised"]


@dataclass(frozen=True)
class Vintage:
    """The content of one root partition that was known: its version, and since when."""

    asset: str
    partition: str
    version: str
    known_at: datetime


@dataclass(frozen=True)
class ReplayedStage:
    """One replayed asset (partition) against its newest materialisation as of the day.

    Attributes
    ----------
    status : str
        "same bits"; "other bits": same code and inputs, and yet other bits; "other inputs": it had not seen the
        vintages known by then, or an asset before it had other code; "other code": the code or the configuration
        has changed since; "not materialised": there was none.
    version_then, made_then : str, datetime or None
        Of the materialisation that was current on the day.
    """

    asset: str
    partition: str | None
    version: str
    status: Status
    version_then: str | None
    made_then: datetime | None

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        name = part_name(self.asset, self.partition)
        then = f"{self.version_then[:12]} of {self.made_then:%Y-%m-%d %H:%M:%S}" if self.version_then else ""
        match self.status:
            case "same bits":
                return f"{name}: same bits as {then}"
            case "other bits":
                return (
                    f"{name}: other bits than {then}, from the same code and inputs: it is not reproducible"
                )
            case "other inputs":
                return (
                    f"{name}: {then} was made from other inputs (it had not seen the newest vintage of the day, "
                    "or what it was made from had other code)"
                )
            case "other code":
                return f"{name}: {then} was made by other code or configuration than today's"
            case "not materialised":
                return f"{name}: was not materialised by then, so there is nothing to compare with"


@dataclass(frozen=True)
class Replay:
    """A data set as known on a day.

    ``encoded`` holds the bytes that its asset would store. ``stages`` are in the order of the lineage, the data set
    itself last (with several partitions: the last of them).
    """

    asset: str
    as_of: datetime
    encoded: Encoded
    vintages: tuple[Vintage, ...]
    stages: tuple[ReplayedStage, ...]

    @property
    def value(self) -> Table | str | bytes | dict[str, Any] | list[Any]:
        """The data set, read back from its bytes as a step would read it."""
        return decode(self.encoded.data, self.encoded.media_type)

    @property
    def exit_code(self) -> int:
        """0 when the data set has the bits of its materialisation of the day, else 1."""
        own = [stage for stage in self.stages if stage.asset == self.asset]
        return int(any(stage.status != "same bits" for stage in own))

    @property
    def reasons(self) -> tuple[str, ...]:
        """What differs from the materialisations of the day, first cause first; one sentence when nothing does."""
        if self.exit_code == 0:
            own = [stage for stage in self.stages if stage.asset == self.asset]
            known = (f"{self.asset}: the vintages of the day as they were stored",)
            return tuple(stage.sentence for stage in own) or known
        return tuple(stage.sentence for stage in self.stages if stage.status != "same bits")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        value = self.value
        stages = [
            {**vars(s), "made_then": s.made_then.isoformat() if s.made_then else None} for s in self.stages
        ]
        return {
            "asset": self.asset,
            "as_of": self.as_of.isoformat(),
            "version": self.encoded.version,
            "rows": value.frame.height if isinstance(value, Table) else None,
            "exit_code": self.exit_code,
            "reasons": list(self.reasons),
            "vintages": [{**vars(v), "known_at": v.known_at.isoformat()} for v in self.vintages],
            "stages": stages,
        }


def replayable(lineage: Lineage, target: Key) -> tuple[Node, ...]:
    """What a data set is made from, in order, itself last.

    Raises
    ------
    StoreError
        When it is no asset of the stages in ``REPLAYABLE``.
    """
    owner, name = target
    known = sorted(
        key[1] for key, node in lineage.nodes.items() if key[0] == owner and node.stage.group in REPLAYABLE
    )
    if name in known:
        return lineage.ancestors(target)
    raise StoreError(
        f"asset {owner}/{name}",
        expected=f"a data set of {owner}: {', '.join(known) or 'none, no strategy uses it'}",
        found="another asset" if target in lineage.nodes else "no asset of that name",
        action=f"{closest(name, known, cutoff=0.6)} choose one of them".strip(),
    )


def not_known_then(
    as_of: datetime, unknown: Sequence[str], first: Sequence[datetime], known: int
) -> StoreError:
    """The one error about every raw partition that had no vintage at a time.

    Parameters
    ----------
    unknown : sequence of str
        Their names.
    first : sequence of datetime
        When those of them that were ever materialised were first known.
    known : int
        How many partitions had one.
    """
    shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
    if len(first) < len(unknown):
        count = f"{len(unknown) - len(first)} of {len(unknown) + known}"
        never = f"{count} were never materialised in this instance"
        action = "run quant-assets run first, or set QUANT_ASSETS_HOME to the home that holds the history"
    else:
        never = (
            f"all of them are known since {max(first).isoformat()}, the first since {min(first).isoformat()}"
        )
        action = f"replay as of {max(first).isoformat()} or later"
    return StoreError(
        f"data as known at {as_of.isoformat()}",
        expected="a vintage of every raw partition by then",
        found=f"none of {shown}; {never}",
        action=action,
    )
