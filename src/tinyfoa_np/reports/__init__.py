"""Memory in theory and practice: the paper's closed forms, a run's measurements, and external evidence."""
