#!/usr/bin/env bash
# Trains the default model again. Two cores need about an hour and a half.
#
#   weights/train.sh DATA WORK
#
# DATA: folder with ct/totalseg_example and ct/totalseg_dicom20 (ct.nii.gz, label_flare14_pseudo.nii.gz), the scans of
# TotalSegmentator's tests (Apache-2.0) with labels that a model made. WORK: an empty folder for data set and run.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,7p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
viscera() { cargo run --release --quiet --manifest-path "$here/../Cargo.toml" -- "$@"; }

viscera phantom -o "$work/data" --cases 160 --seed 7 --config "$here/phantoms.toml"

# The two real scans stand in the set many times, so that about every third sample is real. Which classes they annotate
# stands in annotations.json; what is not annotated is not counted as absent.
annotate() { # NAME COUNT CLASSES CASE
  local i
  for i in $(seq 1 "$2"); do
    local name; name=$(printf '%s_%02d' "$1" "$i")
    ln -sf "$data/ct/$4/ct.nii.gz" "$work/data/imagesTr/${name}_0000.nii.gz"
    ln -sf "$data/ct/$4/label_flare14_pseudo.nii.gz" "$work/data/labelsTr/$name.nii.gz"
    printf '%s"%s": [%s]' "$separator" "$name" "$3"
    separator=$',\n    '
  done
}
separator='
    '
{
  printf '{\n  "default": "all",\n  "cases": {'
  annotate real_a 60 '"liver","kidney_right","spleen","pancreas","aorta","inferior_vena_cava","adrenal_gland_right","adrenal_gland_left","gallbladder","stomach","duodenum","kidney_left"' totalseg_example
  annotate real_b 6 '"liver","spleen","pancreas","aorta","inferior_vena_cava","adrenal_gland_right","stomach"' totalseg_dicom20
  printf '\n  }\n}\n'
} > "$work/data/annotations.json"
# The last ten phantoms validate.
{
  printf '{ "train": [], "validation": ['
  for i in $(seq 150 159); do [ "$i" = 150 ] || printf ', '; printf '"phantom_7_%04d"' "$i"; done
  printf '] }\n'
} > "$work/data/splits.json"

# Both networks, the fine one first on 64³ voxels, where a step takes half the time; then the fine one on its own grid.
viscera recipe show efficientsegnet-small | sed 's/size = \[80, 80, 80\]/size = [64, 64, 64]/' > "$work/first.toml"
viscera train "$work/first.toml" --data "$work/data" -o "$work/first" --cache "$work/cache" --stages coarse --iterations 2600
viscera train "$work/first.toml" --data "$work/data" -o "$work/first" --cache "$work/cache" --stages fine --iterations 3500
mkdir -p "$work/run"
cp "$work/first/coarse.best.safetensors" "$work/first/coarse.last.safetensors" "$work/run/"
viscera train efficientsegnet-small --data "$work/data" -o "$work/run" --cache "$work/cache" --stages fine \
  --init "$work/first/model.safetensors" --iterations 3000
viscera model card "$work/run/model.safetensors" --text "$here/CARD.md" -o "$here/default.safetensors"
