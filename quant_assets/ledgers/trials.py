"""The trial ledger: every evaluation that has read validation outcomes, kept for ever, and what they say together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant_assets.common.errors import EvidenceError, StorageError, StoreError
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
from quant_assets.common.hashing import canonical_json, json_digest
from quant_assets.common.store import ArtifactStore
from quant_assets.ledgers.chain import GENESIS, Chain, RecordFiles, ledger_error
from quant_assets.ledgers.trial_records import (
    EARLIER,
    EARLIER_FIELDS,
    LINKS,
    Anchor,
    Trial,
    TrialAnchors,
    TrialLink,
    checked_name,
    stored_trial,
    stream_of,
    trial_of,
)


@dataclass(frozen=True)
class TrialSnapshot:
    """One book of trials at one moment: where the gates take N and V from.

    Attributes
    ----------
    book : str
        A universe and a label family: who looks at the same bars for the same kind of label looks again.
    sharpes : tuple of float
        Per-period Sharpe ratio of each trial, in order of their fingerprints.
    arrival : tuple of int
        Place of each of them, from 0, in the order in which they arrived.
    effective_number_of_trials : float
        Correlated trials counted by what they add; between 1 and ``n_trials``, and never less after one more.
    digest : str
        Digest of the trials' identities in order of arrival: the version of the evidence.
    chain_length, chain_head : int, str
        Where the chain stood.
    losses, lost_trials : int
        Acknowledged losses, and how many trials are gone with them.
    """

    book: str
    sharpes: tuple[float, ...]
    arrival: tuple[int, ...]
    effective_number_of_trials: float
    digest: str
    chain_length: int
    chain_head: str
    losses: int = 0
    lost_trials: int = 0

    @property
    def n_trials(self) -> int:
        """Distinct configurations evaluated, lost ones included. Counted, so that nobody can type it."""
        return len(self.sharpes) + self.lost_trials

    @property
    def trial_variance(self) -> float:
        """Variance (ddof 1) of the per-period Sharpe ratios; 0 for fewer than two trials."""
        return float(np.var(self.sharpes, ddof=1)) if len(self.sharpes) > 1 else 0.0

    @property
    def record(self) -> dict[str, Any]:
        """The snapshot as it is stored."""
        return {**asdict(self), "sharpes": list(self.sharpes), "arrival": list(self.arrival)}

    @classmethod
    def stored(cls, record: Mapping[str, Any]) -> Self:
        """A snapshot from its record.

        Raises
        ------
        EvidenceError
            When it is one of before the order of trials was kept.
        """
        if "arrival" not in record:
            raise EvidenceError(
                f"trial ledger of {record['book']}",
                expected="a snapshot that says in which order the trials arrived",
                found="one of an earlier version, which does not",
                action="materialise trial_ledger and everything after it again",
            )
        order = {"sharpes": tuple(record["sharpes"]), "arrival": tuple(record["arrival"])}
        return cls(**{**record, **order})

    @property
    def anchor(self) -> Anchor:
        """What reports carry, and later counts are held to."""
        return Anchor(self.book, self.losses, self.chain_length, self.chain_head)


# A deflated Sharpe ratio is worth what its number of trials is worth, so that number comes from here and from
# nowhere else. Layout, below one root::
#
#     trials/<book>/<fingerprint>.json     one immutable file per trial
#     trials/<book>/chain/<00000001>.json  one link per trial, in order of arrival
#     anchors/<book>/                      how far the chain had come, outside of it
#     objects/<aa>/<sha256>                returns (float64) and sessions (int64 days), raw little-endian
#
# Appending needs no lock, on a local disk and in a bucket (see `quant_assets.ledgers.chain`): a writer that is killed
# leaves at most an unused temporary file, or a trial without a link, which counts and is linked by the next writer.
#
# What is noticed: a trial that was altered, exchanged, cut short or removed after it was linked; a link that was
# altered or removed; returns or sessions whose bytes changed; a chain, or a whole folder, that does not continue an
# anchor. What is not: changes to ``run_id`` and ``recorded_at``. Neither is in any figure, but that ``recorded_at``
# says how the trials of two books of the same market follow each other.
#
# What counts as one trial: an idea, on bars that only grew. The same idea on the same bars and newer ones replaces
# its own track (`Trial.continues`), so retraining a champion counts nothing. Another number in the configuration,
# another date or symbol, other code, history that was changed or cut, or another outcome of all the same: a trial of
# its own.


# Two books are of the same market when at least half of the smaller one's bars are the other's.
KIN_SHARE = 0.5

__all__ = ["Trial", "TrialLedger", "TrialSnapshot", "trial_of"]


class TrialLedger:
    """Append-only trials below one folder, local or in a bucket.

    Parameters
    ----------
    root : str, Path or UPath
        Folder or URL. Created at the first append.
    """

    def __init__(self, root: Address) -> None:
        self.root = located(root)
        self.anchors = TrialAnchors(self.root)
        self._objects = ArtifactStore(self.root)

    def keep_sketch(self, sketch: NDArray[np.uint64]) -> str:
        """Store the sketch of a panel of bars; its digest."""
        return self._objects.put(sketch.astype("<u8").tobytes())

    def kin(self, book: str) -> tuple[str, ...]:
        """The other books of the label family whose bars are mostly this one's: the same universe under another name.

        Raises
        ------
        LedgerError
            Also when another book of the family lost all its trials: whose kin it was cannot be said.
        """
        family, own = book.partition(".")[2], self._sketched(book)
        names = {*names_in(self.root / "trials"), *names_in(self.root / "anchors")} - {book}
        others = {name: self._sketched(name) for name in sorted(names) if name.partition(".")[2] == family}
        found = []
        for name, sketch in others.items():
            if not len(sketch):
                self.anchors.require(name, self.heads)
            smaller = min(len(sketch), len(own))
            if smaller and np.isin(own, sketch).sum() >= KIN_SHARE * smaller:
                found.append(name)
        return tuple(found)

    def counted(self, book: str) -> tuple[Trial, ...]:
        """Every trial that counts in a book, by fingerprint: its own, and those of its `kin`."""
        return tuple(sorted(self.arrived(book), key=lambda trial: (trial.fingerprint, trial.book)))

    def arrived(self, book: str) -> tuple[Trial, ...]:
        """The same in order of arrival: within a book that of its chain, which nobody can change.

        A trial that replaced a track arrived when the idea did. Books are merged by when their trials were recorded:
        a claim of whoever wrote them, so it never changes the order within one of them.
        """
        keyed: list[tuple[str, str, int, Trial]] = []
        for name in sorted({book, *self.kin(book)}):
            latest = ""
            for trial in self._in_order(name):
                latest = max(latest, trial.recorded_at)
                keyed.append((latest, name, len(keyed), trial))
        first: dict[tuple[str, str], int] = {}  # the place of an idea's first track, under its newest one
        every, replaced = {}, set()
        for place, (*_, trial) in enumerate(sorted(keyed, key=lambda key: key[:3])):
            own, before = (trial.book, trial.fingerprint), (trial.book, trial.continues)
            first[own], every[own] = first.get(before, place), trial
            replaced.add(before)
        return tuple(every[own] for own in sorted(every, key=lambda own: first[own]) if own not in replaced)

    def append(self, trial: Trial, returns: ArrayLike, sessions: ArrayLike) -> Trial:
        """Record a trial with its returns. A configuration that is already there is returned, not repeated.

        Raises
        ------
        LedgerError
            When the returns are not those the trial describes, the same configuration was recorded with other
            returns (then it is not the same configuration, or not deterministic), or the book does not continue an
            anchor.
        """
        values, days = stream_of(returns, sessions)
        described = trial_of(
            trial.book,
            trial.fingerprint,
            values,
            days,
            run_id=trial.run_id,
            recorded_at=trial.recorded_at,
        )
        path = self._folder(trial.book) / f"{checked_name(trial.fingerprint)}.json"
        named = {name: getattr(trial, name) for name in set(asdict(trial)) - (EARLIER_FIELDS - {"strategy"})}
        if replace(described, **named) != trial:
            raise ledger_error(path, f"{described}", f"{trial}", "make the trial with trial_of")
        self.anchors.require(trial.book, self.heads)
        for data in (values.tobytes(), days.tobytes()):
            self._objects.put(data)
        make_folder(path.parent)
        create_whole(path, canonical_json(trial.record))
        stored = self._read(trial.book, trial.fingerprint)
        if (stored.returns_sha256, stored.sessions_sha256) != (trial.returns_sha256, trial.sessions_sha256):
            raise ledger_error(
                path,
                f"returns {stored.returns_sha256[:12]}, as recorded by run {stored.run_id}",
                f"returns {trial.returns_sha256[:12]} from run {trial.run_id} for the same fingerprint",
                "put whatever differs between the two runs into the fingerprint",
            )
        self._link_unlinked(trial.book)
        self.anchors.leave(self.anchor(trial.book))
        return stored

    def continued(
        self, book: str, idea: str, until: date, panel_digest: Callable[[date], str], returns_sha256: str
    ) -> str:
        """Fingerprint of the trial whose track a new one replaces; empty when it is a trial of its own.

        Parameters
        ----------
        until : date
            Last session of the new trial's bars.
        panel_digest : callable, date -> str
            Digest of the new trial's bars up to a session.
        returns_sha256 : str
            Of the new trial: one that was taken over without its idea is known by its returns.
        """
        for trial in self.trials(book):
            if trial.idea == EARLIER and trial.returns_sha256 == returns_sha256:
                return trial.fingerprint
            grown = trial.idea == idea and trial.panel_until < until.isoformat()
            if grown and panel_digest(date.fromisoformat(trial.panel_until)) == trial.panel_sha256:
                return trial.fingerprint
        return ""

    def adopt(self, book: str, strategy: str) -> int:
        """Take over the trials of a strategy's own ledger, as platforms of before books wrote it; how many are new.

        The old ledger stays as it is.
        """
        known = set(self._names(book))
        earlier = [] if strategy == book else self._in_order(strategy)
        replaced = {trial.continues for trial in earlier}
        waiting = [trial for trial in earlier if trial.fingerprint not in known | replaced]
        for trial in waiting:
            returns, days = self.stream(trial)
            self.append(
                replace(trial, book=book, strategy=strategy, idea=EARLIER),
                returns,
                days.astype("datetime64[D]"),
            )
        return len(waiting)

    def books(self, universe: str | None = None) -> list[str]:
        """Every book, of one universe or of all, that has left anything, trials or anchors."""
        names = {*names_in(self.root / "trials"), *names_in(self.root / "anchors")}
        return sorted(name for name in names if universe is None or name.startswith(f"{universe}."))

    def stream(self, trial: Trial) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns of a trial, and its sessions as days since 1970.

        Raises
        ------
        LedgerError
            When their bytes are gone or changed.
        """
        returns = self._array(trial, trial.returns_sha256, np.dtype("<f8"))
        return returns, self._array(trial, trial.sessions_sha256, np.dtype("<i8"))

    def records(self, book: str) -> tuple[Trial, ...]:
        """Every evaluation of a book, by fingerprint, those whose track was replaced included.

        Raises
        ------
        LedgerError
            When a file was altered, cut short or removed (see above for what is noticed).
        """
        return tuple(sorted(self._in_order(book), key=lambda trial: trial.fingerprint))

    def _in_order(self, book: str) -> list[Trial]:
        """The records of a book by their links; those that are not linked yet come last."""
        # The chain first: a trial that arrives in between is then merely not linked yet.
        links = self._chain(book).records()
        folder = self._folder(book)
        files = read_all(folder, [f"{name}.json" for name in self._names(book)])
        found = {trial.fingerprint: trial for trial in (stored_trial(folder / f, files[f]) for f in files)}
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
        names = dict.fromkeys([*(link.fingerprint for link in links), *sorted(found)])
        return [found[name] for name in names]

    def trials(self, book: str) -> tuple[Trial, ...]:
        """Every trial of a book, by fingerprint: its evaluations, each idea with its newest track only.

        Raises
        ------
        LedgerError
            As `records`.
        """
        records = self.records(book)
        replaced = {trial.continues for trial in records}
        return tuple(trial for trial in records if trial.fingerprint not in replaced)

    def since(self, book: str) -> str:
        """When the first evaluation of a book was recorded (ISO 8601, UTC); empty when there is none."""
        return min((trial.recorded_at for trial in self.records(book)), default="")

    def heads(self, book: str) -> tuple[str, ...]:
        """Digests of a book's chain after 0, 1, 2, ... links."""
        return (GENESIS, *(json_digest(asdict(link)) for link in self._chain(book).records()))

    def anchor(self, book: str) -> Anchor:
        """Where a book stands."""
        heads = self.heads(book)
        return Anchor(book, len(self.anchors.acknowledgements(book)), len(heads) - 1, heads[-1])

    def whole(self, book: str, further: Iterable[Anchor] = ()) -> tuple[Sequence[str], tuple[Trial, ...]]:
        """Heads of a book and its trials as `arrived`, once it and its kin continue every anchor that is known.

        Raises
        ------
        LedgerError
            As `records`, and when one of them does not.
        """
        known = tuple(further)
        heads, trials = self.anchors.require(book, self.heads, known), self.arrived(book)
        for other in {trial.book for trial in trials} - {book}:
            self.anchors.require(other, self.heads, known)
        return heads, trials

    def snapshot(self, book: str, further: Iterable[Anchor] = ()) -> TrialSnapshot:
        """Number and spread of the trials, as the gates use them.

        Parameters
        ----------
        further : iterable of Anchor
            Known from elsewhere, beside those that stand in the home.

        Raises
        ------
        LedgerError
            As `records`, and when the book does not continue an anchor.
        """
        from quant_assets.statistics.overfitting import effective_number_of_trials

        heads, arrived = self.whole(book, further)
        place = {(trial.book, trial.fingerprint): number for number, trial in enumerate(arrived)}
        trials = sorted(arrived, key=lambda trial: (trial.fingerprint, trial.book))
        effective = float(len(trials))
        if len(trials) > 1:
            effective = float(effective_number_of_trials(self._matrix(trials)))
        losses = self.anchors.acknowledgements(book)
        return TrialSnapshot(
            book=book,
            sharpes=tuple(trial.sharpe_per_period for trial in trials),
            arrival=tuple(place[trial.book, trial.fingerprint] for trial in trials),
            effective_number_of_trials=effective,
            digest=json_digest([t.identity for t in arrived]),
            chain_length=len(heads) - 1,
            chain_head=heads[-1],
            losses=len(losses),
            lost_trials=sum(loss.lost_trials for loss in losses),
        )

    def returns_matrix(self, book: str) -> NDArray[np.float64]:
        """Returns of every trial over the sessions that any of them has: shape (sessions, trials).

        Columns are in the order of `counted`; NaN where a trial has no such session.
        """
        return self._matrix(self.counted(book))

    def _matrix(self, trials: Sequence[Trial]) -> NDArray[np.float64]:
        streams = [self.stream(trial) for trial in trials]
        every = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(days for _, days in streams)]))
        matrix = np.full((len(every), len(trials)), np.nan)
        for column, (values, days) in enumerate(streams):
            matrix[np.searchsorted(every, days), column] = values
        return matrix

    def _folder(self, book: str) -> Location:
        return self.root / "trials" / checked_name(book)

    def _chain(self, book: str) -> Chain[TrialLink]:
        return Chain(LINKS, RecordFiles(self._folder(book) / "chain"))

    def _names(self, book: str) -> list[str]:
        """Fingerprints of the trials that are there."""
        files = names_in(self._folder(book))
        return [file.removesuffix(".json") for file in files if file.endswith(".json") and file[0] != "."]

    def _read(self, book: str, fingerprint: str) -> Trial:
        path = self._folder(book) / f"{fingerprint}.json"
        return stored_trial(path, read_whole(path))

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

    def _sketched(self, book: str) -> NDArray[np.uint64]:
        """Every bar of a book's panels that their sketches hold."""
        digests = {trial.sketch_sha256: trial for trial in self.records(book) if trial.sketch_sha256}
        found = [self._array(trial, digest, np.dtype("<u8")) for digest, trial in sorted(digests.items())]
        return np.unique(np.concatenate([*found, np.empty(0, dtype=np.uint64)]))

    def _link_unlinked(self, book: str) -> None:
        """Add a link for each trial without one: ours, and those whose writer was killed before its link."""
        chain = self._chain(book)
        while True:
            links = chain.records()
            linked = {link.fingerprint for link in links}
            waiting = [name for name in self._names(book) if name not in linked]
            if not waiting:
                return
            trial = self._read(book, waiting[0])
            link = TrialLink(
                len(links) + 1, chain.head_of(links), trial.fingerprint, json_digest(trial.identity)
            )
            # When another writer takes this place first, look again: it may have linked the same trial.
            if chain.extend(links, link) and len(waiting) == 1:
                return
