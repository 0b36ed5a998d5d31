"""Everything around a run. Imports anything; imported by nobody."""
