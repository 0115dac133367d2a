"""The two papers: their recipes, memory models and tables, and their reproduction."""
