"""The root of all configuration models."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Root of all configuration models: frozen, strict about unknown keys, defaults validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def known_keys(cls) -> tuple[str, ...]:
        """Keys that a file may hold."""
        return tuple(cls.model_fields)
