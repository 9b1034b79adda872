"""Times and memory of the five systems at the widths of their papers, on one scan; prints a table in Markdown.

python benches/systems.py VISCERA SCAN WORK [--precision P]... [--runs N] [--only NAME]...

WORK keeps a model per recipe, with weights from a seed: enough for timing. Their first stages find nonsense, usually
something all over the scan, so the later stages see all of it: more than of a real patient, never less.
"""

import argparse
import json
import subprocess
from pathlib import Path

from recipes import RECIPES

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("viscera")
parser.add_argument("scan")
parser.add_argument("work", type=Path)
parser.add_argument("--precision", action="append")
parser.add_argument("--runs", default="1")
parser.add_argument("--only", action="append")
given = parser.parse_args()
given.work.mkdir(parents=True, exist_ok=True)

print("| system | precision | seconds | peak memory, MiB | shares |")
print("|---|---|---|---|---|")
for system, recipe in RECIPES.items():
    if given.only and system not in given.only:
        continue
    model = given.work / f"{recipe}.safetensors"
    if not model.exists():
        subprocess.run([given.viscera, "model", "init", recipe, "-o", model], check=True, stdout=subprocess.DEVNULL)
    for precision in given.precision or ["f32"]:
        out = given.work / f"{recipe}-{precision}"
        command = [given.viscera, "--json", "bench", "segment", given.scan, "-o", out, "--model", model]
        command += ["--runs", given.runs, "--", "--precision", precision]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        (measured,) = json.loads(done.stdout)
        (manifest,) = [p for p in out.glob("*.json") if not p.name.endswith(".bench.json")]
        steps = {}
        for step in json.loads(manifest.read_text())["timings"]:
            name = step["step"].split(".")[0]
            steps[name] = steps.get(name, 0.0) + step["seconds"]
        total = sum(steps.values())
        shares = ", ".join(f"{name} {round(100 * s / total)} %" for name, s in steps.items() if s > 0.01 * total)
        print(f"| {system} | {precision} | {measured['wall_s']['median']:.1f} | {measured['peak_rss_mib']['median']:.0f} | {shares} |", flush=True)
