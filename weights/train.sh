#!/usr/bin/env bash
# Trains the default model again. Two cores need about five hours: its parts' times, added up. It has not been run as a whole.
#
#   weights/train.sh DATA WORK
#
# DATA: folder with the scans that weights/bodies.toml names (ct/totalseg_example, ct/totalseg_dicom20, ct/tcia_acrin_001_b,
# ct/tcia_acrin_013_b, ct/tcia_cmb_crc_01068_a and labels/spl_abdominal). WORK: an empty folder for data set and runs.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,7p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
viscera() { cargo run --release --quiet --manifest-path "$here/../Cargo.toml" -- "$@"; }

# A copy of a case, under another name, that annotates some classes.
copies() { # SET NAME COUNT CLASSES CASE
  local i name
  for i in $(seq 1 "$3"); do
    name=$(printf '%s_%02d' "$2" "$i")
    ln -sf "$data/ct/$5/ct.nii.gz" "$1/imagesTr/${name}_0000.nii.gz"
    [ "$4" = '' ] || ln -sf "$data/ct/$5/label_flare14_pseudo.nii.gz" "$1/labelsTr/$name.nii.gz"
    sed -i "s|\"cases\": {|\"cases\": {\n    \"$name\": [$4],|" "$1/annotations.json"
  done
}
# The last ten phantoms validate.
split() { # SET
  printf '{ "validation": [%s] }\n' "$(seq -s ', ' -f '"phantom_7_0%.0f"' 150 159)" > "$1/splits.json"
}

# 1. Both networks from nothing, on phantoms and one and a half real scans; the fine one first on 64³ voxels, where a step
#    takes half the time.
viscera phantom -o "$work/data" --cases 160 --seed 7 --config "$here/phantoms.toml"
cp -r "$work/data" "$work/first-data"
cp -r "$work/data" "$work/bodies"
printf '{ "default": "all", "cases": {\n    "phantom_7_0000": "all"\n} }\n' > "$work/first-data/annotations.json"
copies "$work/first-data" real_a 60 '"liver","kidney_right","spleen","pancreas","aorta","inferior_vena_cava","adrenal_gland_right","adrenal_gland_left","gallbladder","stomach","duodenum","kidney_left"' totalseg_example
copies "$work/first-data" real_b 6 '"liver","spleen","pancreas","aorta","inferior_vena_cava","adrenal_gland_right","stomach"' totalseg_dicom20
split "$work/first-data"
# The fine network's size and learning rates.
recipe() { # SIZE FINE COARSE
  viscera recipe show efficientsegnet-small |
    sed "s/size = \[96, 96, 96\]/size = [$1, $1, $1]/; s/lr = 4e-3/lr = $2/; s/lr = 5e-3/lr = $3/" > "$work/recipe.toml"
}
fit() { # SET RUN STAGE STEPS [INIT]
  viscera train "$work/recipe.toml" --data "$1" -o "$work/$2" --cache "$work/cache-$2" \
    --stages "$3" --iterations "$4" ${5:+--init "$work/$5/model.safetensors"}
}
recipe 64 4e-3 5e-3
fit "$work/first-data" first coarse 2600
fit "$work/first-data" first fine 3500
recipe 80 4e-3 5e-3
fit "$work/first-data" second fine 2800 first

# 2. Further, on real anatomies in the looks of all contrast phases.
ln -sfn "$data" "$work/scans"
cp "$here/anatomies.toml" "$work/"
viscera phantom -o "$work/data" --anatomies "$work/anatomies.toml" --seed 7
split "$work/data"
recipe 80 2.5e-3 2e-3
fit "$work/data" third fine 2700 second
fit "$work/data" fourth coarse 500 third

# 3. Self-training: a scan that nobody labelled gets its labels from the model, and joins in; on 96³ voxels.
copies "$work/data" unlabelled_a 15 '' tcia_acrin_001_b
viscera pseudo-label --model "$work/fourth/model.safetensors" --data "$work/data" --unlabelled-only -o "$work/labelled"
split "$work/labelled"
recipe 96 1.5e-3 2e-3
fit "$work/labelled/list.toml" fifth fine 1012 fourth

# 4. Further, on bodies in other shapes, two more domes, and labels mended by hand. The shipped weights took the first 2400
#    steps on shapes that varied less, by an earlier version (docs/default-model.md, steps 5 and 8).
ln -sfn "$here/annotations" "$work/annotations"
cp "$here/bodies.toml" "$work/"
viscera phantom -o "$work/bodies" --anatomies "$work/bodies.toml" --seed 7
printf '{ "validation": [%s] }\n' '"phantom_7_0150", "phantom_7_0152", "phantom_7_0154", "phantom_7_0156", "real_a_0078", "real_a_0079", "body_c_0058", "body_c_0059", "atlas_0048", "atlas_0049", "dome_d_0013"' > "$work/bodies/splits.json"
recipe 96 2e-3 2e-3
fit "$work/bodies" sixth fine 2400 fifth
fit "$work/bodies" seventh fine 2000 sixth
fit "$work/bodies" run coarse 400 seventh

viscera model edit "$work/run/model.safetensors" --card "$here/CARD.md" --recipe efficientsegnet-small -o "$here/default.safetensors"
