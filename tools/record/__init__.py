"""tools.record: runs in, a folder of evidence out, and the claim and the page that follow from it."""
