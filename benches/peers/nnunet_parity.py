"""Holds networks that nnunetv2 itself trained against their import into viscera, on scans.

    python nnunet_parity.py VISCERA WORK SCAN...

For example `python nnunet_parity.py target/release/viscera work liver01.nii.gz ct/ct.nii.gz`. VISCERA is the program, WORK
a folder for all that is made, and what is there is not made again; scans are .nii.gz. The Python is one with nnunetv2. A
scan that is called ct.nii.gz is named after its folder.

Phantoms are the training data. nnunetv2 takes their fingerprint, plans (a plain and a residual network), preprocesses and
trains. Only the plans are made small, so that a processor trains them in minutes, and the validation after the training is
left out. Then both programs segment each scan, with and without mirroring, and the label maps are compared.

nnU-Net adds patches up, and enlarges the logits, in half precision. `--single` adds a table against nnU-Net with both in
single precision, which shows what of the differences is due to that.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np

DATA, NUMBER, CONFIGURATION = "Dataset901_Phantoms", "901", "3d_fullres"
PLANNERS = {"ExperimentPlanner": "nnUNetPlans", "nnUNetPlannerResEncM": "nnUNetResEncUNetMPlans"}
NAMES = {"nnUNetPlans": "plain", "nnUNetResEncUNetMPlans": "residual"}
PATCH, WIDTHS = [32, 48, 48], [8, 16, 32, 32]
# Large organs, which a short training finds; the others become background.
CLASSES = ["liver", "spleen", "kidney_right", "kidney_left", "stomach", "aorta"]
PHANTOMS = 'square = false\norientation = "LPS"\nfield_of_view = "abdomen"\n'
# nnU-Net's own entry points: with a short training, every patch of it around an organ, and with sums in single precision.
TRAIN = """
import os
from nnunetv2.run.run_training import run_training_entry
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
nnUNetTrainer.perform_actual_validation = lambda *_, **__: None
start = nnUNetTrainer.on_train_start
def shorter(self):
    self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = int(os.environ["EPOCHS"]), 50, 5
    self.oversample_foreground_percent = 1
    start(self)
nnUNetTrainer.on_train_start = shorter
run_training_entry()
"""
SINGLE = """
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor, predict_entry_point_modelfolder
torch.half = torch.float32
def one_after_another(self, source, out, save_probabilities, overwrite, **_):
    self.predict_from_files_sequential(source, out, save_probabilities, overwrite)
nnUNetPredictor.predict_from_files = one_after_another
predict_entry_point_modelfolder()
"""


def run(command, log, env=None):
    """Runs the command, with what it says in a file; seconds."""
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with open(log, "a") as out:
        done = subprocess.run([str(c) for c in command], env=env, stdout=out, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{command[0]} failed: see {log}")
    return time.monotonic() - start


def tool(name):
    return Path(sys.executable).parent / f"nnUNetv2_{name}"


def tell(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def phantoms(args):
    raw = args.work / "raw" / DATA
    if not (raw / "done").exists():
        tell("phantoms")
        config = args.work / "phantoms.toml"
        config.write_text(PHANTOMS)
        options = ["--cases", args.cases, "--spacing", "3,3,3", "--config", config]
        run([args.viscera, "phantom", "-o", raw, *options], args.work / "logs" / "phantom.log")
        keep(raw)
        (raw / "done").touch()


def keep(raw):
    """Leaves CLASSES alone in the data set."""
    about = json.loads((raw / "dataset.json").read_text())
    table = np.zeros(256, np.uint8)
    table[[about["labels"][name] for name in CLASSES]] = range(1, len(CLASSES) + 1)
    for path in (raw / "labelsTr").iterdir():
        image = nibabel.load(path)
        labels = table[np.asarray(image.dataobj).astype(np.uint8)]
        nibabel.save(nibabel.Nifti1Image(labels, image.affine), path)
    about["labels"] = {"background": 0} | {name: k for k, name in enumerate(CLASSES, 1)}
    (raw / "dataset.json").write_text(json.dumps(about, indent=2))


def small(plans):
    """Cuts the plans' network to so many stages as WIDTHS has, and all lists with it."""
    content = json.loads(plans.read_text())
    configuration = content["configurations"][CONFIGURATION]
    configuration |= {"patch_size": PATCH, "batch_size": 2}
    network = configuration["architecture"]["arch_kwargs"]
    stages, wanted = network["n_stages"], len(WIDTHS)
    for key, value in network.items():
        if isinstance(value, list) and len(value) in (stages, stages - 1):
            network[key] = value[: wanted - (stages - len(value))]
    network |= {"n_stages": wanted, "features_per_stage": WIDTHS}
    strides = np.prod(network["strides"], axis=0)
    assert not (PATCH % strides).any(), f"patch {PATCH}, strides {strides}"
    plans.write_text(json.dumps(content, indent=2))


def plan(args, env):
    folder, logs = args.work / "preprocessed" / DATA, args.work / "logs"
    if not (folder / "dataset_fingerprint.json").exists():
        tell("fingerprint")
        run([tool("extract_fingerprint"), "-d", NUMBER, "-np", 1], logs / "fingerprint.log", env)
    for planner, plans in PLANNERS.items():
        if not (folder / f"{plans}.small").exists():
            tell(f"plan {plans}")
            run([tool("plan_experiment"), "-d", NUMBER, "-pl", planner], logs / "plan.log", env)
            small(folder / f"{plans}.json")
            (folder / f"{plans}.small").touch()
    # Both plans name the same preprocessed data.
    if not (folder / "preprocessed").exists():
        tell("preprocess")
        options = ["-d", NUMBER, "-plans_name", "nnUNetPlans", "-c", CONFIGURATION, "-np", 1]
        run([tool("preprocess"), *options], logs / "preprocess.log", env)
        (folder / "preprocessed").touch()


def train(args, env, plans):
    """The folder of the trained network, and its import."""
    result = args.work / "results" / DATA / f"{args.trainer}__{plans}__{CONFIGURATION}"
    if not (result / "fold_all" / "checkpoint_final.pth").exists():
        tell(f"train {plans}")
        options = [NUMBER, CONFIGURATION, "all", "-device", "cpu", "-tr", args.trainer, "-p", plans]
        seconds = run([sys.executable, "-c", TRAIN, *options], args.work / "logs" / f"train-{plans}.log", env)
        tell(f"trained in {seconds:.0f} s")
    model = args.work / f"{args.trainer}-{plans}.safetensors"
    if not model.exists():
        run([args.viscera, "model", "import", result, "-o", model], args.work / "logs" / "import.log")
    return result, model


def segment(args, env, plans, scan, mirror):
    """The scan's name, and label maps of all that segment it, each with its seconds."""
    result, model = train(args, env, plans)
    name = scan.parent.name if scan.name == "ct.nii.gz" else scan.name.removesuffix(".nii.gz")
    link = args.work / "scans" / name / f"{name}_0000.nii.gz"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(scan.resolve())
    out = args.work / "out" / f"{args.trainer}-{plans}" / name / ("mirror" if mirror else "none")
    predict = ["-i", link.parent, "-m", result, "-f", "all", "-device", "cpu", "-npp", 1, "-nps", 1, "-step_size", 0.5]
    predict += [] if mirror else ["--disable_tta"]
    options = ["--model", model, "--tta", "mirror" if mirror else "none", "--step-size", 0.5, "--precision", "f32"]
    commands = {
        "nnunet": [tool("predict_from_modelfolder"), *predict, "-o"],
        "viscera": [args.viscera, "segment", link, *options, "-o"],
    }
    if args.single:
        commands["single"] = [sys.executable, "-c", SINGLE, *predict, "-o"]
    found = {}
    for who, command in commands.items():
        seconds = out / f"{who}.seconds"
        if not seconds.exists():
            tell(f"{NAMES[plans]}, {name}, {'mirroring' if mirror else 'no mirroring'}: {who}")
            spent = run([*command, out / who], out / f"{who}.log", env if who != "viscera" else None)
            seconds.write_text(f"{spent:.1f}")
        labels = nibabel.load(out / who / f"{name}.nii.gz")
        found[who] = np.asarray(labels.dataobj).astype(np.uint8), float(seconds.read_text())
    return name, found


def compare(ours, theirs):
    """Dice of each class that either has, and how many voxels differ."""
    assert ours.shape == theirs.shape, f"{ours.shape}, {theirs.shape}"
    mine, yours, same = (np.bincount(x.ravel(), minlength=256) for x in (ours, theirs, ours[ours == theirs]))
    sizes = mine + yours
    return {c: 2 * same[c] / sizes[c] for c in range(1, 256) if sizes[c]}, int((ours != theirs).sum())


def row(classes, names, truth, ours, head, seconds):
    """A row of the table; what it is made of goes to the list of classes."""
    dice, wrong = compare(ours, truth)
    least = min(dice, key=dice.get, default=None)
    worst = "–" if least is None else f"{dice[least]:.5f} ({names[least]}, {int((truth == least).sum())} voxels)"
    share = f"{wrong} of {ours.size} ({100 * wrong / ours.size:.4f} %)"
    details = {names[c]: [round(d, 6), int((truth == c).sum()), int((ours == c).sum())] for c, d in dice.items()}
    classes.append({"head": head, "wrong": wrong, "voxels": ours.size, "dice": details})
    return " | ".join(["", *head, str(len(dice)), worst, share, *(f"{s:.0f}" for s in seconds), ""]).strip()


def table(titles, rows):
    return "\n".join([f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("viscera", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--trainer", default="nnUNetTrainerAdam1en3", help="default %(default)s")
    parser.add_argument("--epochs", default="5", help="of 50 iterations; default %(default)s")
    parser.add_argument("--single", action="store_true", help="against nnU-Net in single precision too")
    parser.add_argument("--cases", type=int, default=10, help="phantoms; default %(default)s")
    args = parser.parse_args()
    args.viscera, args.work = args.viscera.resolve(), args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    folders = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}
    env = os.environ | {key: str(args.work / value) for key, value in folders.items()}
    env |= {"nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": "1", "EPOCHS": args.epochs}
    # nnunetv2 takes all cores. Its threads must not spin while they wait for one that got no core.
    env |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    phantoms(args)
    plan(args, env)
    meta = json.loads((args.work / "raw" / DATA / "dataset.json").read_text())
    names = {number: name for name, number in meta["labels"].items()}
    half, single, details = [], [], {"half": [], "single": []}
    for plans in PLANNERS.values():
        for scan in args.scans:
            for mirror in (False, True):
                case, found = segment(args, env, plans, scan, mirror)
                head = [NAMES[plans], case, "yes" if mirror else "no"]
                (theirs, slow), (ours, fast) = found["nnunet"], found["viscera"]
                half.append(row(details["half"], names, theirs, ours, head, [slow, fast]))
                if args.single:
                    single.append(row(details["single"], names, found["single"][0], ours, head, []))
    columns = ["network", "scan", "mirroring", "classes present", "least Dice", "voxels that differ"]
    print("Times were taken on a busy machine and are no measure of speed.\n")
    print(table(columns + ["seconds nnU-Net", "seconds viscera"], half))
    if args.single:
        print("\nAgainst nnU-Net in single precision:\n")
        print(table(columns, single))
    (args.work / "classes.json").write_text(json.dumps(details, indent=1))


if __name__ == "__main__":
    main()
