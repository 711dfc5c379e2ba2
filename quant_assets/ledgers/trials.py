"""The trial ledger: every evaluation that has read validation outcomes, kept for ever, and what they say together."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant_assets.common.errors import StorageError, StoreError, ValidationError
from quant_assets.common.files import (
    Address,
    Location,
    create_whole,
    located,
    make_folder,
    names_in,
    read_all,
    read_whole,
)
from quant_assets.common.hashing import bytes_digest, canonical_json, json_digest
from quant_assets.common.store import ArtifactStore
from quant_assets.ledgers.chain import Chain, RecordFiles, RecordType, json_record, ledger_error

# ----------------------------------------------------------------------------------------------------- trials


@dataclass(frozen=True)
class Trial:
    """One evaluation of one configuration.

    Attributes
    ----------
    strategy, fingerprint : str
        Whose trial, and of which configuration (code, settings and data in one digest).
    sharpe_per_period : float
        Net Sharpe ratio of the returns, per session.
    n_obs : int
        Number of sessions.
    returns_sha256, sessions_sha256 : str
        Digests of the stored return stream and of its sessions.
    run_id, recorded_at : str
        Which run made it, and when (ISO 8601, UTC). Not part of the trial's identity.
    """

    strategy: str
    fingerprint: str
    sharpe_per_period: float
    n_obs: int
    returns_sha256: str
    sessions_sha256: str
    run_id: str
    recorded_at: str

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it this trial: everything but who recorded it when."""
        return {k: v for k, v in asdict(self).items() if k not in ("run_id", "recorded_at")}


def trial_of(
    strategy: str, fingerprint: str, returns: ArrayLike, sessions: ArrayLike, *, run_id: str, recorded_at: str
) -> Trial:
    """Describe a return stream as a trial. Streams without variance count with a Sharpe ratio of 0.

    Raises
    ------
    ValidationError
        When returns are not finite, fewer than 2, not one per session, or sessions do not ascend.
    """
    from quant_assets.statistics.sharpe import sharpe_ratio

    values, days = stream_of(returns, sessions)
    ascending = len(days) == len(values) >= 2 and bool((np.diff(days) > 0).all())
    if not (ascending and np.isfinite(values).all()):
        raise ValidationError(
            f"trial {fingerprint} of {strategy}",
            expected="at least 2 finite returns, one for each of ascending sessions",
            found=f"{values.size} returns ({int((~np.isfinite(values)).sum())} not finite), {days.size} sessions",
            action="record the net returns of one full-length path",
        )
    ratio = float(sharpe_ratio(values))
    return Trial(
        strategy=strategy,
        fingerprint=fingerprint,
        sharpe_per_period=0.0 if np.isnan(ratio) else ratio,
        n_obs=len(values),
        returns_sha256=bytes_digest(values.tobytes()),
        sessions_sha256=bytes_digest(days.tobytes()),
        run_id=run_id,
        recorded_at=recorded_at,
    )


@dataclass(frozen=True)
class TrialSnapshot:
    """The ledger of one strategy at one moment: where the gates take N and V from.

    Attributes
    ----------
    sharpes : tuple of float
        Per-period Sharpe ratio of each trial, in order of their fingerprints.
    effective_number_of_trials : float
        Correlated trials counted by what they add; between 1 and ``n_trials``, and never less after one more.
    digest : str
        Digest of the trials' identities: the version of the evidence.
    chain_length, chain_head : int, str
        Anchor for `quant_assets.ledgers.trials.TrialLedger.require`.
    """

    strategy: str
    sharpes: tuple[float, ...]
    effective_number_of_trials: float
    digest: str
    chain_length: int
    chain_head: str

    @property
    def n_trials(self) -> int:
        """Distinct configurations evaluated. Counted, so that nobody can type it."""
        return len(self.sharpes)

    @property
    def trial_variance(self) -> float:
        """Variance (ddof 1) of the per-period Sharpe ratios; 0 for fewer than two trials."""
        return float(np.var(self.sharpes, ddof=1)) if len(self.sharpes) > 1 else 0.0


def stream_of(returns: ArrayLike, sessions: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns as float64 and sessions as days since 1970, in the byte order in which they are stored."""
    days = np.asarray(sessions, dtype="datetime64[D]").ravel().astype("<i8")
    return np.asarray(returns, dtype="<f8").ravel(), days


# ------------------------------------------------------------------------------------------- the trial ledger

# A deflated Sharpe ratio is worth what its number of trials is worth, so that number comes from here and from
# nowhere else. Layout, below one root::
#
#     trials/<strategy>/<fingerprint>.json     one immutable file per trial
#     trials/<strategy>/chain/<00000001>.json  one link per trial, in order of arrival
#     objects/<aa>/<sha256>                    returns (float64) and sessions (int64 days), raw little-endian
#
# Appending needs no lock, on a local disk and in a bucket (see `quant_assets.ledgers.chain`): a writer that is killed
# leaves at most an unused temporary file, or a trial without a link, which counts and is linked by the next writer.
#
# What is noticed: a trial that was altered, exchanged, cut short or removed after it was linked; a link that
# was altered, or removed from anywhere but the end; returns or sessions whose bytes changed. What is not:
# changes to ``run_id`` and ``recorded_at``, and, from the folder alone, that the newest links were removed
# together with their trials. For that, reports carry `TrialSnapshot.chain_length` and ``chain_head``, and
# `TrialLedger.require` compares.


__all__ = ["Trial", "TrialLedger", "TrialSnapshot", "trial_of"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class TrialLink:
    """One link of the chain: which trial arrived when, and what it was.

    Attributes
    ----------
    number : int
        Order of arrival, from 1.
    previous : str
        Digest of the link before (64 zeros for the first).
    fingerprint, identity_sha256 : str
        The trial's name, and the digest of `Trial.identity`.
    """

    number: int
    previous: str
    fingerprint: str
    identity_sha256: str


LINKS = RecordType[TrialLink](
    noun="link",
    encode=lambda link: canonical_json(asdict(link)),
    decode=lambda data: TrialLink(**json_record(data, set(TrialLink.__dataclass_fields__))),
    position=lambda link: link.number - 1,
    previous=lambda link: link.previous,
    digest=lambda link: json_digest(asdict(link)),
)


class TrialLedger:
    """Append-only trials below one folder, local or in a bucket.

    Parameters
    ----------
    root : str, Path or UPath
        Folder or URL. Created at the first append.
    """

    def __init__(self, root: Address) -> None:
        self.root = located(root)
        self._objects = ArtifactStore(self.root)

    def append(self, trial: Trial, returns: ArrayLike, sessions: ArrayLike) -> Trial:
        """Record a trial with its returns. A configuration that is already there is returned, not repeated.

        Raises
        ------
        LedgerError
            When the returns are not those the trial describes, or the same configuration was recorded with
            other returns: then it is not the same configuration, or not deterministic.
        """
        values, days = stream_of(returns, sessions)
        described = trial_of(
            trial.strategy,
            trial.fingerprint,
            values,
            days,
            run_id=trial.run_id,
            recorded_at=trial.recorded_at,
        )
        path = self._folder(trial.strategy) / f"{_checked(trial.fingerprint)}.json"
        if described != trial:
            raise ledger_error(path, f"{described}", f"{trial}", "make the trial with trial_of")
        for data in (values.tobytes(), days.tobytes()):
            self._objects.put(data)
        make_folder(path.parent)
        create_whole(path, canonical_json(asdict(trial)))
        stored = self._read(trial.strategy, trial.fingerprint)
        if (stored.returns_sha256, stored.sessions_sha256) != (trial.returns_sha256, trial.sessions_sha256):
            raise ledger_error(
                path,
                f"returns {stored.returns_sha256[:12]}, as recorded by run {stored.run_id}",
                f"returns {trial.returns_sha256[:12]} from run {trial.run_id} for the same fingerprint",
                "put whatever differs between the two runs into the fingerprint",
            )
        self._link_unlinked(trial.strategy)
        return stored

    def trials(self, strategy: str) -> tuple[Trial, ...]:
        """Every trial of a strategy, by fingerprint.

        Raises
        ------
        LedgerError
            When a file was altered, cut short or removed (see the module's docstring for what is noticed).
        """
        # The chain first: a trial that arrives in between is then merely not linked yet.
        links = self._chain(strategy).records()
        folder = self._folder(strategy)
        files = read_all(folder, [f"{name}.json" for name in self._names(strategy)])
        found = {trial.fingerprint: trial for trial in (_trial(folder / f, files[f]) for f in files)}
        for link in links:
            path = folder / f"{link.fingerprint}.json"
            trial = found.get(link.fingerprint)
            if trial is None or json_digest(trial.identity) != link.identity_sha256:
                raise ledger_error(
                    path,
                    f"the trial of link {link.number}, {link.identity_sha256[:12]}",
                    "no such file" if trial is None else f"{json_digest(trial.identity)[:12]}",
                    "append that trial again if its file is gone, or restore a backup",
                )
        return tuple(found[name] for name in sorted(found))

    def snapshot(self, strategy: str) -> TrialSnapshot:
        """Number and spread of the trials, as the gates use them."""
        from quant_assets.statistics.overfitting import effective_number_of_trials

        chain = self._chain(strategy)
        links, trials = chain.records(), self.trials(strategy)
        effective = float(len(trials))
        if len(trials) > 1:
            effective = float(effective_number_of_trials(self.returns_matrix(strategy)))
        return TrialSnapshot(
            strategy=strategy,
            sharpes=tuple(trial.sharpe_per_period for trial in trials),
            effective_number_of_trials=effective,
            digest=json_digest([t.identity for t in trials]),
            chain_length=len(links),
            chain_head=chain.head_of(links),
        )

    def returns_matrix(self, strategy: str) -> NDArray[np.float64]:
        """Returns of every trial over the sessions that any of them has: shape (sessions, trials).

        Columns are in the order of `trials`; NaN where a trial has no such session.
        """
        trials = self.trials(strategy)
        days = [self._array(t, t.sessions_sha256, np.dtype("<i8")) for t in trials]
        every = np.unique(np.concatenate(days)) if days else np.empty(0, dtype=np.int64)
        matrix = np.full((len(every), len(trials)), np.nan)
        for column, trial in enumerate(trials):
            values = self._array(trial, trial.returns_sha256, np.dtype("<f8"))
            matrix[np.searchsorted(every, days[column]), column] = values
        return matrix

    def require(self, strategy: str, length: int, head: str) -> None:
        """Refuse a ledger that is not a continuation of the one a report was made from.

        Raises
        ------
        LedgerError
            When the chain is shorter than it was, or another one.
        """
        chain = self._chain(strategy)
        links = chain.records()
        if len(links) < length or chain.head_of(links[:length]) != head:
            raise ledger_error(
                self._folder(strategy),
                f"{length} linked trials ending in {head[:12]}, as an earlier report saw them",
                f"{len(links)} ending in {chain.head_of(links)[:12]}",
                "restore the ledger from a backup: trials that were looked at cannot be unseen",
            )

    def _folder(self, strategy: str) -> Location:
        return self.root / "trials" / _checked(strategy)

    def _chain(self, strategy: str) -> Chain[TrialLink]:
        return Chain(LINKS, RecordFiles(self._folder(strategy) / "chain"))

    def _names(self, strategy: str) -> list[str]:
        """Fingerprints of the trials that are there."""
        files = names_in(self._folder(strategy))
        return [file.removesuffix(".json") for file in files if file.endswith(".json") and file[0] != "."]

    def _read(self, strategy: str, fingerprint: str) -> Trial:
        path = self._folder(strategy) / f"{fingerprint}.json"
        return _trial(path, read_whole(path))

    def _array(self, trial: Trial, sha256: str, dtype: np.dtype[Any]) -> NDArray[Any]:
        try:
            return np.frombuffer(self._objects.get(sha256), dtype=dtype)
        except StorageError:
            raise  # the store cannot say: that is no damage
        except StoreError as error:
            raise ledger_error(
                self._objects.path(sha256),
                f"the stream of trial {trial.fingerprint}",
                error.found,
                "append that trial again, or restore a backup",
            ) from error

    def _link_unlinked(self, strategy: str) -> None:
        """Add a link for each trial without one: ours, and those whose writer was killed before its link."""
        chain = self._chain(strategy)
        while True:
            links = chain.records()
            linked = {link.fingerprint for link in links}
            waiting = [name for name in self._names(strategy) if name not in linked]
            if not waiting:
                return
            trial = self._read(strategy, waiting[0])
            link = TrialLink(
                len(links) + 1, chain.head_of(links), trial.fingerprint, json_digest(trial.identity)
            )
            # When another writer takes this place first, look again: it may have linked the same trial.
            if chain.extend(links, link) and len(waiting) == 1:
                return


def _trial(path: Location, data: bytes | None) -> Trial:
    if data is None:
        raise ledger_error(path, "a record", "no such file")
    try:
        trial = Trial(**json_record(data, set(Trial.__dataclass_fields__)))
    except ValueError as error:
        raise ledger_error(path, "one trial as JSON", f"{error}") from error
    if (trial.strategy, trial.fingerprint) != (path.parent.name, path.stem):
        raise ledger_error(path, "the trial of that name", f"{trial.strategy}/{trial.fingerprint}")
    return trial


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ledger_error(Path(name), f"a name like {_NAME.pattern}", repr(name), "use a digest")
    return name
