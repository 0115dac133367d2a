"""RAM as a single block of bytes: layout of regions, ownership, and detection of the bytes really written."""
