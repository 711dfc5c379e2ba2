"""Who is in charge: the promotion ledger says it, under the platform's signature. The registry's alias repeats it.

A candidate's bundle is signed before its gates are judged, so a good signature on a bundle says nothing about a
promotion. What does is an entry of the ledger that is itself signed: the signature covers the entry as it stands in
the chain, and through it every entry before. Whoever loads a model asks here, and takes from the registry only bytes,
which the entry's digest then has to match.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quant_assets.artifacts.bundle.signing import (
    TrustedKeys,
    sign_bundle,
    signing_key,
    trusted_keys,
    verify_signature,
)
from quant_assets.common.errors import ArtifactError, RegistryError
from quant_assets.common.home import Home
from quant_assets.ledgers.promotions import LedgerEntry, PromotionLedger

# What is signed begins with its purpose: the signature of a bundle is never one of an entry, nor the other way round.
_PURPOSE = b"quant_assets promotion ledger entry\n"


@dataclass(frozen=True)
class LedgerKeys:
    """Whose signatures of ledger entries are believed, and how entries are signed here.

    Attributes
    ----------
    trusted : TrustedKeys
    seal : callable, bytes of an entry -> its detached signature
    """

    trusted: TrustedKeys
    seal: Callable[[bytes], bytes]


def ledger_keys(home: Home) -> LedgerKeys:
    """The keys of a home. The private one is read when an entry is signed, and not before.

    Raises
    ------
    ConfigurationError
        As `trusted_keys`; when an entry is signed, as `signing_key`.
    """

    def seal(line: bytes) -> bytes:
        return sign_bundle(_PURPOSE + line, signing_key(home.local))

    return LedgerKeys(trusted_keys(home.local), seal)


def signer(ledger: PromotionLedger, entry: LedgerEntry, trusted: TrustedKeys) -> str:
    """Fingerprint of the trusted key that signed an entry of the ledger.

    Raises
    ------
    RegistryError
        When the entry is not signed, not by a trusted key, or the signature is that of another entry.
    """
    try:
        return verify_signature(_PURPOSE + entry.line(), ledger.signature(entry), trusted)
    except ArtifactError as error:
        raise RegistryError(
            f"ledger entry {entry.index} ({entry.action} {entry.strategy}, version {entry.model_version})",
            expected="the signature of a trusted key over exactly this entry",
            found=error.found.replace("the bundle", "the entry").replace("another bundle", "another entry"),
            action="find out who wrote it; a retired key has to stay among QUANT_ASSETS_VERIFY_KEYS, and an entry "
            "of before entries were signed is replaced by materialising promotion",
        ) from error


def reigns(entries: Sequence[LedgerEntry]) -> tuple[LedgerEntry, ...]:
    """The line of champions according to the ledger, the present one last.

    A promotion adds one, a roll-back removes one, so that two roll-backs go back two champions.
    """
    line: list[LedgerEntry] = []
    for entry in entries:
        if entry.action == "promoted":
            line.append(entry)
        elif entry.action == "rolled_back":
            line.pop()
    return tuple(line)


@dataclass(frozen=True)
class Standing:
    """The model in charge of a strategy.

    Attributes
    ----------
    entry : LedgerEntry
        What put it in charge: a promotion, or the roll-back to it. It names subject, registry version and the digest
        of the bundle.
    signed_by : str
        Fingerprint of the key that signed the entry.
    known : frozenset of str
        Hashes of all entries of the strategy.
    """

    entry: LedgerEntry
    signed_by: str
    known: frozenset[str]

    @property
    def bundle_sha256(self) -> str | None:
        """Digest of the bundle that was admitted."""
        return self.entry.evidence.get("bundle")


def standing(ledger: PromotionLedger, strategy: str, trusted: TrustedKeys) -> Standing | None:
    """Who is in charge of a strategy; None when nobody ever was.

    Raises
    ------
    LedgerError
        When the ledger was altered.
    RegistryError
        When its last move of this strategy is not signed by a trusted key.
    """
    entries = ledger.entries(strategy)
    moves = [entry for entry in entries if entry.moves]
    if not moves:
        return None
    return Standing(moves[-1], signer(ledger, moves[-1], trusted), frozenset(e.hash for e in entries))
