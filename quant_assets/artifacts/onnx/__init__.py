"""ONNX: the fused graph, the INT8 student, and parity of both with the model."""
