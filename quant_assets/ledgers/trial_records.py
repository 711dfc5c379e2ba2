"""What is written about trials: the trial, its link, how far a book had come, and what a person acknowledged as lost.

A chain of trials shows every edit but one: that its end, or all of it, is gone. So whoever counts leaves an anchor in
a folder of its own, and the same anchor stands in events, in MLflow and in the promotion ledger. A book that does not
continue every anchor that is known closes the gates of its universe. An acknowledgement voids the anchors of before
it; the trials that it says are lost keep counting, because what was looked at cannot be unseen.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant_assets.common.errors import LedgerError, ValidationError
from quant_assets.common.files import Location, create_whole, make_folder, names_in
from quant_assets.common.hashing import bytes_digest
from quant_assets.ledgers.chain import Chain, RecordFiles, json_record, ledger_error, numbered
from quant_assets.ledgers.promotions import LedgerEntry

BOOK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
Heads = Callable[[str], Sequence[str]]
_ANCHOR = re.compile(r"(?P<book>[^:]+):(?P<losses>[0-9]+):(?P<length>[0-9]+):(?P<head>[0-9a-f]{64})")


def checked_name(name: str) -> str:
    """A name that cannot leave the ledger's folder.

    Raises
    ------
    LedgerError
        For any other.
    """
    if not BOOK.fullmatch(name):
        raise LedgerError(
            f"ledger file {name}",
            expected=f"a name like {BOOK.pattern}",
            found=repr(name),
            action="use a digest",
        )
    return name


# ---------------------------------------------------------------------------------------------------- trials


@dataclass(frozen=True)
class Trial:
    """One evaluation of one configuration.

    Attributes
    ----------
    book, fingerprint : str
        Where it counts, and which evaluation it is (its idea and what came of it in one digest).
    sharpe_per_period : float
        Net Sharpe ratio of the returns, per session.
    n_obs : int
        Number of sessions.
    returns_sha256, sessions_sha256 : str
        Digests of the stored return stream and of its sessions.
    run_id, recorded_at : str
        Which run made it, and when (ISO 8601, UTC). Not part of the trial's identity.
    strategy : str
        Who looked first. Not what is counted: a copied strategy under another name is the same idea.
    idea : str
        Digest of the code and the whole configuration behind it: universe with its dates and symbols, features,
        labels, learners, seed, costs. Empty in ledgers of before ideas were recorded.
    panel_until, panel_sha256, sketch_sha256 : str
        Last session (ISO 8601), digest and sketch of the bars that it was made from.
    continues : str
        Fingerprint of the trial whose track this one replaces: the same idea on the same bars and newer ones.
    kind : {"", "draft"}
        ``draft`` for a first look at base learners without their stacker. It counts like any other: what was seen
        was seen.
    """

    book: str
    fingerprint: str
    sharpe_per_period: float
    n_obs: int
    returns_sha256: str
    sessions_sha256: str
    run_id: str
    recorded_at: str
    strategy: str = ""
    idea: str = ""
    panel_until: str = ""
    panel_sha256: str = ""
    sketch_sha256: str = ""
    continues: str = ""
    kind: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """The trial as it is stored: without an idea in the words of the ledgers that had none."""
        if self.idea:
            return {name: value for name, value in asdict(self).items() if name not in LATER_FIELDS or value}
        kept = {name: value for name, value in asdict(self).items() if name in EARLIER_FIELDS}
        return {**kept, "strategy": self.book}

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it this trial: everything but who recorded it when."""
        return {k: v for k, v in self.record.items() if k not in ("run_id", "recorded_at")}


# What a trial was before ideas were recorded; its book was the strategy's own.
EARLIER_FIELDS = {
    "strategy", "fingerprint", "sharpe_per_period", "n_obs", "returns_sha256", "sessions_sha256", "run_id",
    "recorded_at",
}  # fmt: skip
# What only some trials have: the others are stored, and have the identity, that they always had.
LATER_FIELDS = frozenset({"kind"})
DRAFT = "draft"
# The idea of a trial that was taken over from a strategy's own ledger, where ideas were not recorded.
EARLIER = "earlier ledger"


def trial_of(
    book: str, fingerprint: str, returns: ArrayLike, sessions: ArrayLike, *, run_id: str, recorded_at: str
) -> Trial:
    """Describe a return stream as a trial, of no idea yet. Streams without variance have a Sharpe ratio of 0.

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
            f"trial {fingerprint} of {book}",
            expected="at least 2 finite returns, one for each of ascending sessions",
            found=f"{values.size} returns ({int((~np.isfinite(values)).sum())} not finite), {days.size} sessions",
            action="record the net returns of one full-length path",
        )
    ratio = float(sharpe_ratio(values))
    return Trial(
        book=book,
        fingerprint=fingerprint,
        sharpe_per_period=0.0 if np.isnan(ratio) else ratio,
        n_obs=len(values),
        returns_sha256=bytes_digest(values.tobytes()),
        sessions_sha256=bytes_digest(days.tobytes()),
        run_id=run_id,
        recorded_at=recorded_at,
    )


def stream_of(returns: ArrayLike, sessions: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns as float64 and sessions as days since 1970, in the byte order in which they are stored."""
    days = np.asarray(sessions, dtype="datetime64[D]").ravel().astype("<i8")
    return np.asarray(returns, dtype="<f8").ravel(), days


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


LINKS = numbered("link", TrialLink)


def stored_trial(path: Location, data: bytes | None) -> Trial:
    """A trial from its file.

    Raises
    ------
    LedgerError
        When it is not there, or not the trial of that name.
    """
    if data is None:
        raise ledger_error(path, "a record", "no such file")
    try:
        if b'"idea"' in data:
            trial = Trial(**json_record(data, set(Trial.__dataclass_fields__), LATER_FIELDS))
        else:
            earlier = json_record(data, EARLIER_FIELDS)
            trial = Trial(book=earlier.pop("strategy"), **earlier)
    except ValueError as error:
        raise ledger_error(path, "one trial as JSON", f"{error}") from error
    if (trial.book, trial.fingerprint) != (path.parent.name, path.stem):
        raise ledger_error(path, "the trial of that name", f"{trial.book}/{trial.fingerprint}"[:200])
    return trial


# ---------------------------------------------------------------------------------------------- anchors and losses


@dataclass(frozen=True)
class Anchor:
    """How far one book of trials had come when somebody counted or judged.

    Attributes
    ----------
    book : str
    losses : int
        Acknowledged losses before it: an anchor of before an acknowledgement is void.
    length, head : int, str
        Linked trials, and the digest of the last link (64 zeros before the first).
    """

    book: str
    losses: int
    length: int
    head: str

    @property
    def text(self) -> str:
        """The anchor as events, tags and ledgers carry it."""
        return f"{self.book}:{self.losses}:{self.length}:{self.head}"

    @classmethod
    def of(cls, snapshot: Mapping[str, Any]) -> Self:
        """The anchor of a stored `quant_assets.ledgers.trials.TrialSnapshot`."""
        return cls(snapshot["book"], snapshot["losses"], snapshot["chain_length"], snapshot["chain_head"])

    @classmethod
    def parse(cls, text: str) -> Self:
        """An anchor from its text.

        Raises
        ------
        LedgerError
            For anything else.
        """
        found = _ANCHOR.fullmatch(text)
        if found is None:
            raise LedgerError(
                "anchor of a trial ledger",
                expected="book:losses:length:head",
                found=repr(text[:120]),
                action="find out who changed it: an anchor is written by the platform alone",
            )
        return cls(found["book"], int(found["losses"]), int(found["length"]), found["head"])


@dataclass(frozen=True)
class Acknowledgement:
    """One loss of trials that a person has acknowledged.

    Attributes
    ----------
    number, previous : int, str
        Place in the chain from 1, and the digest of the one before.
    book : str
    by, reason : str
        Who, and why the trials are gone.
    at : str
        ISO 8601 time in UTC.
    expected, found : str
        The newest anchor that the book did not continue, and where the book stood.
    lost_trials : int
        How many links are gone. They keep counting.
    """

    number: int
    previous: str
    book: str
    by: str
    reason: str
    at: str
    expected: str
    found: str
    lost_trials: int


ACKNOWLEDGEMENTS = numbered("acknowledgement", Acknowledgement)


class TrialAnchors:
    """Anchors and acknowledgements below one home, outside of ``trials/``.

    Parameters
    ----------
    root : Path or UPath
        Of the ledger. An anchor is a file below ``anchors/<book>/`` that its name says whole; acknowledgements are
        a chain below ``acknowledgements/<book>/``.
    """

    def __init__(self, root: Location) -> None:
        self._root = root

    def acknowledgements(self, book: str) -> list[Acknowledgement]:
        """Every acknowledged loss of a book, in order."""
        return self._chain(book).records()

    def known(self, book: str) -> list[Anchor]:
        """Every anchor of a book that stands here."""
        names = names_in(self._folder(book))
        return [
            Anchor.parse(f"{book}:{name.removesuffix('.anchor').replace('-', ':')}")
            for name in names
            if name.endswith(".anchor")
        ]

    def leave(self, anchor: Anchor) -> None:
        """Write an anchor, unless it is there."""
        folder = self._folder(anchor.book)
        make_folder(folder)
        name = f"{anchor.losses:04d}-{anchor.length:08d}-{anchor.head}.anchor"
        create_whole(folder / name, anchor.text.encode())

    def broken(
        self, book: str, heads: Heads, further: Iterable[Anchor] = ()
    ) -> tuple[list[Anchor], Sequence[str]]:
        """The anchors that a book does not continue, the longest first (none when all is well), and its heads.

        Parameters
        ----------
        heads : callable, book -> sequence of str
            Digests of the book's chain after 0, 1, 2, ... links. Asked after the anchors were read: a book that grows
            meanwhile is longer than its anchors, never shorter.
        further : iterable of Anchor
            Known from elsewhere: an event, MLflow, the promotion ledger. Those of other books are passed over.
        """
        known = {*self.known(book), *(anchor for anchor in further if anchor.book == book)}
        losses, now = len(self.acknowledgements(book)), heads(book)
        off = [
            anchor
            for anchor in known
            if anchor.losses > losses
            or (anchor.losses == losses and (anchor.length >= len(now) or now[anchor.length] != anchor.head))
        ]
        return sorted(off, key=lambda anchor: (-anchor.losses, -anchor.length, anchor.head)), now

    def require(self, book: str, heads: Heads, further: Iterable[Anchor] = ()) -> Sequence[str]:
        """Refuse a book that is shorter than it was, or another one; its heads when it is neither.

        Raises
        ------
        LedgerError
            Naming the longest anchor that it does not continue, and what a person can do.
        """
        off, now = self.broken(book, heads, further)
        if off:
            raise LedgerError(
                f"trial ledger of {book}",
                expected=f"{off[0].length} linked trials ending in {off[0].head[:12]}, as an earlier count saw them",
                found=f"{len(now) - 1} ending in {now[-1][:12]}",
                action="restore the ledger from a backup: trials that were looked at cannot be unseen; or let a "
                f"person acknowledge the loss: quant-assets trials acknowledge --universe {universe_of(book)} --by "
                "NAME --reason TEXT",
            )
        return now

    def acknowledge(
        self, book: str, heads: Heads, further: Iterable[Anchor], *, by: str, reason: str, at: str
    ) -> Acknowledgement:
        """Record that trials are lost; anchors of before are void from here on, the lost trials keep counting.

        Raises
        ------
        LedgerError
            When nothing is lost, or name or reason is missing.
        """
        off, now = self.broken(book, heads, further)
        if not off or len(by.strip()) < 2 or len(reason.strip()) < 10:
            raise LedgerError(
                f"acknowledgement for {book}",
                expected="a loss to acknowledge, a person's name, and a reason of at least 10 characters",
                found=f"{len(off)} broken anchors, name {by!r}, reason {reason!r}",
                action="say who acknowledges what, and why the trials are gone" if off else "do nothing",
            )
        chain = self._chain(book)
        while True:
            records = chain.records()
            # An anchor of a later loss than is recorded: acknowledgements are gone too, and their count goes on.
            last = len(records) >= off[0].losses
            record = Acknowledgement(
                number=len(records) + 1,
                previous=chain.head_of(records),
                book=book,
                by=by.strip(),
                reason=reason.strip(),
                at=at,
                expected=off[0].text,
                found=f"{len(now) - 1}:{now[-1]}",
                lost_trials=max(1, off[0].length - (len(now) - 1)) if last else 0,
            )
            if chain.extend(records, record) and last:
                return record

    def _folder(self, book: str) -> Location:
        return self._root / "anchors" / checked_name(book)

    def _chain(self, book: str) -> Chain[Acknowledgement]:
        return Chain(ACKNOWLEDGEMENTS, RecordFiles(self._root / "acknowledgements" / checked_name(book)))


def universe_of(book: str) -> str:
    """The universe whose trials a book holds."""
    return book.partition(".")[0]


def promoted_anchors(entries: Iterable[LedgerEntry]) -> tuple[Anchor, ...]:
    """Where books of trials stood at the decisions of the promotion ledger; entries of before this say nothing."""
    return tuple(Anchor.parse(entry.basis["trials"]) for entry in entries if "trials" in entry.basis)
