"""tools.verify: read a record, compute its claim again, measure its artifacts. Nothing in the folder is believed."""
