"""The probes, one file per kind: experiments that a cheating scorer fails."""
