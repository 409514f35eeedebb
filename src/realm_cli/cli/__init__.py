"""The Typer app. Command modules import only typer and options at module level; heavy imports live in bodies."""
