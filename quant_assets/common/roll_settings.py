"""What a universe may say about its futures: which contracts there are, and when the next one is held."""

import re
from datetime import date
from typing import Literal, Self

from pydantic import Field, model_validator

from quant_assets.common.config_model import Config

CONTRACT = re.compile(r"^(?P<root>.+?)(?P<month>[FGHJKMNQUVXZ])(?P<year>\d{4}|\d{1,2})$")


class ContractConfig(Config):
    """One contract: its symbol in the source, its root, and the last day on which it trades."""

    symbol: str = Field(min_length=1, max_length=32)
    root: str = Field(min_length=1, max_length=32)
    last_trade: date


class RollsConfig(Config):
    """How contracts become one continuous series for each root, ratio-adjusted backward at every roll.

    ``volume`` rolls when a later contract traded more than the one that is held, ``days_before_expiry`` so that the
    next one is held from ``days`` sessions before the last trade on. Either is decided at a close and in force from
    the next session on, and never goes back.

    Without ``contracts`` the symbols have to be the usual ones: root, month code (F G H J K M N Q U V X Z) and year
    of one, two or four digits (ESH4, ESH24, ESH2024). Last trades are known from ``contracts`` alone.
    """

    rule: Literal["volume", "days_before_expiry"] = "volume"
    days: int = Field(default=5, ge=1, le=60, description="sessions, of days_before_expiry")
    contracts: tuple[ContractConfig, ...] = Field(default=(), max_length=20_000)

    @model_validator(mode="after")
    def _expiries_known(self) -> Self:
        if self.rule == "days_before_expiry" and not self.contracts:
            raise ValueError("days_before_expiry needs `contracts:` with the last trade of each")
        symbols = [contract.symbol for contract in self.contracts]
        if len(set(symbols)) < len(symbols):
            raise ValueError("a contract is listed more than once")
        return self
