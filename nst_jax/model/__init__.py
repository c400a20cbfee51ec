"""Arrays in, arrays out: no I/O, no logging, no globals; everything jits, vmaps and shards."""
