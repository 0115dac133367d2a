"""The two papers: their recipes, memory models and tables, and what it takes to reproduce them."""
