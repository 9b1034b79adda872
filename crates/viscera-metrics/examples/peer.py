"""Times surface-distance 0.1 and the example time_scores on the same two label maps, and compares their values.

Usage: python peer.py TIME_SCORES REFERENCE.nii.gz PREDICTION.nii.gz   (needs numpy, scipy, nibabel, surface-distance)
       python peer.py --perturb shift|dilate|erode|noise REFERENCE.nii.gz OUT.nii.gz   makes a prediction to compare
       python peer.py --perturb complete LABELS.nii.gz OUT.nii.gz   adds balls for FLARE's organs that are missing
"""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

np.Inf, np.NaN = np.inf, np.nan  # the package names them so, NumPy 2 does not
import surface_distance as sd  # noqa: E402

TOLERANCE = dict(enumerate([5, 3, 3, 5, 2, 2, 2, 2, 2, 3, 5, 7, 3, 2], start=1))


def perturb(how, path, out):
    image = nibabel.load(path)
    labels = np.asarray(image.dataobj).astype(np.uint8)
    if how == "shift":
        labels = np.roll(labels, (4, -3, 1), (0, 1, 2))
    elif how == "dilate":
        labels = ndimage.grey_dilation(labels, size=(5, 5, 3))
    elif how == "erode":
        core = np.zeros_like(labels)
        for label in np.unique(labels[labels > 0]):
            core[ndimage.binary_erosion(labels == label, iterations=2)] = label
        labels = core
    elif how == "complete":
        rng = np.random.default_rng(2)
        zooms = image.header.get_zooms()
        for label in sorted(set(range(1, 14)) - set(np.unique(labels))):
            centre = [rng.uniform(0.25, 0.75) * n for n in labels.shape]
            grid = np.ogrid[tuple(slice(n) for n in labels.shape)]
            ball = sum(((g - c) * mm) ** 2 for g, c, mm in zip(grid, centre, zooms)) < rng.uniform(15, 40) ** 2
            labels[ball & (labels == 0)] = label
    else:  # ragged borders, and islands far from every organ
        rng = np.random.default_rng(1)
        step = ndimage.gaussian_filter(rng.normal(size=labels.shape), (2, 2, 1)) > 0.05
        labels = np.where(step, np.roll(labels, (5, 4, 0), (0, 1, 2)), labels)
        for label in range(1, 15):
            z, y, x = (int(rng.integers(5, n - 5)) for n in labels.shape)
            labels[z : z + 3, y : y + 3, x : x + 2] = label
    nibabel.save(nibabel.Nifti1Image(labels, image.affine, image.header), out)


def measure(ref, pred, spacing, label):
    r, p = ref == label, pred == label
    tp, n_ref, n_pred = int((r & p).sum()), int(r.sum()), int(p.sum())
    voxel_ml = float(np.prod(spacing)) / 1000
    found = sd.compute_surface_distances(r, p, spacing)
    average = sd.compute_average_surface_distance(found)
    areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    return {
        "Dice": sd.compute_dice_coefficient(r, p),
        "IoU": tp / (n_ref + n_pred - tp),
        "sensitivity": tp / n_ref,
        "precision": tp / n_pred if n_pred else None,
        "volume_ref_ml": n_ref * voxel_ml,
        "volume_pred_ml": n_pred * voxel_ml,
        "RVE": (n_pred - n_ref) / n_ref,
        "NSD": sd.compute_surface_dice_at_tolerance(found, TOLERANCE[label]),
        "HD": sd.compute_robust_hausdorff(found, 100),
        "HD95": sd.compute_robust_hausdorff(found, 95),
        "ASD_ref_to_pred": average[0],
        "ASD_pred_to_ref": average[1],
        "ASSD": (average[0] * areas[0] + average[1] * areas[1]) / sum(areas),
    }


def main():
    program, ref_path, pred_path = sys.argv[1:]
    ours = json.loads(subprocess.run([program, ref_path, pred_path], check=True, capture_output=True).stdout)
    image = nibabel.load(ref_path)
    spacing = [float(s) for s in image.header.get_zooms()]
    ref = np.asarray(image.dataobj).astype(np.uint8)
    pred = np.asarray(nibabel.load(pred_path).dataobj).astype(np.uint8)
    labels = [label for label in range(1, 15) if (ref == label).any()]
    start = time.perf_counter()
    theirs = {label: measure(ref, pred, spacing, label) for label in labels}
    peer = time.perf_counter() - start
    again = json.loads(subprocess.run([program, ref_path, pred_path], check=True, capture_output=True).stdout)
    seconds = ours["seconds"] + again["seconds"]
    print(f"shape {ours['shape']}, {len(labels)} classes, {ours['bytes_per_voxel']:.2f} bytes per voxel above the inputs")
    print(f"ours {min(seconds):.3f} to {max(seconds):.3f} s, median {np.median(seconds):.3f} s; Python {peer:.2f} s: "
          f"{peer / np.median(seconds):.1f} times")
    rules = Path(__file__).parents[3] / "fixtures/metrics-flare/generate.py"
    spec = importlib.util.spec_from_file_location("flare", rules)
    flare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flare)
    for label in labels:
        scores = flare.score("flare23", ref, pred, label, image.header.get_zooms(), False)
        theirs[label] |= dict(zip(("FLARE_DSC", "FLARE_NSD"), scores))
    largest = {}
    for label in labels:
        for key, value in theirs[label].items():
            found = ours["metrics"][str(label)][key]
            if found is not None and value is not None:
                largest[key] = max(largest.get(key, 0.0), abs(found - value))
    for key, value in largest.items():
        print(f"{key:16} {value:.2e}")


if __name__ == "__main__":
    if sys.argv[1] == "--perturb":
        perturb(*sys.argv[2:])
    else:
        main()
