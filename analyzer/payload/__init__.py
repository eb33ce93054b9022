"""What the kept bytes of a payload say: pure parsers of hostile input, one protocol a file. Nothing here knows of captures."""
