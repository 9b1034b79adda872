"""Times one peer in this process and prints a JSON line.

Usage: one.py openvino|onnxruntime|torch|torch-train NETWORK ZxYxX f32|bf16 THREADS RUNS FOLDER

The first two read the ONNX file `NETWORK-ZxYxX.onnx` in the folder.
"""
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np

peer, name, size, dtype, threads, runs, folder = sys.argv[1:]
shape, threads, runs = [int(n) for n in size.split("x")], int(threads), int(runs)
onnx = Path(folder) / f"{name}-{size}.onnx"


def noise(channels):
    return np.random.default_rng(0).standard_normal((1, channels, *shape), dtype=np.float32)


if peer.startswith("torch"):
    import torch
    from nets import NETS

    if name not in NETS:
        sys.exit(f"{name}: no PyTorch form")
    torch.set_num_threads(threads)
    model = NETS[name]().to(memory_format=torch.channels_last_3d)
    # Batch norm has running statistics, as in the ONNX file.
    model.train(peer == "torch-train")
    image = torch.from_numpy(noise(next(model.parameters()).shape[1]))
    cast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16")
    target = torch.randint(0, 14, (1, *shape))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.99, nesterov=True)

    def step():
        if peer == "torch":
            with torch.no_grad(), cast:
                model(image)
            return
        optimiser.zero_grad()
        with cast:
            logits = model(image)
        torch.nn.functional.cross_entropy(logits.float(), target).backward()
        optimiser.step()

elif peer == "openvino":
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": dtype,
    }
    model = openvino.Core().compile_model(onnx, "CPU", settings)
    request, x = model.create_infer_request(), noise(model.input(0).shape[1])

    def step():
        request.infer({0: x})

else:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    x = noise(given.shape[1])

    def step():
        session.run(None, {given.name: x})


step()
seconds = []
for _ in range(runs):
    start = time.perf_counter()
    step()
    seconds.append(time.perf_counter() - start)
print(
    json.dumps(
        {
            "median": statistics.median(seconds),
            "min": min(seconds),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    )
)
