"""Artifacts: the fused ONNX graph, parity with the native model, the INT8 student, the bundle."""
