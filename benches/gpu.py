"""The five systems on a GPU at the widths of their papers: trains each for some steps, segments with what came out, and
times a training step of their networks beside PyTorch's on the same device; prints two tables in Markdown.

python benches/gpu.py VISCERA SCAN WORK [--device cuda|wgpu] [--steps 20] [--only NAME]... [--no-peers]

VISCERA: a program built with `--features cuda` (or `wgpu`). SCAN: a CT to segment. WORK keeps phantoms, runs and models.
PyTorch (with CUDA) is needed for the second table; memory is that of the device, from nvidia-smi, where there is one.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from recipes import RECIPES

sys.path.insert(0, str(Path(__file__).parent / "peers"))

# Networks of the systems that PyTorch has here too, at the size that they are trained on.
PEERS = {
    "a-fine": (96, 160, 160),
    "c-stage2": (96, 192, 192),
    "d-coarse": (160, 160, 160),
    "d-fine": (192, 192, 192),
    "e-organ": (192, 192, 192),
}


class Memory:
    """Most memory of the device in use while the block runs, in MiB; None without nvidia-smi."""

    def __enter__(self):
        self.peak, self.ends = None, False
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
        while not self.ends:
            try:
                used = int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])
            except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
                return
            self.peak = max(self.peak or 0, used)
            time.sleep(0.1)

    def __exit__(self, *_):
        self.ends = True
        self.thread.join()


def run(*command):
    command = [str(part) for part in command]
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return time.time() - start


def steps(log):
    """Median seconds per part of a step, of each stage, without the first steps: these compile kernels."""
    found = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "step" and event["step"] > 5:
            found.setdefault(event["stage"], []).append(event["seconds"])
    return {
        stage: {part: statistics.median(s[part] for s in all_steps) for part in all_steps[0]}
        for stage, all_steps in found.items()
    }


def torch_step(name, patch):
    import torch
    from nets import NETS

    model = NETS[name]().cuda().train()
    image = torch.randn(1, next(model.parameters()).shape[1], *patch, device="cuda")
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.99, nesterov=True)
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(15):
        torch.cuda.synchronize()
        start = time.time()
        optimiser.zero_grad()
        logits = model(image)
        logits = logits[0] if isinstance(logits, (list, tuple)) else logits
        target = torch.zeros((1, *logits.shape[2:]), dtype=torch.long, device="cuda")
        torch.nn.functional.cross_entropy(logits, target).backward()
        optimiser.step()
        torch.cuda.synchronize()
        seconds.append(time.time() - start)
    return statistics.median(seconds[5:]), torch.cuda.max_memory_allocated() / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("viscera", type=Path)
    parser.add_argument("scan", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", action="append")
    parser.add_argument("--no-peers", action="store_true")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    data = given.work / "data"
    run(given.viscera, "phantom", "--cohort", "mini", "-o", data)

    print("| system | stage | step, s | forward | backward | waiting | memory, MiB | segmenting, s |")
    print("|---|---|---|---|---|---|---|---|")
    for system, recipe in RECIPES.items():
        if given.only and system not in given.only:
            continue
        folder = given.work / f"run-{recipe}-{given.device}"
        with Memory() as memory:
            command = [given.viscera, "train", recipe, "--data", data, "-o", folder, "--device", given.device]
            run(*command, "--iterations", given.steps, *(["--resume"] if folder.exists() else []))
        seconds = run(given.viscera, "segment", given.scan, "--model", folder / "model.safetensors", "-o", folder / "out")
        for stage, part in steps(folder / "log.jsonl").items():
            cells = [f"{sum(part.values()):.2f}", f"{part['forward']:.2f}", f"{part['backward']:.2f}", f"{part['data']:.2f}"]
            print(f"| {system} | {stage} | {' | '.join(cells)} | {memory.peak or '–'} | {seconds:.1f} |", flush=True)

    if given.no_peers:
        return
    print("\n| network | input | step, s | PyTorch | memory, MiB | PyTorch |\n|---|---|---|---|---|---|")
    for name, patch in PEERS.items():
        with Memory() as memory:
            size = ",".join(map(str, patch))
            command = ["bench", "net", name, "--train", "--device", given.device, "--input", size, "--json"]
            done = subprocess.run([given.viscera, *command], capture_output=True, text=True, check=True)
        ours = json.loads(done.stdout)["seconds"]["median"]
        seconds, mib = torch_step(name, patch)
        cells = [name, "×".join(map(str, patch)), f"{ours:.2f}", f"{seconds:.2f}", memory.peak or "–", f"{mib:.0f}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


main()
