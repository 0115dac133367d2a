"""Memory on paper and in fact: the paper's closed forms, a run's measurements beside them, evidence from outside."""
