"""Modules -> the single file of a submission: rules, tree, sections, and the packed form. `tools.bundle` is its command."""
