"""The recipes of the five systems."""

RECIPES = {
    "A": "flare22-coarse-to-fine",
    "B": "flare23-two-step",
    "C": "flare22-attention-dmfnet",
    "D": "flare21-efficientsegnet",
    "E": "flare23-stmt",
}
