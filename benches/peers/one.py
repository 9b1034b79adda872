"""Times one peer in this process and prints a JSON line.

Usage: one.py export|openvino|onnxruntime|torch|torch-train NETWORK SIZE f32|bf16 THREADS RUNS FOLDER

`export` writes the ONNX file that the two before it read, and measures nothing.
"""
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np

peer, name, size, dtype, threads, runs, folder = sys.argv[1:]
size, threads, runs = int(size), int(threads), int(runs)
x = np.random.default_rng(0).standard_normal((1, 1, size, size, size), dtype=np.float32)
onnx = Path(folder) / f"{name}-{size}.onnx"

if peer == "export":
    import torch
    from nets import net

    torch.manual_seed(0)
    torch.onnx.export(net(name).eval(), (torch.from_numpy(x),), onnx, opset_version=18, dynamo=False)
    print("{}")
    sys.exit()

if peer.startswith("torch"):
    import torch
    from nets import net

    torch.set_num_threads(threads)
    model = net(name).to(memory_format=torch.channels_last_3d)
    image = torch.from_numpy(x)
    cast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16")
    target = torch.randint(0, 14, (1, size, size, size))
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
    request = openvino.Core().compile_model(onnx, "CPU", settings).create_infer_request()

    def step():
        request.infer({0: x})

else:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])

    def step():
        session.run(None, {session.get_inputs()[0].name: x})


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
