"""Features of a universe larger than memory, in blocks of symbols."""

from quant_assets.features.blocks.blocks import BLOCK_ROWS, BlockRun, compute_in_blocks

__all__ = ["BLOCK_ROWS", "BlockRun", "compute_in_blocks"]
