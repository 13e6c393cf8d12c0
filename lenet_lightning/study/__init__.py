"""Studies: many runs of named settings and seeds, and the report that compares them."""
