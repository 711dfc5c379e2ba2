"""The lineage of a configuration: every stage bound to its universes and strategies, with inputs and version."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from quant_assets.common.errors import ConfigurationError, StoreError, closest
from quant_assets.common.hashing import combined_fingerprint, json_digest
from quant_assets.common.lazy import every_module_of
from quant_assets.common.provenance import Closure, closure_of
from quant_assets.common.store import identity_of
from quant_assets.gates.evidence import Look
from quant_assets.lineage.artifact import FEEDS, PANELS, Artifact, Partitions, stated
from quant_assets.lineage.configured import Settings
from quant_assets.lineage.declaring import GROUPS, Check, CheckSpec, Product, Stage, keywords_of, registered
from quant_assets.lineage.desk_checks import desk_checks, require_assets
from quant_assets.lineage.scope import CONFIGURATION, FOR_PEOPLE, Scope

Key = tuple[str, str]
Artifacts = Mapping[Key, Artifact | Partitions]

# Every value goes through the store's encoding and comes as an artifact: that code is behind every asset.
BEHIND_EVERY_ASSET = (
    "quant_assets.common.store",
    "quant_assets.lineage.artifact:Artifact",
    "quant_assets.lineage.artifact:Partitions",
)
# Names under which several assets, or one of several, are read; beside the names of stages and families.
PANEL, FEED, REPORTS, OWN = "panel", "feed", "reports", "asset"


@dataclass(frozen=True)
class Input:
    """What one parameter of a stage is filled with: one asset, or several by name.

    Attributes
    ----------
    keys : tuple of (str, str)
        Empty for an optional asset that this scope does not have.
    many : bool
        Whether the parameter is a mapping by asset name.
    """

    keys: tuple[Key, ...]
    many: bool


@dataclass(frozen=True)
class Node:
    """One asset: a stage in a scope, with what it reads.

    Attributes
    ----------
    name : str
        Second part of the key.
    member : str or None
        Of a family: which one.
    inputs : mapping of str to Input
        By the parameters of the stage's function, in order.
    """

    stage: Stage
    scope: Scope
    name: str
    member: str | None
    inputs: Mapping[str, Input]

    @property
    def key(self) -> Key:
        """Owner and name."""
        return (self.scope.key, self.name)

    @property
    def parents(self) -> tuple[Key, ...]:
        """Every asset that it reads, each once."""
        return tuple(dict.fromkeys(key for given in self.inputs.values() for key in given.keys))

    @property
    def partitions(self) -> tuple[str, ...] | None:
        """Keys of its partitions; None for an asset that has none."""
        return tuple(self.stage.partitions(self.scope)) if self.stage.partitions else None

    @property
    def kinds(self) -> frozenset[str]:
        """Technologies, for people."""
        kinds = self.stage.kinds
        return frozenset(kinds(self.scope) if callable(kinds) else kinds) or frozenset({self.name})

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        sentence = self.stage.sentence
        if callable(sentence):
            return sentence(self.scope, self.member)
        return sentence or (self.stage.function.__doc__ or "").strip().split("\n\n")[0]

    @property
    def team(self) -> str:
        """Who owns it."""
        return self.stage.team or (self.scope.strategy.owner if self.scope.strategy else "team:research")

    @cached_property
    def closure(self) -> Closure:
        """The code that shapes its value."""
        roots = self.stage.roots(self.scope, self.member) if self.stage.roots else ()
        return closure_of(self.stage.function, tuple(sorted({*BEHIND_EVERY_ASSET, *roots})))

    @cached_property
    def code_version(self) -> str:
        """Version of its code and of its part of the configuration: changing either shows as stale at once."""
        asked: list[Any] = [plain(self.configuration(name)) for name in self.stage.slices]
        if self.stage.identity is not None:
            asked.append(self.stage.identity(self.scope, self.member))
        return f"{self.closure.digest[:16]}.{json_digest(asked)[:12]}"

    @cached_property
    def specs(self) -> Mapping[Check, tuple[CheckSpec, ...]]:
        """The checks in force for it, by what judges them."""
        checks = (*self.stage.checks, *desk_checks(self.scope, self.name))
        return {check: tuple(check.specs(self.scope)) for check in checks}

    def configuration(self, name: str) -> Any:
        """One part of the configuration."""
        return self.member if name == "member" else CONFIGURATION[name](self.scope)

    def arguments(
        self,
        function: Any,
        artifacts: Artifacts,
        effects: Mapping[str, Any],
        lineage: "Lineage",
    ) -> dict[str, Any]:
        """What a function of this node (its stage's, a description, a check) is called with.

        Raises
        ------
        StoreError
            When an asset that it reads is not among the artifacts.
        """
        filled: dict[str, Any] = {}
        for name, given in lineage.inputs_of(function, self.scope, self.stage.name, self.key).items():
            found = {key[1]: self._among(artifacts, key) for key in given.keys}
            filled[name] = found if given.many else next(iter(found.values()), None)
        for name in keywords_of(function):
            filled[name] = self.configuration(name) if name in CONFIGURATION else effects[name]
        return filled

    def _among(self, artifacts: Artifacts, key: Key) -> Artifact | Partitions:
        if key not in artifacts:
            raise StoreError(
                f"input {'/'.join(key)} of {'/'.join(self.key)}",
                expected="a version of it",
                found="none",
                action=f"materialise {'/'.join(key)} first, or give it",
            )
        return artifacts[key]


def plain(value: Any) -> Any:
    """A part of the configuration as data for a digest; what is written for people only is left out."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude=FOR_PEOPLE)
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return value if value is None or isinstance(value, str | int | float) else str(value)


class Lineage:
    """Every asset that a configuration describes.

    Parameters
    ----------
    settings : Settings
    stages : mapping of str to Stage, optional
        The stages; all registered ones when not given.
    """

    def __init__(self, settings: Settings, stages: Mapping[str, Stage] | None = None) -> None:
        self.settings = settings
        self.stages: Mapping[str, Stage] = dict(all_stages() if stages is None else stages)

    @cached_property
    def nodes(self) -> Mapping[Key, Node]:
        """All assets by key, each after everything that it reads."""
        strategies = self.settings.strategies.values()
        universes = dict.fromkeys(s.universe for s in strategies)  # others have no assets
        scopes = [Scope(self.settings, self.settings.universes[name]) for name in universes]
        scopes += [self.scope(s.name) for s in strategies]
        for scope in scopes:
            require_assets(scope, self.stages)
        found: dict[Key, Node] = {}
        for scope in (*scopes, Scope(self.settings)):
            for node in self._nodes(scope):
                held = found.setdefault(node.key, node)
                if held is not node:
                    raise ConfigurationError(
                        f"asset {'/'.join(node.key)}",
                        expected="one stage that makes it",
                        found=f"stages {held.stage.name!r} and {node.stage.name!r}",
                        action="rename one of the two, or the member of the family",
                    )
        return {key: found[key] for key in _in_order(found)}

    def scope(self, strategy: str) -> Scope:
        """The scope of a strategy.

        Raises
        ------
        ConfigurationError
            When there is none of that name.
        """
        known = self.settings.strategies
        self.settings.require(strategy)
        if strategy not in known:
            raise ConfigurationError(
                f"strategy {strategy!r}",
                expected=f"one of {', '.join(known) or '(none is configured)'}",
                found="no strategy of that name",
                action=closest(strategy, known) or "add its file to configs/strategies/",
            )
        config = known[strategy]
        return Scope(self.settings, self.settings.universe_of(config), config)

    def of(self, strategy: str) -> tuple[Node, ...]:
        """Everything between the source and the champion of a strategy, in order, its universe's assets whole."""
        scope = self.scope(strategy)
        return (*self._by_owner.get(scope.bars.name, ()), *self._by_owner.get(scope.key, ()))

    @cached_property
    def _by_owner(self) -> Mapping[str, tuple[Node, ...]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            found.setdefault(node.key[0], []).append(node)
        return {owner: tuple(nodes) for owner, nodes in found.items()}

    def reports(self, scope: Scope) -> tuple[str, ...]:
        """Names of the assets in which a scope's gates are judged."""
        return tuple(s.name for s in self.stages.values() if s.gates and s.wanted(scope))

    @cached_property
    def behind_verdicts(self) -> frozenset[Key]:
        """Reports that judge by cross-validation, and what they are made from: a run makes these first."""
        judged = (key for key, node in self.nodes.items() if node.stage.gates == "validation")
        return frozenset(node.key for node in self.ancestors(*judged))

    def decision(self, strategy: str) -> Node:
        """The asset that decides what serves.

        Raises
        ------
        ConfigurationError
            When there is not exactly one.
        """
        found = [node for node in self.of(strategy) if node.stage.decides]
        if len(found) != 1:
            raise ConfigurationError(
                f"lineage of {strategy}",
                expected="one asset that decides what serves",
                found=", ".join(names_of(node.key for node in found)) or "none",
                action="declare `decides` for one stage only",
            )
        return found[0]

    def ancestors(self, *targets: Key, given: Container[Key] = ()) -> tuple[Node, ...]:
        """The targets and everything that they are made from, in order; nothing that is given, or behind it alone."""
        wanted, waiting = set[Key](), list(targets)
        while waiting:
            key = waiting.pop()
            if key not in wanted and key not in given:
                wanted.add(key)
                waiting += self.nodes[key].parents
        return tuple(node for key, node in self.nodes.items() if key in wanted)

    def idea(self, keys: Sequence[Key], outside: Mapping[Key, str]) -> str:
        """Digest of the code and configuration behind some assets: what tells one idea from another.

        Parameters
        ----------
        keys : sequence of (str, str)
        outside : mapping of (str, str) to str
            Versions of assets that were given, or made by other functions than their stages'. They stand for
            themselves: any other content is another idea.
        """
        behind = self.ancestors(*keys, given=outside)
        reached = {*keys, *(parent for node in behind for parent in node.parents)} & set(outside)
        # By name alone: whose they are is no part of the idea, so a copied strategy has the same one.
        made = {node.name: node.code_version for node in behind}
        return json_digest({"made": made, "given": {name: outside[owner, name] for owner, name in reached}})

    def ideas(self) -> Mapping[str, frozenset[str]]:
        """By strategy, the ideas of today's code and configuration under which its looks would be counted."""
        return {
            name: frozenset(self.idea((node.key,), {}) for node in self.of(name) if node.stage.counts)
            for name in self.settings.strategies
        }

    def blocking_checks(self, target: Key) -> tuple[tuple[Key, str], ...]:
        """Every check that stops what comes after, of everything that a target is made from."""
        return tuple(
            (node.key, spec.name)
            for node in self.ancestors(target)
            for specs in node.specs.values()
            for spec in specs
            if spec.blocking
        )

    def inputs_of(self, function: Any, scope: Scope, reader: str, own: Key | None = None) -> dict[str, Input]:
        """What the asset parameters of a function are filled with in a scope.

        Parameters
        ----------
        reader : str
            Whose function it is, for messages.
        own : (str, str), optional
            What the parameter ``asset`` of a check is: the asset that it is a check of.

        Raises
        ------
        ConfigurationError
            For a name that is no asset of the scope, with the closest that is.
        """
        filled = {}
        for parameter in Stage.parameters(function):
            given = (
                Input((own,), many=False)
                if own and parameter.name == OWN
                else self._input(parameter.name, scope)
            )
            if given is None or (not given.keys and not given.many and parameter.default is not None):
                known = [*(s.name for s in self.stages.values() if s.wanted(scope)), PANEL, FEED, REPORTS]
                raise ConfigurationError(
                    f"parameter {parameter.name!r} of {reader!r}",
                    expected="the name of an asset that its scope has",
                    found=f"none of that name for {scope.key}",
                    action=closest(parameter.name, known) or "name an asset, or put it after the '*'",
                )
            filled[parameter.name] = given
        return filled

    def _input(self, name: str, scope: Scope) -> Input | None:
        if name == PANEL:
            name = next(name for name in PANELS if self.stages[name].wanted(scope.of_universe()))
        if name == FEED:
            name = next(name for name in FEEDS if self.stages[name].wanted(scope.of_universe()))
        if name == REPORTS:
            return Input(tuple((scope.key, report) for report in self.reports(scope)), many=True)
        stage = self.stages.get(name)
        if stage is None:
            return None
        owner = scope.bars.name if stage.owner == "universe" else scope.key
        if stage.members is not None:
            return Input(tuple((owner, member) for member in stage.members(scope)), many=True)
        return Input(((owner, name),) if stage.wanted(scope) else (), many=False)

    def _nodes(self, scope: Scope) -> Iterator[Node]:
        owner = "strategy" if scope.strategy else "universe" if scope.universe else "platform"
        for stage in self.stages.values():
            if stage.owner == owner and stage.wanted(scope):
                inputs = self.inputs_of(stage.function, scope, stage.name)
                members: Mapping[str, str | None] = (
                    {stage.name: None} if stage.members is None else {**stage.members(scope)}
                )
                for name, member in members.items():
                    yield Node(stage, scope, name, member, inputs)


def all_stages() -> Mapping[str, Stage]:
    """Every stage there is. Each module of `quant_assets.lineage.stages` registers its own."""
    every_module_of(f"{__package__}.stages")
    # In the order of the lineage; within a group as its module declares them.
    return dict(sorted(registered().items(), key=lambda item: GROUPS.index(item[1].group)))


def stages_table() -> str:
    """Every stage as a row of a Markdown table, in the order of the lineage: what it is, reads and is checked for."""
    rows = ["| group | asset | reads | what it is |", "| --- | --- | --- | --- |"]
    for stage in all_stages().values():
        reads = ", ".join(f"`{p.name}`" for p in Stage.parameters(stage.function))
        reads = reads or ("the outside world" if stage.always else "nothing")
        words = (stage.function.__doc__ or "").strip().split("\n\n")[0].replace("|", "\\|").replace("``", "`")
        name = f"`{stage.name}`" + (" (each)" if stage.members else "")
        rows.append(f"| {stage.group} | {name} | {reads} | {' '.join(words.split())} |")
    return "\n".join(rows)


def _in_order(nodes: Mapping[Key, Node]) -> list[Key]:
    """Parents before children, otherwise as declared."""
    done: dict[Key, bool] = {}

    def visit(key: Key, path: Sequence[Key]) -> None:
        if done.get(key):
            return
        if key in path:
            circle = " -> ".join("/".join(k) for k in (*path[path.index(key) :], key))
            raise ConfigurationError(
                "the lineage",
                expected="no circle",
                found=circle,
                action="let one of them read something else",
            )
        for parent in nodes[key].parents:
            visit(parent, (*path, key))
        done[key] = True

    for key in nodes:
        visit(key, ())
    return list(done)


def computed(
    lineage: Lineage, node: Node, artifacts: Artifacts, effects: Mapping[str, Any], *, shown: bool = True
) -> Product:
    """Call a node's stage: the value, and the facts that its function knows.

    What shows an outcome is counted before anybody sees it: whatever happens after this has a trial in the ledger,
    unless nothing of it is ``shown``. ``effects["outside"]`` are assets that no stage made, with their versions.
    """
    outside: Mapping[Key, str] = effects.get("outside", {})

    def arguments(function: Any, idea: Callable[[], str], **told: Any) -> dict[str, Any]:
        if "look" in keywords_of(function):
            told["look"] = Look(node.scope.book, node.scope.key, idea(), effects["run"].run_id)
        if "ideas" in keywords_of(function):
            told["ideas"] = lineage.ideas()
        return node.arguments(function, artifacts, {**effects, **told}, lineage)

    function, counts = node.stage.function, node.stage.counts
    product: Product = function(**arguments(function, lambda: lineage.idea(node.parents, outside)))
    if counts is None or not shown:
        return product

    def idea() -> str:
        own = {node.key: identity_of(product.value)} if node.key in outside else {}
        return lineage.idea((node.key,), {**outside, **own})

    return replace(product, facts={**product.facts, **counts(**arguments(counts, idea, value=product.value))})


def described(
    lineage: Lineage, node: Node, product: Product, artifacts: Artifacts, effects: Mapping[str, Any]
) -> dict[str, Any]:
    """All facts about a value: those that came with it, and those that its stage's description adds."""
    if node.stage.describe is None:
        return dict(product.facts)
    arguments = node.arguments(node.stage.describe, artifacts, {**effects, "value": product.value}, lineage)
    return {**product.facts, **node.stage.describe(**arguments)}


def fingerprint_of(
    node: Node,
    lineage: Lineage,
    given: Artifacts,
    effects: Mapping[str, Any],
    partition: str | None = None,
) -> str:
    """Digest of what shapes an asset: code and configuration, partition, inputs, options, what is fresh."""
    fresh: Sequence[str] = ()
    if node.stage.fresh is not None:
        fresh = node.stage.fresh(**node.arguments(node.stage.fresh, given, effects, lineage))
    options = effects["options"]
    parts = [node.code_version, partition or "", *fresh]
    parts += [json_digest(options.model_dump(mode="json"))] if options is not None else []
    parts += [f"{'/'.join(key)}={stated(artifact.version)}" for key, artifact in sorted(given.items())]
    return combined_fingerprint(parts)


def names_of(keys: Iterable[Key]) -> list[str]:
    """Keys as people write them."""
    return ["/".join(key) for key in keys]
