"""Memory on paper and in fact: the paper's closed forms, a run's measurements beside them, and evidence from outside."""
