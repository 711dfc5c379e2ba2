"""A desk's own research on quant_assets: one example of each part that a desk can bring."""
