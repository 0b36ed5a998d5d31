"""The parts of tools.record: runs in, a folder with a claim out. Everything but the scoring is a pure function."""
