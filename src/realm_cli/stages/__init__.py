"""The five stages: (Recipe, Stage folder, rows, engines) -> Summary. Torch-free; engines are passed in."""
