"""Runs `viscera bench net` and its peers in turn on one machine and writes one table.

    pip install torch numpy onnxruntime openvino safetensors dynamic_network_architectures
    python compare.py path/to/viscera [--precision f32] [--threads 2] [--rounds 2] [--runs 3] [--rows net1:128 ...]

onnxruntime and OpenVINO run what `viscera model export` writes, PyTorch the networks of nets.py. Each measurement is a
process of its own, and rounds go through all of them in order, so that slow drifts of the machine touch everybody. Leave
the machine alone meanwhile. A row is NETWORK:SIZE, or NETWORK:SIZE:train; SIZE is N for a cube, or ZxYxX.
`ONEDNN_MAX_CPU_ISA=AVX2` and `VISCERA_ISA=avx2` in the environment hold both sides to AVX2.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def measure(command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return None
    return json.loads(done.stdout[done.stdout.index("{") :])


def voxels(size):
    return size if "x" in size else "x".join([size] * 3)


def export(viscera, name, size, folder):
    """The network with fresh weights as ONNX, for an input of that size."""
    model = Path(folder) / f"{name}.safetensors"
    subprocess.run([viscera, "model", "init", name, "-o", model], check=True, stdout=subprocess.DEVNULL)
    command = [viscera, "model", "export", model, "--onnx", "--input", size.replace("x", ",")]
    subprocess.run([*command, "-o", Path(folder) / f"{name}-{size}.onnx"], check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("viscera", type=Path)
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--threads", default="2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runs", default="3")
    parser.add_argument("--rows", nargs="+", default=["net1:128", "net2:192", "net1:96:train", "net2:96:train"])
    parser.add_argument("--peers", nargs="+", default=["openvino", "onnxruntime", "torch"])
    args = parser.parse_args()
    viscera = args.viscera.resolve()
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        rows = [(*row.split(":"), "")[:3] for row in args.rows]
        rows = [(name, voxels(size), train) for name, size, train in rows]
        for name, size, train in rows:
            if not train:
                export(viscera, name, size, folder)
        for _ in range(args.rounds):
            for name, size, train in rows:
                ours = [str(viscera), "--json", "--threads", args.threads, "bench", "net", name, "--runs", args.runs]
                ours += ["--input", size.replace("x", ","), "--precision", args.precision, *(["--train"] if train else [])]
                found = measure(ours)
                if found:
                    seconds, peak = found["seconds"], found["process_peak_mib"]
                    entry = {"median": seconds["median"], "min": seconds["min"], "peak_mib": peak}
                    results.setdefault((name, size, train, "viscera"), []).append(entry)
                for peer in ["torch-train"] if train else args.peers:
                    command = [sys.executable, "one.py", peer, name, size, args.precision]
                    found = measure([*command, args.threads, args.runs, folder])
                    if found:
                        results.setdefault((name, size, train, peer), []).append(found)
    print("| network | program | median s | fastest s | peak MiB | times ours |\n|---|---|---|---|---|---|")
    for (name, size, train, program), found in sorted(results.items()):
        median = statistics.median(f["median"] for f in found)
        ours = statistics.median(f["median"] for f in results[name, size, train, "viscera"])
        fastest, peak = min(f["min"] for f in found), max(f["peak_mib"] for f in found)
        what = f"{name} {size.replace('x', '×')} {train}".strip()
        print(f"| {what} | {program} | {median:.3f} | {fastest:.3f} | {peak:.0f} | {median / ours:.2f} |")


if __name__ == "__main__":
    main()
