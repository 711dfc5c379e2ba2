"""What a replay found: the vintages it started from, and each replayed asset against the one of the day."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from quant_assets.common.store import Encoded, Table, decode

Status = Literal["same bits", "other bits", "other inputs", "other code", "not materialised"]


@dataclass(frozen=True)
class Vintage:
    """The content of one root partition that was known: its version, and since when."""

    asset: str
    partition: str
    version: str
    known_at: datetime


@dataclass(frozen=True)
class Stage:
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
        name = self.asset + (f"[{self.partition}]" if self.partition else "")
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
    stages: tuple[Stage, ...]

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
