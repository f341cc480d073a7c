"""Networks in ONNX files, on the CPU, a thread each."""

from pathlib import Path
from typing import Any

from stages.base import ModelRef
from stages.models.extras import needed
from stages.models.weights import locate

_BROKEN = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented")


def load_onnx(ref: ModelRef) -> Any:
    """An ``onnxruntime.InferenceSession``. ONNX files hold a graph and numbers, no code.

    Raises:
        ImportError: If onnxruntime is not installed.
        ValueError: If the file is not there or damaged.
    """
    onnxruntime = needed("onnxruntime", "score")
    state = needed("onnxruntime.capi.onnxruntime_pybind11_state", "score")
    file = Path(locate(ref))
    if not file.is_file():
        raise ValueError(f"no ONNX file at {file.absolute()}: set model to the file itself")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except tuple(getattr(state, name) for name in _BROKEN) as error:
        raise ValueError(f"cannot load {ref.name} as ONNX: {' '.join(str(error).split())[:300]}") from error
