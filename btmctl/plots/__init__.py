"""Pictures of a training's course: in the terminal, as SVG and as PNG."""
