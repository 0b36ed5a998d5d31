"""The probes, one file per kind: experiments that a scorer which cheats does not pass."""
