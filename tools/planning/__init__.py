"""The parts of tools.plan: devices, and the arithmetic of a run on them."""
