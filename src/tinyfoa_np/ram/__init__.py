"""RAM as one block of bytes: where each region lies, who has it, which bytes are really written."""
