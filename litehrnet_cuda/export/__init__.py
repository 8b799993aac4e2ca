"""Networks as files for other programs: ONNX, `torch.export` programs, AOTInductor packages; each one is checked."""
