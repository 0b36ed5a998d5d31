"""Modules -> the single file of a submission: rules, tree, sections, the packed form. Its command is tools.bundle."""
